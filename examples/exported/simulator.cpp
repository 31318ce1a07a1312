// A simulator that uses the exported block: the heater is on for 8 of 20 minutes.
//     cc -c block.c && c++ simulator.cpp block.o -lm -o simulator && ./simulator > block.csv
#include <array>
#include <cstdio>
#include <vector>

#include "block.h"

int main()
{
    std::vector<block_real> knots, heater, times;
    for (int i = 0; i <= 6; i++) {
        knots.push_back(block_real(20 * (i / 2) + 8 * (i % 2)));
        heater.push_back(block_real(1 - i % 2));
    }
    for (int i = 0; i <= 60; i++) times.push_back(block_real(i));

    const block_signal signal = {long(knots.size()), knots.data(), heater.data()};

    const std::array<block_real, BLOCK_STATES> start = {20};
    std::vector<block_real> temperature(times.size() * BLOCK_STATES);
    block_options options;
    block_defaults(&options);
    const block_status status =
        block_solve(start.data(), times.data(), long(times.size()), &signal, &options, temperature.data(), nullptr);
    if (status != BLOCK_OK) {
        std::fprintf(stderr, "the solve ended with status %d\n", int(status));
        return 1;
    }
    std::puts("minute,temperature");
    for (std::size_t i = 0; i < times.size(); i++) std::printf("%g,%g\n", double(times[i]), double(temperature[i]));
}
