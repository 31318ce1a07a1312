"""Builds pynode._core: the C core once for each instruction set, and the CPython wrapper; takes the files of wasm/ along.

Environment: CC; PYNODE_CFLAGS and PYNODE_LDFLAGS are appended (sanitizers, -Werror, ...). PYNODE_ISAS: the instruction sets
to build ("baseline avx2"); "native": baseline and the best that this processor has. PYNODE_XLA_INCLUDE: the folder
that has xla/ffi/api/c_api.h, for the handlers of pynode.jax; not given: jaxlib's, if there is one; empty: no handlers.
An object is compiled again when its source, any header under csrc/, this file or the flags changed.
The extension is for the stable ABI of Python 3.11 (abi3), so that a wheel serves all later versions; not with a
free-threaded Python, which has none. It is stripped of what debuggers read, but where it is built in place.
"""

import importlib.util
import os
import platform
import shlex
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
import setuptools
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

OLDEST = 77  # the first that reads the licence in pyproject.toml; `pip install` brings one that does
if int(setuptools.__version__.split(".")[0]) < OLDEST:
    raise SystemExit(
        f"setup.py needs setuptools {OLDEST} or newer, this is {setuptools.__version__}: pip install -U setuptools, or "
        "build with pip install -e . instead"
    )

ROOT = Path(__file__).resolve().parent
CSRC = Path("csrc")
COMMON = [
    # -std=c11 means excess precision on s390x, where a float times a vector of floats is then none
    "-std=gnu11" if platform.machine() == "s390x" else "-std=c11",
    *("-O3", "-fno-math-errno", "-ffp-contract=fast", "-fvisibility=hidden"),
    *("-Wall", "-Wextra", "-pthread"),
]
AVX512 = ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mfma", "-mprefer-vector-width=512"]
# flags of the files of csrc/instances/; csrc/tests/Makefile holds the same table
INSTANCE_FLAGS = {
    "dispatch": [],
    "plain": ["-Os", "-fno-tree-vectorize"],  # never the fastest, so let it be small
    "baseline": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": AVX512,
}
X86_ISAS = {"avx2": ["AVX2", "FMA"], "avx512": ["AVX512F", "AVX512DQ", "AVX512VL", "AVX512BW", "FMA"]}
"""For x86-64 alone; what the compiler says of a processor that has them."""
ABI3 = not sysconfig.get_config_var("Py_GIL_DISABLED")
# nothing unwinds the frames of a Linux build (no exception, no longjmp), and its tables are one part in fifty of a wheel
STRIPPED = ["-g0", *(["-fno-unwind-tables", "-fno-asynchronous-unwind-tables"] if sys.platform == "linux" else [])]
STRIP = ["-Wl,-x"] if sys.platform == "darwin" else ["-Wl,-s"]


def sources():
    """Every C file under csrc/ but the tests."""
    return sorted(
        str(path.relative_to(ROOT)) for path in (ROOT / CSRC).rglob("*.c") if "tests" not in path.relative_to(ROOT).parts
    )


def xla_flags():
    """Flags of csrc/python/xla.c: where XLA's header is; none where there is none, and pynode.jax goes through Python."""
    given = os.environ.get("PYNODE_XLA_INCLUDE")
    jaxlib = importlib.util.find_spec("jaxlib") if given is None else None
    folder = Path(jaxlib.origin).parent / "include" if jaxlib and jaxlib.origin else Path(given or os.devnull)
    header = folder / "xla" / "ffi" / "api" / "c_api.h"
    if header.exists() and "} XLA_FFI_ByteSpan;" in header.read_text(encoding="utf-8"):  # earlier ones are C++ only
        return ["-DPNPY_XLA", "-isystem", str(folder)]
    if given:
        missing = "is older than jaxlib 0.6" if header.exists() else "has no xla/ffi/api/c_api.h"
        raise SystemExit(f"setup.py: PYNODE_XLA_INCLUDE={given!r} {missing}; see jax.ffi.include_dir()")
    return []


def knows(command, *names):
    """Whether the compiler (with these flags) defines all of __NAME__: ask it."""
    probe = subprocess.run([*command, "-dM", "-E", "-x", "c", os.devnull], capture_output=True, text=True)
    return all(f"#define __{name}__ 1\n" in probe.stdout for name in names)


def instruction_sets(command):
    """The instruction sets to build, of those that the compiler's target has: all, or those of PYNODE_ISAS."""
    x86 = knows(command, "x86_64")
    there = [isa for isa in INSTANCE_FLAGS if isa != "dispatch" and (x86 or isa not in X86_ISAS)]
    asked = os.environ.get("PYNODE_ISAS", "").replace(",", " ").split() or there
    wrong = [isa for isa in asked if isa not in [*there, "native"]]
    if wrong:
        raise SystemExit(f"setup.py: PYNODE_ISAS names {wrong[0]!r}; choose from {', '.join(there)} and native")
    chosen = [isa for isa in asked if isa != "native"]
    if "native" in asked:
        chosen += [isa for isa in X86_ISAS if isa in there and knows([*command, "-march=native"], *X86_ISAS[isa])][-1:]
    if not {"plain", "baseline"} & set(chosen):
        chosen.append("baseline")  # for processors that have none of the others
    return [isa for isa in there if isa in chosen]


def forget_earlier(path):
    """Remove an extension that is for one Python only: it would be imported in place of this one."""
    earlier = path.with_name(path.name.partition(".")[0] + sysconfig.get_config_var("EXT_SUFFIX"))
    if ABI3 and earlier != path:
        earlier.unlink(missing_ok=True)


class BuildCore(build_ext):
    def flags(self, source, isas, x86):
        """The flags of one source file, or None if it is not built."""
        path = Path(source)
        flags = [*COMMON] if self.in_place else [*COMMON, *STRIPPED]
        if path.parent.name == "instances":
            if path.stem not in INSTANCE_FLAGS:
                raise SystemExit(f"setup.py: no flags for {source}")
            if path.stem not in [*isas, "dispatch"]:
                return None
            flags += INSTANCE_FLAGS[path.stem]
            if path.stem == "dispatch":
                flags += ["-DPN_HAVE_X86_ISA=1"] if x86 else []
                flags += [f"-DPN_WITHOUT_{isa.upper()}" for isa in INSTANCE_FLAGS if isa not in [*isas, "dispatch"]]
        if path.stem == "xla":
            flags += xla_flags()
        return flags + shlex.split(os.environ.get("PYNODE_CFLAGS", ""))

    def run(self):
        self.in_place = self.inplace  # setuptools forgets it meanwhile
        super().run()

    def copy_extensions_to_source(self):
        super().copy_extensions_to_source()
        for ext in self.extensions:
            forget_earlier(ROOT.joinpath(*ext.name.split(".")).with_suffix(".abi3.so"))

    def build_extension(self, ext):
        if self.compiler.compiler_type != "unix":
            raise SystemExit(
                "pynode needs gcc or clang, whose vector extensions the kernels use; this compiler is of type "
                f"{self.compiler.compiler_type!r}. On Windows: pip install ziglang==0.17.1 zopfli, then "
                "python tools/wheels.py windows-x86_64, which makes a wheel"
            )
        command = [*self.compiler.compiler_so]
        isas, x86 = instruction_sets(command), knows(command, "x86_64")
        flags = {source: self.flags(source, isas, x86) for source in ext.sources}
        jobs = [source for source in ext.sources if flags[source] is not None]
        link_flags = ["-pthread", *shlex.split(os.environ.get("PYNODE_LDFLAGS", ""))]

        text = repr((command, numpy.__version__, sys.version, ext.define_macros))
        newest = max(os.stat(path).st_mtime_ns for path in ext.depends)

        def compile_one(source):
            (target,) = self.compiler.object_filenames([source], output_dir=self.build_temp)
            stamp = Path(f"{target}.flags")
            now = f"{text}\n{flags[source]}\n"
            fresh = os.path.exists(target) and os.stat(target).st_mtime_ns > max(newest, os.stat(source).st_mtime_ns)
            if self.force or not fresh or not stamp.exists() or stamp.read_text() != now:
                stamp.unlink(missing_ok=True)
                self.compiler.compile(
                    [source],
                    output_dir=self.build_temp,
                    include_dirs=ext.include_dirs,
                    macros=ext.define_macros,
                    extra_postargs=flags[source],
                )
                stamp.write_text(now)
            return target

        # the files of one instruction set take longest: start with them
        jobs.sort(key=lambda source: Path(source).parent.name != "instances")
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compile_one, jobs))
        target = self.get_ext_fullpath(ext.name)
        link_flags += [] if self.in_place else STRIP
        self.compiler.link_shared_object(objects, target, libraries=["m"], extra_postargs=link_flags, target_lang="c")
        forget_earlier(Path(target))


class BuildPackage(build_py):
    """The files of wasm/ that pages are made of go into the package: pynode/export/web/."""

    def run(self):
        super().run()
        if self.editable_mode:  # pynode/export/page.py finds them in the repository
            return
        target = Path(self.build_lib) / "pynode" / "export" / "web"
        target.mkdir(parents=True, exist_ok=True)
        for path in [
            *sorted((ROOT / "wasm").glob("*.mjs")),
            ROOT / "wasm" / "pynode.d.ts",
            ROOT / "wasm" / "pynode.wasm.gz",
        ]:
            self.copy_file(str(path), str(target / path.name))


core = Extension(
    "pynode._core",
    sources=sources(),
    depends=[
        "setup.py",
        *sorted(
            str(path.relative_to(ROOT))
            for path in (ROOT / CSRC).rglob("*")
            if path.suffix in {".h", ".inl", ".def"} and "build" not in path.parts
        ),
    ],
    include_dirs=[str(CSRC), numpy.get_include()],
    define_macros=[("Py_LIMITED_API", "0x030B0000")] if ABI3 else [],
    py_limited_api=ABI3,
)


if __name__ == "__main__":  # tools/wheels.py takes the flags from here
    setup(
        ext_modules=[core],
        cmdclass={"build_ext": BuildCore, "build_py": BuildPackage},
        options={"bdist_wheel": {"py_limited_api": "cp311"}} if ABI3 else {},
    )
