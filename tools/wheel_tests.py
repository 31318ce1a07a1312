"""The tests of csrc/tests, linked with the very objects that tools/wheels.py put into a wheel, run where that can be done.

A platform is run natively, by qemu-user (aarch64) or by Wine (Windows). What cannot be run here is said, not passed over.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wheel_targets import Target

ROOT = Path(__file__).resolve().parents[1]
VECTORS = {"plain": 8, "baseline": 16, "avx2": 32, "avx512": 64}
"""Bytes of a vector of each instruction set, as csrc/tests/Makefile has them."""
WRAPPED = ("malloc", "calloc", "realloc", "aligned_alloc", "free")
"""What test_alloc replaces."""


def runner(target: Target) -> list[str] | None:
    """What runs a program of the platform here; None: nothing does."""
    if target.windows:
        wine = shutil.which("wine64") or shutil.which("wine") or next(iter(Path("/usr/lib/wine").glob("wine64")), None)
        return [str(wine)] if wine else None
    if target.macos or os.uname().sysname != "Linux":
        return None
    if target.x86:
        return [] if os.uname().machine == "x86_64" else None
    if os.uname().machine == "aarch64":
        return []
    qemu = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    libraries = Path("/usr/aarch64-linux-gnu")
    if qemu is None or ("gnu" in target.zig and not libraries.exists()):
        return None
    return [qemu, "-L", str(libraries)] if "gnu" in target.zig else [qemu]


@dataclass(frozen=True)
class Program:
    """A test program: its source, flags of the compiler, flags of the linker, whether it is linked with the core."""

    source: str
    compile: tuple[str, ...] = ()
    link: tuple[str, ...] = ()
    core: bool = True


def programs(target: Target, setup: dict[str, Any]) -> dict[str, Program]:
    """All of them; `setup` has the flags of instruction sets."""
    names = sorted(path.stem for path in (ROOT / "csrc" / "tests").glob("test_*.c"))
    found = {name: Program(name) for name in names if name not in {"test_vmath", "test_alloc"}}
    if not target.windows and not target.macos:
        found["test_alloc"] = Program("test_alloc", link=tuple(f"-Wl,--wrap={name}" for name in WRAPPED))
    for isa in VECTORS:
        if target.x86 or isa not in setup["X86_ISAS"]:
            flags = (*setup["INSTANCE_FLAGS"][isa], f"-DPN_VBYTES={VECTORS[isa]}")
            found[f"test_vmath.{isa}"] = Program("test_vmath", compile=flags, core=False)
    return found


def build(command: list[str], environment: dict[str, str], target: Target, folder: Path, name: str, program: Program) -> str:
    """Compile and link one. The linker is not given the compiler's flags: zig would build its C library for them."""
    common = ["-std=c11", "-O1", "-g0", "-fno-math-errno", "-ffp-contract=fast", "-pthread", f"-I{ROOT / 'csrc'}"]
    source, compiled = ROOT / "csrc" / "tests" / f"{program.source}.c", folder / f"{name}.o"
    compiling = [*command, *common, *program.compile, "-c", str(source), "-o", str(compiled)]
    subprocess.run(compiling, check=True, env=environment)
    core = [path for path in sorted(folder.glob("csrc_*.o")) if not path.name.startswith("csrc_python_")]
    linked = [str(compiled), *map(str, core if program.core else [])]
    output = folder / (name + (".exe" if target.windows else ""))
    static = ["-static"] if "musl" in target.zig else []
    linking = [*command, "-O3", "-pthread", *static, *program.link, *linked, "-lm", "-o", str(output)]
    subprocess.run(linking, check=True, env=environment)
    return str(output)


def run_c_tests(
    command: list[str], environment: dict[str, str], target: Target, folder: Path, setup: dict[str, Any]
) -> None:
    """Build and run them; a failure ends the whole. `command` is the compiler's, `folder` has the objects."""
    run = runner(target)
    if run is None:
        print(f"C tests of {target.tag}: left out, nothing here runs its programs (qemu-user for aarch64, Wine for Windows)")
        return
    quiet = environment | {"WINEDEBUG": "-all"}
    has_isa = build(command, environment, target, folder, "has_isa", Program("has_isa", core=False))
    failed, passed = [], 0
    for name, program in programs(target, setup).items():
        isa = name.partition(".")[2]
        if isa and subprocess.run([*run, has_isa, isa], env=quiet, capture_output=True).returncode:
            print(f"-- {name}: left out, no such instructions here")
            continue
        print(f"-- {name}", flush=True)
        path = build(command, environment, target, folder, name, program)
        good = subprocess.run([*run, path, "--quick"], env=quiet).returncode == 0
        passed += good
        failed += [] if good else [name]
    if failed:
        raise SystemExit(f"C tests of {target.tag} failed: {', '.join(failed)}")
    print(f"C tests of {target.tag}: all {passed} passed{' by ' + Path(run[0]).name if run else ''}")
