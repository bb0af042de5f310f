"""Writing files all or none: a file on disk is whole, or as it was before."""

from __future__ import annotations

import errno
import glob
import os
from collections.abc import Mapping
from pathlib import Path

from nmsim.errors import NmsimError


def require_directory(path: str | os.PathLike[str]) -> Path:
    """`path` if it is a directory or may become one; raises NmsimError if something else stands there."""
    directory = Path(path)
    for place in (directory, *directory.parents):
        if place.exists():
            if not place.is_dir():
                raise NmsimError(f"{place} is a file, not a directory to write to")
            break
    return directory


def atomic_write(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write a file so that it is either whole or as it was before; raises OSError."""
    write_files(Path(path).parent, {Path(path).name: data})


def temporaries(path: str | os.PathLike[str]) -> list[Path]:
    """What processes that were killed while they wrote this file have left beside it."""
    file = Path(path)
    return list(file.parent.glob(f".{glob.escape(file.name)}.*.tmp"))


def write_files(directory: str | os.PathLike[str], contents: Mapping[str, bytes | str]) -> None:
    """Write files into a directory, made if needed; if one cannot be written, none appears. Raises OSError."""
    folder = require_directory(directory)
    if named := next((folder / name for name in contents if (folder / name).is_dir()), None):
        raise IsADirectoryError(errno.EISDIR, "is a directory; name a file in it", str(named))
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    waiting = {folder / f".{name}.{os.getpid()}.tmp": folder / name for name in contents}
    try:
        for (temporary, final), data in zip(waiting.items(), contents.values(), strict=True):
            _write(temporary, final, data if isinstance(data, bytes) else data.encode())
        for temporary, final in waiting.items():
            temporary.replace(final)
    except BaseException:
        for temporary in waiting:
            temporary.unlink(missing_ok=True)
        _remove_empty(missing)
        raise


def _write(temporary: Path, final: Path, data: bytes) -> None:
    try:
        temporary.write_bytes(data)
    except OSError as error:  # a full disk: the error names no file
        raise OSError(error.errno, error.strerror or str(error), str(final)) from error


def _remove_empty(folders: list[Path]) -> None:
    """Remove the folders, innermost first, as far as they are empty."""
    try:
        for folder in folders:
            folder.rmdir()
    except OSError:
        return
