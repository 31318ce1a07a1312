"""The platforms that tools/wheels.py builds for: their compilers' names, headers of Python and NumPy, import library.

Nothing of the platforms themselves is needed. zig brings their C libraries; the headers of Python are those of the running
one with a pyconfig.h written here; those of NumPy come out of its wheel for the platform; and Windows links against a
library made of the names that Python's headers declare.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

NUMPY = "2.4.6"
"""Whose headers are taken. The extension runs with every NumPy since the NPY_TARGET_VERSION of csrc/python/pnpy.h."""
JAXLIB = "0.10.2"
"""Whose header of XLA's interface is taken (Apache-2.0; nothing of it is in a wheel but what the compiler made of it)."""


@dataclass(frozen=True)
class Target:
    """A platform."""

    zig: str
    """As `zig cc -target` calls it, with the oldest C library or system."""
    tag: str
    """As wheels call it."""
    numpy: str
    """The platform tag by which pip finds NumPy's wheel."""
    tested: str
    """What of it was run where the wheels are built, for those who read the table that is printed."""

    @property
    def windows(self) -> bool:
        """Whether it is Windows."""
        return "windows" in self.zig

    @property
    def macos(self) -> bool:
        """Whether it is macOS."""
        return "macos" in self.zig

    @property
    def x86(self) -> bool:
        """Whether the kernels for AVX2 and AVX-512 belong to it."""
        return self.zig.startswith("x86_64")

    @property
    def module(self) -> str:
        """File name of the extension."""
        return "_core.pyd" if self.windows else "_core.abi3.so"


TARGETS = {
    "manylinux-x86_64": Target(
        "x86_64-linux-gnu.2.17", "manylinux_2_17_x86_64.manylinux2014_x86_64", "manylinux_2_28_x86_64", "installed, tests"
    ),
    "manylinux-aarch64": Target(
        "aarch64-linux-gnu.2.17", "manylinux_2_17_aarch64.manylinux2014_aarch64", "manylinux_2_28_aarch64", "a part (qemu)"
    ),
    "musllinux-x86_64": Target("x86_64-linux-musl", "musllinux_1_2_x86_64", "musllinux_1_2_x86_64", "C tests"),
    "musllinux-aarch64": Target("aarch64-linux-musl", "musllinux_1_2_aarch64", "musllinux_1_2_aarch64", "untested"),
    "windows-x86_64": Target("x86_64-windows-gnu", "win_amd64", "win_amd64", "C tests (Wine)"),
    "macos-arm64": Target("aarch64-macos.11.0", "macosx_11_0_arm64", "macosx_11_0_arm64", "untested"),
    "macos-x86_64": Target("x86_64-macos.10.15", "macosx_10_15_x86_64", "macosx_10_15_x86_64", "untested"),
}

SIZES = {"SHORT": 2, "INT": 4, "LONG_LONG": 8, "VOID_P": 8, "SIZE_T": 8, "FLOAT": 4, "DOUBLE": 8, "TIME_T": 8, "PID_T": 4}
"""What SIZEOF_... is on all of them: 64-bit little-endian processors, as their psABIs (x86-64 System V and Windows, AAPCS64)
say."""
HAVE = ["STDDEF_H", "STDINT_H", "INTTYPES_H", "WCHAR_H", "SYS_STAT_H", "SYS_TYPES_H", "LONG_LONG", "UINTPTR_T"]
UNIX = ["SSIZE_T", "SYS_TIME_H", "SYS_SELECT_H", "FORK", "PTHREAD_H"]


def pyconfig(target: Target) -> str:
    """As much of a pyconfig.h as the headers of the stable ABI ask for."""
    sizes = SIZES | {"LONG": 4 if target.windows else 8, "WCHAR_T": 2 if target.windows else 4}
    lines = [f"#define SIZEOF_{name} {size}" for name, size in sorted(sizes.items())]
    have = HAVE + ([] if target.windows else UNIX)
    lines += [f"#define HAVE_{name} 1" for name in sorted(have)]
    if target.windows:  # Py_ENABLE_SHARED, HAVE_DECLSPEC_DLL: what Python has is imported from its DLL
        names = ("MS_WIN32", "MS_WIN64", "MS_WINDOWS", "NT_THREADS", "Py_ENABLE_SHARED", "HAVE_DECLSPEC_DLL")
        lines += [f"#define {name} 1" for name in names]
    return "\n".join(["/* Written by tools/wheel_targets.py. */", *lines, ""])


def python_headers(target: Target, folder: Path) -> Path:
    """The headers of the running Python with a pyconfig.h of the platform."""
    from_here = Path(sysconfig.get_path("include"))
    if not (from_here / "Python.h").exists():
        raise SystemExit(f"tools/wheels.py needs the headers of Python, and there is no Python.h in {from_here}")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(from_here, folder, ignore=shutil.ignore_patterns("pyconfig*.h", "internal"))
    (folder / "pyconfig.h").write_text(pyconfig(target), encoding="utf-8")
    return folder


def numpy_headers(target: Target, work: Path) -> Path:
    """The headers out of NumPy's wheel for the platform, which pip fetches once."""
    folder = work / f"numpy-{NUMPY}-{target.numpy}"
    unpack(f"numpy=={NUMPY}", target.numpy, "/_core/include/", work / "downloads" / target.numpy, folder)
    return folder / "numpy" / "_core" / "include"


def xla_headers(work: Path) -> Path:
    """The header of XLA's interface out of jaxlib's wheel, which pip fetches once; it is the same for every platform."""
    folder = work / f"jaxlib-{JAXLIB}"
    unpack(f"jaxlib=={JAXLIB}", "manylinux_2_27_x86_64", "/xla/ffi/api/c_api.h", work / "downloads" / "jaxlib", folder)
    return folder / "jaxlib" / "include"


def unpack(package: str, platform: str, part: str, downloads: Path, folder: Path) -> None:
    """Files of a package's wheel for a platform whose names have that part, into a folder; nothing where that is there."""
    if folder.exists():
        return
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--python-version=3.12"]
    subprocess.run([*command, f"--platform={platform}", "-d", str(downloads), package], check=True)
    (wheel,) = downloads.glob(f"{package.replace('==', '-')}-*.whl")
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(partial, [name for name in archive.namelist() if part in name])
    partial.rename(folder)


def declared(headers: Path) -> dict[str, bool]:
    """Names that the headers say Python exports -> whether each is data."""
    found: dict[str, bool] = {}
    for path in sorted(headers.glob("*.h")):
        text = path.read_text(encoding="utf-8")
        found |= dict.fromkeys(re.findall(r"PyAPI_FUNC\([^)]*\)\s*(\w+)\s*\(", text), False)
        found |= dict.fromkeys(re.findall(r"^#\s*define\s+Py\w+\s+(_Py\w+_SizeT)\s*$", text, re.M), False)
        found |= dict.fromkeys(re.findall(r"PyAPI_DATA\([^)]*\)\s*\**(\w+)\s*[;\[]", text), True)
    return found


def import_library(zig: list[str], headers: Path, folder: Path) -> Path:
    """What Windows links against: python3.dll, which has the stable ABI and hands it to the DLL of the version that runs."""
    lines = [f"{name} DATA" if data else name for name, data in sorted(declared(headers).items())]
    definitions = folder / "python3.def"
    definitions.write_text("\n".join(["LIBRARY python3.dll", "EXPORTS", *lines, ""]), encoding="utf-8")
    library = folder / "libpython3.a"
    command = [*zig, "dlltool", "-m", "i386:x86-64", "-D", "python3.dll", "-d", str(definitions), "-l", str(library)]
    subprocess.run(command, check=True)
    return library
