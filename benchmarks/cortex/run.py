"""Exported equations on a microcontroller: size, memory, instructions, and the distance from the library's solution.

    python benchmarks/cortex/run.py

Needs arm-none-eabi-gcc with newlib and qemu-system-arm (Debian: gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm).
A Cortex-M4 with single-precision floating point is emulated; instructions are counted, cycles are not.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import pynode as pn

HERE = Path(__file__).resolve().parent
COMPILE = ["arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard", "-Os"]
COMPILE += ["-ffunction-sections", "-fdata-sections", "-Wall", "-Wextra", "-Werror"]
LINK = ["--specs=rdimon.specs", "-nostartfiles", f"-T{HERE / 'link.ld'}", "-Wl,--gc-sections,--no-warn-rwx-segments"]
RUN = ["qemu-system-arm", "-M", "mps2-an386", "-nographic", "-semihosting", "-icount", "shift=0", "-kernel"]

MAIN = """\
#include <stdio.h>
#include <stdint.h>
#include "it.h"
void clock_start(void);
uint32_t clock_instructions(void);
void stack_paint(void);
uint32_t stack_used(void);
int main(void)
{{
    static const it_real y0[IT_STATES] = {{{y0}}}, t[2] = {{0, {end}}};
    static it_real y[2 * IT_STATES], dy[IT_STATES];
    it_options options;
    uint32_t solve, step, rate;
    int status;
    it_defaults(&options);
    stack_paint();
    clock_start();
    for (int i = 0; i < 100; i++) it_field((it_real)i, y0, dy);
    rate = clock_instructions() / 100;
    options.step = (it_real){step};
    clock_start();
    status = (int)it_solve(y0, t, 2, &options, y, NULL);
    step = clock_instructions() / {steps};
    clock_start();
    options.step = 0;
    status |= (int)it_solve(y0, t, 2, &options, y, NULL);
    solve = clock_instructions();
    printf("%d %lu %lu ", status, (unsigned long)rate, (unsigned long)step);
    printf("%lu %lu", (unsigned long)solve, (unsigned long)stack_used());
    for (int i = 0; i < IT_STATES; i++) printf(" %.9g", (double)y[IT_STATES + i]);
    printf("\\n");
    return 0;
}}
"""


def van_der_pol(t, y, th):
    return [y[1], th.mu * (1 - y[0] ** 2) * y[1] - y[0]]


CASES = {
    "van der Pol, an equation": (pn.field(state=2, theta={"mu": 1.0})(van_der_pol), [1.0, 0.5], 5.0),
    "network 2-16-16-2": (pn.mlp(2, (16, 16)), [0.5, -0.3], 5.0),
    "network 4-32-32-4": (pn.mlp(4, (32, 32)), [0.5, -0.3, 0.1, 0.2], 5.0),
}
STEPS = 100
METHODS = ("bosh3", "dopri5", "rodas5p")


def measured(field, y0, end, method, folder):
    """(bytes of code and constants, stack, instructions of f, of a step, of an adaptive solve, error)."""
    theta = field.init(0)
    pn.export.c(field, theta, folder / "it.c", method=method, precision="float", rtol=1e-4, atol=1e-6)
    text = MAIN.format(y0=", ".join(f"{v}f" for v in y0), end=end, step=f"{end / STEPS!r}", steps=STEPS)
    (folder / "main.c").write_text(text)
    subprocess.run([*COMPILE, "-c", "it.c"], cwd=folder, check=True)
    size = subprocess.run(["arm-none-eabi-size", "it.o"], cwd=folder, check=True, capture_output=True, text=True)
    code = int(size.stdout.split("\n")[1].split()[0])
    files = ["it.c", "main.c", str(HERE / "start.c")]
    subprocess.run([*COMPILE, *files, *LINK, "-lm", "-o", "it.elf"], cwd=folder, check=True)
    done = subprocess.run([*RUN, "it.elf"], cwd=folder, check=True, capture_output=True, text=True, timeout=120)
    status, rate, step, solve, stack, *y = done.stdout.split()
    if int(status):
        raise RuntimeError(f"the solve ended with status {status}")
    exact = pn.solve(field, y0, [0.0, end], theta, rtol=1e-12, atol=1e-12).y[-1]
    return code, int(stack), int(rate), int(step), int(solve), np.abs(np.array(y, float) - exact).max()


def main():
    if missing := [name for name in (COMPILE[0], RUN[0]) if not shutil.which(name)]:
        sys.exit(f"not installed: {', '.join(missing)}; see the head of this file")
    print("|  | method | flash, bytes | stack, bytes | f | a step | solve over 5 | error |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, (field, y0, end) in CASES.items():
        for method in METHODS:
            with tempfile.TemporaryDirectory() as folder:
                code, stack, rate, step, solve, error = measured(field, y0, end, method, Path(folder))
            print(f"| {name} | {method} | {code} | {stack} | {rate} | {step} | {solve} | {error:.1g} |")


if __name__ == "__main__":
    main()
