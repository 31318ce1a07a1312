"""Builds wheels for every platform on one machine: python tools/wheels.py [platforms] [--out dist]

    python tools/wheels.py                                   all platforms of tools/wheel_targets.py
    python tools/wheels.py manylinux-x86_64 windows-x86_64   some of them
    python tools/wheels.py --list                            their names, and what of each is tested
    python tools/wheels.py --test ...                        and run the tests of csrc/tests with the objects of the wheel
    python tools/wheels.py --twice ...                       each twice, from nothing: the bytes must be the same

Compiler, linker and C libraries are those of zig (`pip install ziglang==0.17.1`; PYNODE_ZIG names another command); zopfli
(`pip install zopfli`) compresses the files. A wheel is for the stable ABI, so one serves Python 3.11 and all later versions.
Nothing in it tells when or where it was made: its times are SOURCE_DATE_EPOCH, else that of the last commit, else 1980. It
holds a list of its parts (CycloneDX), and is refused where it is larger than 3 MB or its metadata are wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import runpy
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wheel_files import check_metadata, metadata, pack, python_files, sbom, time_of_sources
from wheel_targets import TARGETS, Target, import_library, numpy_headers, python_headers, xla_headers
from wheel_tests import run_c_tests

ROOT = Path(__file__).resolve().parents[1]
ZIG = "0.17.1"
"""The version of ziglang that wheels are made with: another one makes other bytes."""
LIMIT = 3 << 20
"""Bytes of a wheel: 3 MiB. In millions of bytes the largest, that of Windows, is 3.03."""
SETUP = runpy.run_path(str(ROOT / "setup.py"))
"""Flags and sources, as setup.py has them."""


def zig_command() -> list[str]:
    """The command of zig."""
    if "PYNODE_ZIG" in os.environ:
        return shlex.split(os.environ["PYNODE_ZIG"])
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang"]
    if shutil.which("zig"):
        return ["zig"]
    raise SystemExit(f"tools/wheels.py needs zig: pip install ziglang=={ZIG} (or PYNODE_ZIG='command of zig')")


def flags_of(source: str, target: Target, xla: Path) -> list[str] | None:
    """The flags of one source, None where it is not for this processor; xla: the folder with XLA's header."""
    path = Path(source)
    flags = [*SETUP["COMMON"]]
    if path.parent.name == "instances":
        if path.stem in SETUP["X86_ISAS"] and not target.x86:
            return None
        flags += SETUP["INSTANCE_FLAGS"][path.stem]
        if path.stem == "dispatch" and target.x86:
            flags.append("-DPN_HAVE_X86_ISA=1")
    elif path.parent.name == "program":
        flags.append("-Os")  # programs are laid out once, and wheels are small
    if path.stem == "xla":
        flags += ["-DPNPY_XLA", "-isystem", str(xla)]
    return flags


def compiler(target: Target, work: Path) -> tuple[list[str], dict[str, str]]:
    """The command that compiles for a platform, and its environment."""
    cache = dict.fromkeys(("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"), str(work / "zig"))
    return [*zig_command(), "cc", "-target", target.zig], os.environ | cache


def build_core(target: Target, name: str, work: Path, jobs: int) -> Path:
    """Compile and link the extension of one platform."""
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    python = python_headers(target, folder / "python")
    command, environment = compiler(target, work)
    # which only debuggers read; zig makes them unless both are refused
    tables = [] if target.windows or target.macos else ["-fno-unwind-tables", "-fno-asynchronous-unwind-tables"]
    includes = [f"-I{path}" for path in (ROOT / "csrc", python, numpy_headers(target, work))]
    xla = xla_headers(work)
    settings = ["-g0", "-fPIC", "-DNDEBUG", "-DPy_LIMITED_API=0x030B0000", "-Werror", f"-ffile-prefix-map={ROOT}=."]

    def compile_one(source: str) -> str | None:
        flags = flags_of(source, target, xla)
        if flags is None:
            return None
        output = folder / (source.replace("/", "_").removesuffix(".c") + ".o")
        subprocess.run(
            [*command, *flags, *settings, *tables, *includes, "-c", source, "-o", str(output)],
            check=True,
            env=environment,
            cwd=ROOT,
        )
        return str(output)

    sources = sorted(SETUP["sources"](), key=lambda source: "instances" not in source)  # what takes longest first
    with ThreadPoolExecutor(jobs) as pool:
        objects = [path for path in pool.map(compile_one, sources) if path]
    link = ["-shared", "-s", "-O3", "-pthread"]
    if target.macos:
        link += ["-Wl,-undefined,dynamic_lookup"]  # the names of Python are those of the process
    elif not target.windows:
        link += ["-lm"]
    libraries = [str(import_library(zig_command(), python, folder))] if target.windows else []
    output = folder / target.module
    subprocess.run([*command, *link, *sorted(objects), *libraries, "-o", str(output)], check=True, env=environment)
    return output


def build_wheel(name: str, work: Path, out: Path, jobs: int) -> Path:
    """One wheel, its size and its hash printed."""
    target = TARGETS[name]
    core = build_core(target, name, work, jobs)
    project = metadata(work / "metadata")
    files = python_files(work / "python")
    files[f"pynode/{target.module}"] = core.read_bytes()
    zig = subprocess.run([*zig_command(), "version"], check=True, capture_output=True, text=True).stdout.strip()
    if zig != ZIG:
        print(f"zig is {zig}, not {ZIG}: the bytes of this wheel are not those of a release", file=sys.stderr)
    files[f"{project.folder}/sboms/pynode.cdx.json"] = sbom(project, target, zig).encode()
    wheel = pack(files, project, f"cp311-abi3-{target.tag}", out, time_of_sources())
    size = wheel.stat().st_size
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    print(
        f"{wheel.name}: {size / 1e6:.2f} MB, the core {core.stat().st_size / 1e6:.2f} MB; {target.tested}\n  sha256 {digest}"
    )
    if size > LIMIT:
        raise SystemExit(f"{wheel} is larger than {LIMIT} bytes")
    check_metadata(wheel)
    return wheel


def build_twice(name: str, work: Path, out: Path, jobs: int) -> None:
    """A wheel, and once more from nothing, in another folder; a difference is an error."""
    first = build_wheel(name, work, out, jobs).read_bytes()
    with tempfile.TemporaryDirectory() as elsewhere:
        second = build_wheel(name, Path(elsewhere) / "work", Path(elsewhere) / "dist", jobs).read_bytes()
    if first != second:
        raise SystemExit(f"{name}: two builds differ")
    print(f"{name}: two builds, the same bytes")


def main() -> None:
    """Build what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("platforms", nargs="*", help=f"of {', '.join(TARGETS)}; none: all")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the wheels (dist)")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "wheels", help="folder of objects and downloads")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--twice", action="store_true", help="build twice and compare")
    parser.add_argument("--test", action="store_true", help="run the C tests of each platform that can be run here")
    parser.add_argument("--list", action="store_true", help="list the platforms")
    arguments = parser.parse_args()
    if arguments.list:
        for name, target in TARGETS.items():
            print(f"{name:20s} {target.tag.partition('.')[0]:24s} {target.tested}")
        return
    unknown = sorted(set(arguments.platforms) - set(TARGETS))
    if unknown:
        raise SystemExit(f"unknown platform {unknown[0]!r}; choose from {', '.join(TARGETS)}")
    os.environ["SOURCE_DATE_EPOCH"] = str(time_of_sources())  # one for all, though a commit may come between
    build = build_twice if arguments.twice else build_wheel
    for name in arguments.platforms or TARGETS:
        work = arguments.work.resolve()
        build(name, work, arguments.out.resolve(), arguments.jobs)
        if arguments.test:
            run_c_tests(*compiler(TARGETS[name], work), TARGETS[name], work / name, SETUP)


if __name__ == "__main__":
    main()
