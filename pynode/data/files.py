"""Files of models: an npz archive of plain arrays, one of which is a JSON header. Nothing in it is executed.

The header holds everything but numbers in bulk; where a value is an array it says {"$array": name}, and lists
the type and shape of every array. A reader trusts nothing: archive, header, types, shapes and sizes are
checked before memory is taken, and the program of the field is checked by the C core.
"""

from __future__ import annotations

import io
import json
import math
import os
import secrets
import zipfile
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

FORMAT = "pynode model"


VERSION = 2
"""Version of the format; it grows with every change that older versions cannot read."""


MAX_BYTES = 1 << 30
"""Largest file that is read, unpacked."""


MAX_HEADER = 1 << 24
"""Longest header, in bytes."""


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
    buffer = io.BytesIO()
    np.savez_compressed(buffer, header=np.frombuffer(text, dtype=np.uint8), **arrays)
    write_bytes(path, buffer.getvalue())


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file atomically: through a temporary file beside it."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
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
            with zipfile.ZipFile(file) as archive:
                return _read_archive(archive)
        except ModelFileError as error:
            raise ModelFileError(f"{path}: {error}") from None
        except Exception as error:  # whatever zip, the headers of arrays and JSON say of damaged bytes
            detail = f" ({error})" if str(error) else ""
            raise ModelFileError(f"{path} is not a model file of pynode, or is damaged{detail}") from None


def _read_archive(archive: zipfile.ZipFile) -> Any:
    """The content of an open file, checked."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if not info.filename.endswith(".npy") or info.filename in members:
            raise ModelFileError(f"unexpected member {info.filename!r}: not a model file")
        members[info.filename.removesuffix(".npy")] = info
    if "header" not in members:
        raise ModelFileError("it has no header: not a model file of pynode")
    if sum(info.file_size for info in members.values()) > MAX_BYTES:
        raise ModelFileError(f"more than {MAX_BYTES >> 20} MiB unpacked: not a model file")
    header = json.loads(
        _read_array(archive, members.pop("header"), np.dtype(np.uint8), None).tobytes().decode("utf-8"),
        parse_constant=_refuse_constant,
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
    declared = header["arrays"]
    if set(declared) != set(members):
        raise ModelFileError("the arrays are not those that the header lists")
    arrays: dict[str, NDArray[Any]] = {}
    for name, (dtype, shape) in declared.items():
        if dtype not in TYPES:
            raise ModelFileError(f"array {name!r} has type {dtype!r}, which model files never hold")
        arrays[name] = _read_array(archive, members[name], TYPES[dtype], tuple(shape))
    return _put_arrays(header["content"], arrays)


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
        if stored != dtype or fortran or not good:
            raise ModelFileError(
                f"array {info.filename!r} has type {stored} and shape {found}, "
                f"not {dtype} and {'(n,)' if shape is None else shape}"
            )
        n_bytes = dtype.itemsize
        for n in found:
            n_bytes *= n
        data = member.read(n_bytes) if n_bytes <= info.file_size else b""
        if len(data) != n_bytes or member.read(1):  # reading to the end checks the CRC
            raise ModelFileError(f"array {info.filename!r} is cut short or too long")
    return np.frombuffer(data, dtype=dtype).reshape(found).astype(dtype.newbyteorder("="))


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


def _put_arrays(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """Inverse of `_take_arrays`."""
    if isinstance(value, dict):
        if set(value) == {"$array"}:
            return arrays[value["$array"]]
        if set(value) == {"$float"}:
            return NOT_FINITE[value["$float"]]
        return {key: _put_arrays(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_put_arrays(item, arrays) for item in value]
    return value
