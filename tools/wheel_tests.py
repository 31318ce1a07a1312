"""The tests of csrc/tests, linked with the very objects that tools/wheels.py put into a wheel, run where that can be done.

A platform is run natively, by qemu-user (aarch64) or by Wine (Windows). What cannot be run here is said, not passed over.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

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


def _programs(target: Target) -> dict[str, tuple[str, list[str], bool]]:
    """Name of each test -> its source, its flags, whether it is linked with the core."""
    names = sorted(path.stem for path in (ROOT / "csrc" / "tests").glob("test_*.c"))
    found = {name: (name, list[str](), True) for name in names if name not in {"test_vmath", "test_alloc"}}
    if not target.windows and not target.macos:
        found["test_alloc"] = ("test_alloc", [f"-Wl,--wrap={name}" for name in WRAPPED], True)
    return found


def _vmath(setup: dict[str, object], target: Target) -> dict[str, tuple[str, list[str], bool]]:
    """The elementary functions, once for each instruction set."""
    flags = setup["INSTANCE_FLAGS"]
    assert isinstance(flags, dict)
    isas = [isa for isa in VECTORS if target.x86 or isa in {"plain", "baseline"}]
    return {f"test_vmath.{isa}": ("test_vmath", [*flags[isa], f"-DPN_VBYTES={VECTORS[isa]}"], False) for isa in isas}


def run_c_tests(
    command: list[str], environment: dict[str, str], target: Target, folder: Path, setup: dict[str, object]
) -> None:
    """Build and run them; a failure ends the whole. `command` is the compiler's, `folder` has the objects."""
    run = runner(target)
    if run is None:
        print(f"C tests of {target.tag}: left out, nothing here runs its programs (qemu-user for aarch64, Wine for Windows)")
        return
    objects = [str(path) for path in sorted(folder.glob("csrc_*.o")) if not path.name.startswith("csrc_python_")]
    common = ["-std=c11", "-O2", "-g0", "-fno-math-errno", "-ffp-contract=fast", "-pthread"]
    static = ["-static"] if "musl" in target.zig else []
    quiet = environment | {"WINEDEBUG": "-all"}
    programs = _programs(target) | _vmath(setup, target) | {"has_isa": ("has_isa", [], False)}
    built = {}
    for name, (source, flags, core) in programs.items():
        output = folder / (name + (".exe" if target.windows else ""))
        linked = objects if core else []
        paths = [f"-I{ROOT / 'csrc'}", str(ROOT / "csrc" / "tests" / f"{source}.c")]
        subprocess.run(
            [*command, *common, *static, *flags, *paths, *linked, "-lm", "-o", str(output)], check=True, env=environment
        )
        built[name] = str(output)
    has_isa = built.pop("has_isa")
    failed = []
    for name, program in built.items():
        isa = name.partition(".")[2]
        if isa and subprocess.run([*run, has_isa, isa], env=quiet, capture_output=True).returncode:
            print(f"-- {name}: left out, no such instructions here")
            continue
        print(f"-- {name}", flush=True)
        if subprocess.run([*run, program, "--quick"], env=quiet).returncode:
            failed.append(name)
    if failed:
        raise SystemExit(f"C tests of {target.tag} failed: {', '.join(failed)}")
    print(f"C tests of {target.tag}: all {len(built)} passed{' by ' + Path(run[0]).name if run else ''}")
