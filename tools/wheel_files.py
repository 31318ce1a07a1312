"""What tools/wheels.py puts into a wheel: files of the package, metadata, the list of parts, the archive."""

from __future__ import annotations

import base64
import email
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
import zipfile
from dataclasses import dataclass
from pathlib import Path

from wheel_targets import JAXLIB, NUMPY, Target

ROOT = Path(__file__).resolve().parents[1]
EARLIEST = 315532800
"""1980-01-01: archives know no earlier times."""


@dataclass(frozen=True)
class Project:
    """Metadata as setuptools writes them."""

    name: str
    version: str
    requires: tuple[str, ...]
    files: dict[str, bytes]
    """The .dist-info folder, but for WHEEL and RECORD."""

    @property
    def stem(self) -> str:
        """How names of files begin."""
        return f"{re.sub('[-_.]+', '_', self.name)}-{self.version}"

    @property
    def folder(self) -> str:
        """The .dist-info folder."""
        return f"{self.stem}.dist-info"


def time_of_sources() -> int:
    """Seconds since 1970: SOURCE_DATE_EPOCH, else the time of the last commit, else the earliest of an archive."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return max(int(os.environ["SOURCE_DATE_EPOCH"]), EARLIEST)
    run = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True)
    return int(run.stdout) if run.returncode == 0 and run.stdout.strip() else EARLIEST


def _setuptools(code: str) -> None:
    """Run a line of Python with setuptools in the root of the project."""
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"setuptools failed:\n{run.stdout}{run.stderr}")


def metadata(folder: Path) -> Project:
    """The metadata of the project, by its build backend."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _setuptools(f"import setuptools.build_meta as b; b.prepare_metadata_for_build_wheel({str(folder)!r})")
    (info,) = folder.glob("*.dist-info")
    files = {path.relative_to(info).as_posix(): path.read_bytes() for path in sorted(info.rglob("*")) if path.is_file()}
    for written_later in ("WHEEL", "RECORD"):
        files.pop(written_later, None)
    message = email.message_from_bytes(files["METADATA"])
    requires = [line for line in message.get_all("Requires-Dist", []) if "extra ==" not in line]
    return Project(str(message["Name"]), str(message["Version"]), tuple(requires), files)


def python_files(folder: Path) -> dict[str, bytes]:
    """Everything of the package but the extension: path in the wheel -> content."""
    shutil.rmtree(folder, ignore_errors=True)
    code = f"import sys, runpy; sys.argv = ['setup.py', '-q', 'build_py', '--build-lib', {str(folder)!r}]; "
    _setuptools(code + "runpy.run_path('setup.py', run_name='__main__')")
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix not in {".so", ".pyd", ".pyc"}]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def sbom(project: Project, target: Target, zig: str) -> str:
    """The parts of a wheel as CycloneDX 1.6: what it needs, what is inside, what made it."""

    def library(name: str, version: str | None, scope: str, about: str) -> dict[str, object]:
        found: dict[str, object] = {"type": "library", "name": name, "scope": scope, "description": about}
        return found | ({"version": version} if version else {})

    parts = [library(re.split(r"[^\w-]", line)[0], None, "required", f"at run time: {line}") for line in project.requires]
    parts.append(library("wasi-libc", None, "required", "in pynode/export/web/pynode.wasm.gz, by zig"))
    if target.windows:
        parts.append(library("mingw-w64", None, "required", f"its C runtime and threads, in the extension, by zig {zig}"))
    parts.append(library("numpy", NUMPY, "excluded", "its headers, when the extension was compiled"))
    parts.append(library("jaxlib", JAXLIB, "excluded", "its header of XLA's interface, when the extension was compiled"))
    subject = {
        "type": "library",
        "name": project.name,
        "version": project.version,
        "purl": f"pkg:pypi/{project.name}@{project.version}",
        "licenses": [{"license": {"id": "MIT"}}],
    }
    content = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{project.stem}-{target.tag}')}",
        "version": 1,
        "metadata": {
            "component": subject,
            "tools": {"components": [{"type": "application", "name": "zig", "version": zig}]},
        },
        "components": parts,
    }
    return json.dumps(content, indent=1) + "\n"


def _record(files: dict[str, bytes], name: str) -> bytes:
    """Hash and size of every file."""
    lines = []
    for path, data in sorted(files.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(data)}")
    return "\n".join([*lines, f"{name},,", ""]).encode()


class _Zopfli:
    """What `zipfile` takes for a compressor, of a file that is written at once."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def compress(self, data: bytes) -> bytes:
        """Keep the data: nothing is compressed before all of it is there."""
        self.parts.append(bytes(data))
        return b""

    def flush(self) -> bytes:
        """The compressed data, without the header and the checksum of zlib."""
        try:
            import zopfli.zlib
        except ModuleNotFoundError:
            raise SystemExit("tools/wheels.py compresses by zopfli: pip install zopfli") from None
        found: bytes = zopfli.zlib.compress(b"".join(self.parts), numiterations=5)
        return found[2:-4]


def pack(files: dict[str, bytes], project: Project, tag: str, out: Path, when: int) -> Path:
    """Write the archive: files in the order of their names, those of .dist-info last, all with one time and one mode."""
    files = files | {f"{project.folder}/{name}": data for name, data in project.files.items()}
    python, abi, platforms = tag.split("-")
    tags = [f"Tag: {python}-{abi}-{platform}" for platform in platforms.split(".")]
    wheel = ["Wheel-Version: 1.0", "Generator: pynode tools/wheels.py", "Root-Is-Purelib: false", *tags, ""]
    files[f"{project.folder}/WHEEL"] = "\n".join(wheel).encode()
    record = f"{project.folder}/RECORD"
    files[record] = _record(files, record)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{project.stem}-{tag}.whl"
    moment = time.gmtime(when)[:6]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files, key=lambda name: (name.startswith(project.folder), name == record, name)):
            entry = zipfile.ZipInfo(name, moment)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if name.endswith((".so", ".pyd")) else 0o100644) << 16
            entry.file_size = len(files[name])
            with archive.open(entry, "w") as file:
                file._compressor = _Zopfli()  # type: ignore[attr-defined]  # 4 % smaller than zlib's
                file.write(files[name])
    return path


def check_metadata(wheel: Path) -> None:
    """Refuse metadata that an index would, and names that disagree with them."""
    from packaging.metadata import Metadata
    from packaging.utils import parse_wheel_filename

    name, version, _, _ = parse_wheel_filename(wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        bad = archive.testzip()
        (path,) = [path for path in archive.namelist() if path.endswith(".dist-info/METADATA")]
        found = Metadata.from_email(archive.read(path))
    if bad or found.version != version or found.name.replace("_", "-") != name:
        raise SystemExit(f"{wheel}: its name and its content ({found.name} {found.version}) disagree")
