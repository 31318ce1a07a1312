"""Files of models: an npz archive of plain arrays, one of which is a JSON header. Nothing in it is executed.

The header holds everything but numbers in bulk; where a value is an array it says {"$array": name}, and lists
the type and shape of every array. A reader trusts nothing: archive, header, types, shapes and sizes are
checked before memory is taken, and the program of the field is checked by the C core. The bounds below hold for
writing, too, so that what can be saved can be loaded.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import secrets
import struct
import zipfile
from collections.abc import Callable
from glob import escape
from pathlib import Path
from typing import IO, Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

FORMAT = "pynode model"


VERSION = 2
"""Version of the format; it grows with every change that older versions cannot read."""


MAX_BYTES = 1 << 30
"""Largest file that is read, unpacked."""


FREE_BYTES = 1 << 25
"""So much may be unpacked from a file of any size."""


MAX_RATIO = 50
"""Beyond `FREE_BYTES`: unpacked bytes for each byte of the file. Data come to 1 to 5; a zip bomb to 1000."""


MAX_MEMBERS = 20_000
"""Most arrays of a file."""


MAX_DIRECTORY = 1 << 22
"""Longest table of contents of the archive, in bytes."""


MAX_HEADER = 1 << 24
"""Longest header, in bytes."""


MAX_ITEMS = 500_000
"""Most values in a header."""


MAX_DEPTH = 40
"""Deepest nesting in a header."""


MAX_DIGITS = 40
"""Longest number in a header, in characters."""


END = struct.Struct("<4s4H2LH")
"""The end record of a zip archive: signature, two disks, entries here and in all, size and place of the table of contents,
length of the comment (APPNOTE.TXT 4.3.16)."""


ZIP64_LOCATOR = 20
"""What stands before it in archives of more than 4 GiB, in bytes (4.3.15)."""


TYPES: dict[str, np.dtype[Any]] = {"<f8": np.dtype("<f8"), "<i4": np.dtype("<i4"), "<i8": np.dtype("<i8")}
"""Types an array in a file may have."""


NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
"""Numbers that JSON lacks."""


class ModelFileError(ValueError):
    """A file that is not a model of this library, is damaged, or is of a newer version."""


def write(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Write a model file, all of it or nothing: an existing file is replaced only by a complete one.

    Parameters
    ----------
    path : str or path
        The file.
    content : dict
        JSON values and arrays (float64, int32, int64), nested.
    """
    path = Path(path)
    arrays: dict[str, Any] = {}
    header: dict[str, Any] = {"format": FORMAT, "version": VERSION, "content": _take_arrays(content, "", arrays)}
    header["arrays"] = {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()}
    text = json.dumps(header, allow_nan=False, ensure_ascii=False).encode("utf-8")
    unpacked = len(text) + sum(array.nbytes for array in arrays.values())
    too_large = [
        f"{n} {what} (at most {most})"
        for n, what, most in (
            (unpacked, "bytes", MAX_BYTES - (1 << 20)),
            (len(text), "bytes of options, names and reports", MAX_HEADER),
            (_items(text), "options, names and entries of reports", MAX_ITEMS),
            (len(arrays), "arrays", MAX_MEMBERS - 1),
        )
        if n > most
    ]
    if too_large:
        raise ValueError(f"the model is too large for a file: {', '.join(too_large)}; leave out the data where that helps")
    members = {"header": np.frombuffer(text, dtype=np.uint8)} | arrays
    packed = _packed(np.savez_compressed, members)
    if unpacked > _allowance(len(packed)):  # little but zeros
        packed = _packed(np.savez, members)
    write_bytes(path, packed)


def digest(content: dict[str, Any]) -> str:
    """A hash of what a file holds, the same before it is written and after it is read."""
    arrays: dict[str, Any] = {}
    found = hashlib.sha256(json.dumps(_take_arrays(content, "", arrays), sort_keys=True).encode())
    for name in sorted(arrays):
        found.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}".encode() + arrays[name].tobytes())
    return found.hexdigest()


def _packed(pack: Callable[..., None], members: dict[str, NDArray[Any]]) -> bytes:
    """An archive of arrays."""
    buffer = io.BytesIO()
    try:
        pack(buffer, **members)
    except ValueError as error:  # after Ctrl-C in a member zipfile cannot close the archive, and says only that
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise
    return buffer.getvalue()


def _items(text: bytes) -> int:
    """At least how many values a JSON text has."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _allowance(size: int) -> int:
    """How much a file of this size may hold, unpacked."""
    return min(MAX_BYTES, max(FREE_BYTES, MAX_RATIO * size))


def check_place(path: Path) -> None:
    """Refuse a path beside which no file can be written; remove what writers that were killed left there.

    Parameters
    ----------
    path : path
        The file that will be written, by this process alone.

    Raises
    ------
    OSError
        No file can be made there.
    """
    for left in path.parent.glob(f".{escape(path.name)}.{'?' * 8}.part"):
        left.unlink(missing_ok=True)
    part = _beside(path)
    try:
        open(part, "xb").close()
    finally:
        part.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """A new name for a temporary file."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file atomically: through a temporary file beside it."""
    path = Path(path)
    part = _beside(path)
    try:
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read(path: str | os.PathLike[str]) -> Any:
    """Read what `write` wrote.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    dict
        The content; arrays are writeable and own their memory.

    Raises
    ------
    ModelFileError
        The file is damaged, too large, or not a model file.
    OSError
        It cannot be opened.
    """
    path = Path(path)
    with open(path, "rb") as file:
        try:
            size = _check_directory(file)
            with zipfile.ZipFile(file) as archive:
                return _read_archive(archive, _allowance(size))
        except ModelFileError as error:
            raise ModelFileError(f"{path}: {error}") from None
        except Exception as error:  # whatever zip, the headers of arrays and JSON say of damaged bytes
            detail = f" ({error})" if str(error) else ""
            raise ModelFileError(f"{path} is not a model file of pynode, or is damaged{detail}") from None


def _check_directory(file: BinaryIO) -> int:
    """The size of a file whose table of contents is short enough to be read."""
    size = file.seek(0, os.SEEK_END)
    if size > MAX_BYTES + MAX_DIRECTORY:
        raise ModelFileError(f"{size >> 20} MiB, more than the {MAX_BYTES >> 20} of the largest model file")
    file.seek(max(0, size - END.size - ZIP64_LOCATOR))
    tail = file.read(END.size + ZIP64_LOCATOR)
    file.seek(0)
    if len(tail) < END.size + ZIP64_LOCATOR or tail[ZIP64_LOCATOR:][:4] != b"PK\5\6":
        raise ModelFileError("not a model file of pynode, or cut short")
    _, _, _, _, entries, directory, _, comment = END.unpack(tail[ZIP64_LOCATOR:])
    if comment or tail.startswith(b"PK\6\7") or entries > MAX_MEMBERS or directory > MAX_DIRECTORY:
        raise ModelFileError(f"an archive of {entries} members that no model file is (at most {MAX_MEMBERS}, no comment)")
    return size


def _read_archive(archive: zipfile.ZipFile, allowance: int) -> Any:
    """The content of an open file, checked."""
    members = _checked_members(archive, allowance)
    header = _read_header(archive, members.pop("header"))
    arrays = _arrays_of(archive, members, header["arrays"])
    content = _put_arrays(header["content"], arrays, 0)
    if arrays:
        raise ModelFileError(f"array {next(iter(arrays))!r} is not used")
    return content


def _finite_float(text: str) -> float:
    value = float(text) if len(text) <= MAX_DIGITS else math.inf
    if not math.isfinite(value):
        raise ModelFileError(f"the header holds the number {text[:MAX_DIGITS]}")
    return value


def _short_int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ModelFileError(f"the header holds the number {text[:MAX_DIGITS]}...")
    return int(text)


def _arrays_of(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], declared: Any) -> dict[str, NDArray[Any]]:
    """The arrays that the header lists, which must be the members that are left."""
    if not isinstance(declared, dict) or set(declared) != set(members):
        raise ModelFileError("the arrays are not those that the header lists")
    arrays: dict[str, NDArray[Any]] = {}
    for name, (dtype, shape) in declared.items():
        if dtype not in TYPES:
            raise ModelFileError(f"array {name!r} has type {dtype!r}, which model files never hold")
        arrays[name] = _read_array(archive, members[name], TYPES[dtype], tuple(shape))
    return arrays


def _checked_members(archive: zipfile.ZipFile, allowance: int) -> dict[str, zipfile.ZipInfo]:
    """The members by the names of their arrays; together they are not larger than allowed when unpacked."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name == info.filename or name in members:
            raise ModelFileError(f"unexpected member {info.filename!r}, or one that is there twice: not a model file")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ModelFileError(f"member {info.filename!r} is compressed in a way that model files never are")
        members[name] = info
    if len(members) > MAX_MEMBERS:
        raise ModelFileError(f"{len(members)} members, more than the {MAX_MEMBERS} of any model file")
    if "header" not in members:
        raise ModelFileError("it has no header: not a model file of pynode")
    unpacked = sum(info.file_size for info in members.values())
    if unpacked > allowance:
        raise ModelFileError(
            f"{unpacked} bytes unpacked, more than a file of this size may hold ({allowance}): not a model file"
        )
    return members


def _read_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> dict[str, Any]:
    """The header, of this version."""
    text = _read_array(archive, info, np.dtype(np.uint8), None).tobytes()
    if _items(text) > MAX_ITEMS:
        raise ModelFileError(f"the header has more than {MAX_ITEMS} values")
    header = json.loads(
        text.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_finite_float, parse_int=_short_int
    )
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ModelFileError("the header does not name a model of pynode")
    version = header.get("version")
    if type(version) is not int or version < 1:
        raise ModelFileError(f"version {version!r} makes no sense")
    if version > VERSION:
        raise ModelFileError(
            f"written by a newer version of pynode (file format {version}, this one reads {VERSION}): "
            "upgrade pynode to read it"
        )
    if version < VERSION:
        raise ModelFileError(
            f"written by an older version of pynode (file format {version}, this one reads {VERSION}): fit the model again"
        )
    return header


def _read_array(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, dtype: np.dtype[Any], shape: tuple[int, ...] | None
) -> NDArray[Any]:
    """One member, which must have this type and shape (None: any vector up to MAX_HEADER)."""
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        if version != (1, 0):
            raise ModelFileError(f"array {info.filename!r} has the npy version {version}")
        found, fortran, stored = np.lib.format.read_array_header_1_0(member)
        good = len(found) == 1 and found[0] <= MAX_HEADER if shape is None else found == shape
        good = good and all(n >= 0 for n in found)
        if stored != dtype or fortran or not good:
            raise ModelFileError(
                f"array {info.filename!r} has type {stored} and shape {found}, "
                f"not {dtype} and {'(n,)' if shape is None else shape}"
            )
        n_bytes = dtype.itemsize
        for n in found:
            n_bytes *= n
        array = np.empty(found, dtype) if n_bytes <= info.file_size else None
        if array is None or not _fill(array, member) or member.read(1):  # reading to the end checks the CRC
            raise ModelFileError(f"array {info.filename!r} is cut short or too long")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _fill(array: NDArray[Any], member: IO[bytes]) -> bool:
    """Read an array's bytes in pieces; whether there were enough."""
    data = array.reshape(-1).view(np.uint8).data
    at = 0
    while at < len(data):
        piece = member.read(min(len(data) - at, 1 << 20))
        if not piece:
            return False
        data[at : at + len(piece)] = piece
        at += len(piece)
    return True


def _refuse_constant(name: str) -> NoReturn:
    raise ModelFileError(f"the header holds {name}")


def _take_arrays(value: Any, path: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """The tree with its arrays moved to `arrays`."""
    if isinstance(value, np.ndarray):
        dtype = value.dtype.newbyteorder("<").str
        if dtype not in TYPES:
            raise TypeError(f"{path}: arrays of {value.dtype} cannot be stored; float64, int32, int64 can")
        name = path.lstrip(".")
        arrays[name] = np.ascontiguousarray(value, dtype=dtype)
        return {"$array": name}
    if isinstance(value, dict):
        return {str(key): _take_arrays(item, f"{path}.{key}", arrays) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_take_arrays(item, f"{path}.{i}", arrays) for i, item in enumerate(value)]
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    return value


def _put_arrays(value: Any, arrays: dict[str, NDArray[Any]], depth: int) -> Any:
    """Inverse of `_take_arrays`; each array leaves `arrays` for the one place where it belongs."""
    if depth > MAX_DEPTH:
        raise ModelFileError(f"the header is nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        if set(value) == {"$array"}:
            return arrays.pop(value["$array"])
        if set(value) == {"$float"}:
            return NOT_FINITE[value["$float"]]
        return {key: _put_arrays(item, arrays, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_put_arrays(item, arrays, depth + 1) for item in value]
    return value
