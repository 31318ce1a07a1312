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

    std::vector<block_real> coefficients(knots.size() - 1);
    block_previous(knots.size(), heater.data(), coefficients.data());
    const block_signal signal = {knots.size(), 0, knots.data(), coefficients.data()};

    const std::array<block_real, BLOCK_STATES> start = {20};
    std::vector<block_real> temperature(times.size() * BLOCK_STATES);
    const block_status status =
        block_solve(start.data(), times.size(), times.data(), nullptr, &signal, nullptr, temperature.data());
    if (status != BLOCK_OK) {
        std::fprintf(stderr, "the solve ended with status %d\n", int(status));
        return 1;
    }
    std::puts("minute,temperature");
    for (std::size_t i = 0; i < times.size(); i++) std::printf("%g,%g\n", double(times[i]), double(temperature[i]));
}
