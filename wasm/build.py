"""Builds pynode.wasm, the core for browsers, from csrc/: python wasm/build.py [--only simd] [--keep].

Needs the C compiler of zig, `pip install ziglang` (or PYNODE_WASM_CC: the command of another clang for wasm32-wasi).
Two modules: `pynode.wasm` (128-bit vectors, which all browsers since 2023 have) and `pynode-scalar.wasm`. One thread,
float64, no imports: the module calls nothing of its host. --keep makes `wasm/pynode.wasm.gz` anew, which the package ships;
it needs `pip install zopfli`, which compresses by a twentieth more than gzip.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "csrc"
KEPT = ROOT / "wasm" / "pynode.wasm.gz"
LIMIT = 150_000
"""Bytes of a module, compressed by gzip, at most."""

COMMON = [
    *("-target", "wasm32-wasi", "-std=c11", "-Os", "-fno-math-errno", "-ffp-contract=off", "-fvisibility=hidden"),
    *("-DPN_NO_THREADS", "-DPN_F64_ONLY", "-DPN_WITHOUT_JUMPS", "-Wall", "-Wextra", "-Werror", f"-I{CORE}"),
    *(f"-ffile-prefix-map={ROOT}=.", "-g0"),
    *("-mllvm", "-inline-threshold=40"),  # 50 with -Os, which is 0.4 % larger
]
LINK = [
    *("-target", "wasm32-wasi", "-mexec-model=reactor", "-O2", "-s"),
    *("-Wl,--gc-sections", "-Wl,-z,stack-size=262144"),
    *("-Wl,--initial-memory=4194304", "-Wl,--max-memory=536870912"),
]
VARIANTS = {
    "simd": ("pynode.wasm", "baseline", ["-DPN_WITHOUT_PLAIN", "-msimd128"]),
    "scalar": ("pynode-scalar.wasm", "plain", ["-DPN_WITHOUT_BASELINE", "-fno-tree-vectorize"]),
}
"""name -> file, source of the kernels, flags."""


def compiler() -> list[str]:
    """The command of the compiler."""
    if "PYNODE_WASM_CC" in os.environ:
        return shlex.split(os.environ["PYNODE_WASM_CC"])
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    if shutil.which("zig"):
        return ["zig", "cc"]
    raise SystemExit("wasm/build.py needs zig: pip install ziglang (or PYNODE_WASM_CC='clang ...' for wasm32-wasi)")


def sources(kernels: str) -> list[Path]:
    """The files of the core, with the kernels of one instruction set, and the exports."""
    left_out = {"python", "tests", "instances"}
    files = [path for path in CORE.rglob("*.c") if path.relative_to(CORE).parts[0] not in left_out]
    instances = [CORE / "instances" / f"{name}.c" for name in ("dispatch", kernels)]
    return [*instances, *sorted(files), ROOT / "wasm" / "exports.c"]


def build(variant: str, out: Path, jobs: int) -> Path:
    """Compile and link one module."""
    name, kernels, flags = VARIANTS[variant]
    command = compiler()
    folder = out / variant
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | dict.fromkeys(("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"), str(out / "cache"))

    def compile_one(path: Path) -> str:
        target = folder / f"{path.parent.name}_{path.stem}.o"
        subprocess.run([*command, *COMMON, *flags, "-c", str(path), "-o", str(target)], check=True, env=environment)
        return str(target)

    with ThreadPoolExecutor(jobs) as pool:
        objects = list(pool.map(compile_one, sources(kernels)))
    subprocess.run([*command, *LINK, *objects, "-lm", "-o", str(out / name)], check=True, env=environment)
    return out / name


def smallest(data: bytes) -> bytes:
    """The same, in as few bytes of gzip as zopfli finds."""
    try:
        import zopfli.gzip
    except ImportError:
        raise SystemExit("--keep needs zopfli: pip install zopfli") from None
    found: bytes = zopfli.gzip.compress(data, numiterations=50)
    return found


def main() -> None:
    """Build, say the sizes, and refuse a module that is too large."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "wasm", help="folder of the results (build/wasm)")
    parser.add_argument("--only", choices=sorted(VARIANTS), help="one of the two modules")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", action="store_true", help="make wasm/pynode.wasm.gz anew")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    for variant in [arguments.only] if arguments.only else VARIANTS:
        path = build(variant, out, arguments.jobs)
        data = path.read_bytes()
        size = len(gzip.compress(data, 9))
        print(f"{path.name}: {len(data) / 1000:.0f} kB, {size / 1000:.0f} kB compressed")
        if size > LIMIT:
            raise SystemExit(f"{path} is larger than {LIMIT} bytes compressed")
        if arguments.keep and variant == "simd":
            KEPT.write_bytes(smallest(data))


if __name__ == "__main__":
    main()
