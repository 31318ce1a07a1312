/* A loop as on an Arduino: each minute it asks the exported block what the next minute will bring with the heater on and off, and
   takes what ends nearer to 45 degrees. The block itself is simulated here; read_sensor and set_heater would be the board's. */
#include <stdio.h>

#include "block.h"

static block_real temperature = 20, heater = 0;

static block_real read_sensor(void) { return temperature; }
static void set_heater(block_real on) { heater = on; }

/* the temperature a minute from now, the heater held */
static block_real ahead(block_real now, block_real on)
{
    block_real y[BLOCK_STATES];
    y[0] = now;
    return block_step(0, 1, y, &on) == BLOCK_OK ? y[0] : now;
}

void setup(void) { set_heater(0); }

void loop(void)
{
    const block_real goal = 45;
    block_real now = read_sensor(), on = ahead(now, 1) - goal, off = ahead(now, 0) - goal;
    set_heater(on * on < off * off ? (block_real)1 : (block_real)0);
    printf("%.2f %d\n", (double)now, heater > 0);
}

int main(void)
{
    setup();
    for (int minute = 0; minute < 60; minute++) {
        loop();
        temperature = ahead(temperature, heater);
    }
    return 0;
}
