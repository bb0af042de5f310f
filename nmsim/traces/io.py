"""Traces on disk: an npz file without pickle, the same bytes for the same trace, refused unless whole and unaltered."""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nmsim.files import atomic_write
from nmsim.traces.decode import check_schema, decode
from nmsim.traces.schema import MAX_ROWS, TABLES, Trace, TraceError, canonical_json, disk_dtype, parts
from nmsim.traces.state import plain

META = "meta"
MAX_FILE_BYTES = 2**28
MAX_META_BYTES = 2**26
MAX_TOTAL_BYTES = 2**31
_LEVEL = 6
_EPOCH = (1980, 1, 1, 0, 0, 0)
_HEADER_BYTES = 128  # of an npy file of version 1.0 with a one-dimensional array of numbers
_DTYPES = {META: disk_dtype(np.uint8)} | {
    f"{table}.{column}": disk_dtype(kind) for table, columns in TABLES.items() for column, kind in columns.items()
}
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError, KeyError,
    IndexError, OverflowError, OSError,
)  # fmt: skip
"""What zipfile raises for files that are damaged in one way or another."""


def save(trace: Trace, path: str | os.PathLike[str]) -> None:
    """Write a trace, so that the file is whole or as it was before; raises TraceError if too large, OSError."""
    atomic_write(path, to_bytes(trace))


def to_bytes(trace: Trace) -> bytes:
    """The contents of the file of a trace: the same for the same trace, as zip entries bear no time."""
    meta, arrays = parts(trace)
    text = canonical_json(meta | {"digest": trace.digest}).encode()
    members = {META: np.frombuffer(text, np.uint8), **arrays}
    contents = {name: _header(_DTYPES[name], len(values)) + values.tobytes() for name, values in members.items()}
    for name, data in contents.items():
        if len(data) > _limit(name):
            raise TraceError(f"too large for a file: {name} has {len(data):,} bytes, above {_limit(name):,}")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in contents.items():
            entry = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o600 << 16
            archive.writestr(entry, data, compresslevel=_LEVEL)
    if len(buffer.getbuffer()) > MAX_FILE_BYTES:
        raise TraceError(f"too large for a file: {len(buffer.getbuffer()):,} bytes, above {MAX_FILE_BYTES:,}")
    return buffer.getvalue()


def load_trace(path: str | os.PathLike[str]) -> Trace:
    """The trace in a file; raises TraceError, naming the file, for one that is not whole, altered, newer or foreign."""
    try:
        return from_bytes(_read(path))
    except TraceError as error:
        raise TraceError(error.message, path) from None


def from_bytes(raw: bytes) -> Trace:
    """The trace that `to_bytes` was given; raises TraceError for anything else."""
    if not raw:
        raise TraceError("the file is empty")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            return _decode(archive)
    except TraceError:
        raise
    except zipfile.BadZipFile as error:
        raise TraceError(f"not an npz file, or damaged, or cut off: {error}") from None
    except _DAMAGE as error:
        raise TraceError(f"damaged: {error}") from None


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        with Path(path).open("rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise TraceError("cannot be read: not a file")
            raw = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise TraceError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise TraceError(f"the file is larger than {MAX_FILE_BYTES:,} bytes")
    return raw


def _decode(archive: zipfile.ZipFile) -> Trace:
    """Meta first: it says whether the other members can be known."""
    entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
    if META not in entries:
        raise TraceError(f"not a trace of nmsim: an npz file without {META!r}")
    meta = _meta(_array(archive, META, entries[META]))
    check_schema(meta)
    return decode(meta, dict(_arrays(archive, entries)))


def _arrays(archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo]) -> Iterator[tuple[str, np.ndarray]]:
    if len(entries) != len(archive.infolist()):
        raise TraceError("damaged: two members have one name")
    if odd := sorted(entries.keys() ^ _DTYPES.keys()):
        what = "unknown" if odd[0] in entries else "missing"
        raise TraceError(f"damaged: the member {odd[0]!r:.60} is {what}")
    total = sum(entry.file_size for entry in entries.values())
    if total > MAX_TOTAL_BYTES:
        raise TraceError(f"too large: it unpacks to {total:,} bytes, above {MAX_TOTAL_BYTES:,}")
    return ((name, _array(archive, name, entries[name])) for name in _DTYPES if name != META)


def _array(archive: zipfile.ZipFile, name: str, entry: zipfile.ZipInfo) -> np.ndarray:
    """A member, its size checked before it is unpacked and its header against its size; nothing is ever unpickled."""
    if entry.file_size > _limit(name):
        raise TraceError(f"too large: {name!r} unpacks to {entry.file_size:,} bytes, above {_limit(name):,}")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
        raise TraceError(f"damaged: {name!r} is packed in another way than nmsim does")
    with archive.open(entry) as stream:
        raw = stream.read(entry.file_size + 1)
    dtype, size = _DTYPES[name], entry.file_size - _HEADER_BYTES
    if len(raw) != entry.file_size or size < 0 or size % dtype.itemsize:
        raise TraceError(f"damaged: {name!r} is not as long as it says")
    if raw[:_HEADER_BYTES] != _header(dtype, size // dtype.itemsize):
        raise TraceError(f"damaged: {name!r} is not a one-dimensional array of {dtype.name} of its length")
    return np.frombuffer(raw, dtype, offset=_HEADER_BYTES)


def _meta(array: np.ndarray) -> Any:
    try:
        return plain(array.tobytes().decode())
    except (ValueError, RecursionError) as error:
        raise TraceError(f"damaged: {META!r} is not JSON: {error}") from None


def _header(dtype: np.dtype, length: int) -> bytes:
    """The npy header of an array [length]; there is exactly one, so that it need not be parsed."""
    text = repr({"descr": dtype.str, "fortran_order": False, "shape": (length,)}).replace("}", ", }")
    start = b"\x93NUMPY\x01\x00" + struct.pack("<H", _HEADER_BYTES - 10)
    return start + text.encode().ljust(_HEADER_BYTES - 11) + b"\n"


def _limit(name: str) -> int:
    """Unpacked bytes of a member at most."""
    return MAX_META_BYTES if name == META else _HEADER_BYTES + MAX_ROWS * _DTYPES[name].itemsize
