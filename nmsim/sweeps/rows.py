"""Rows of a sweep as tables and as files: Parquet (with pyarrow), NPZ or CSV, told by the suffix."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmsim.errors import NmsimError, UnsupportedError
from nmsim.files import atomic_write
from nmsim.sweeps.columns import Column

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".parquet", ".npz", ".csv")
META = "__meta__"
CODES = "__codes__"


def frame_of(columns: Mapping[str, Column], figures: Mapping[str, Any], size: int) -> pd.DataFrame:
    """Inputs and figures as a table; columns of texts are categorical."""
    import pandas as pd

    table: dict[str, Any] = {}
    for name, column in columns.items():
        if column.is_numeric:
            table[name] = column.numbers
        else:
            texts = [str(value) for value in column.values]
            distinct = list(dict.fromkeys(texts))
            codes = np.array([distinct.index(text) for text in texts])[column.codes]
            table[name] = categorical(codes, distinct)
    return pd.DataFrame({**table, **figures}, index=pd.RangeIndex(size))


def categorical(codes: np.ndarray, texts: Sequence[str]) -> Any:
    """A column of texts by their codes [points]."""
    import pandas as pd

    return pd.Categorical.from_codes(codes, pd.Index(list(texts)))


def joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all tables in the order of their points."""
    import pandas as pd
    from pandas.api.types import union_categoricals

    columns: dict[str, Any] = {}
    for name in frames[0].columns:
        parts = [frame[name] for frame in frames]
        if all(isinstance(part.dtype, pd.CategoricalDtype) for part in parts):
            columns[name] = union_categoricals(parts)
        else:
            columns[name] = pd.concat(parts, ignore_index=True)
    frame = pd.DataFrame(columns)
    if not frame["point"].is_monotonic_increasing:
        frame = frame.sort_values("point", kind="stable", ignore_index=True)
    frame.attrs = dict(frames[0].attrs)
    return frame


def require_format(path: str | os.PathLike[str]) -> Path:
    """The path if rows can be written in the format of its suffix; raises UnsupportedError otherwise."""
    file = Path(path)
    if file.suffix.lower() not in SUFFIXES:
        raise UnsupportedError(f"{file}: rows are written to a file that ends in {', '.join(SUFFIXES)}")
    if file.suffix.lower() == ".parquet":
        try:
            import_module("pyarrow")
        except ImportError:
            raise UnsupportedError(
                f"{file}: Parquet needs pyarrow (pip install 'nmsim[parquet]'); .npz and .csv do not"
            ) from None
    if file.is_dir():
        raise UnsupportedError(f"{file} is a directory; give a file")
    return file


def save(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write the rows, all or none of them; raises OSError."""
    file = require_format(path)
    match file.suffix.lower():
        case ".csv":
            atomic_write(file, frame.to_csv(index=False))
        case ".npz":
            atomic_write(file, _npz(frame))
        case _:
            buffer = io.BytesIO()
            frame.to_parquet(buffer, index=False)
            atomic_write(file, buffer.getvalue())


def _npz(frame: pd.DataFrame) -> bytes:
    import pandas as pd

    arrays: dict[str, np.ndarray] = {META: np.array(json.dumps(dict(frame.attrs)))}
    for name in frame.columns:
        column = frame[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            arrays[name] = np.array(column.cat.categories.astype(str), dtype=str)
            arrays[CODES + name] = column.cat.codes.to_numpy()
        else:
            arrays[name] = column.to_numpy()
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def load(path: str | os.PathLike[str]) -> pd.DataFrame:
    """The rows of a file; raises NmsimError where there is none, or one that is damaged or half written."""
    import pandas as pd

    file = Path(path)
    if file.suffix.lower() not in SUFFIXES:
        raise UnsupportedError(f"{file}: rows are read from a file that ends in {', '.join(SUFFIXES)}")
    if file.suffix.lower() == ".parquet":
        require_format(file)
    try:
        match file.suffix.lower():
            case ".csv":
                frame = pd.read_csv(file, dtype={"error": str}).fillna({"error": ""})
            case ".npz":
                frame = _from_npz(file)
            case _:
                frame = pd.read_parquet(file)
    except UnsupportedError:
        raise
    except OSError as error:
        raise NmsimError(f"{file}: {error.strerror or error}") from None
    except Exception as error:  # whatever a reader says of bytes that are no such file
        raise NmsimError(f"{file}: damaged or half written, no rows can be read: {error}") from None
    if missing := [name for name in ("point", "error", "sweep") if name not in frame.columns]:
        raise NmsimError(f"{file}: not written by `nmsim sweep`: the column {missing[0]!r} is missing")
    return frame


def _from_npz(file: Path) -> pd.DataFrame:
    import pandas as pd

    with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as data:
        if META not in data.files:
            raise UnsupportedError(f"{file}: not written by `nmsim sweep`")
        table: dict[str, Any] = {}
        for name in data.files:
            if name == META or name.startswith(CODES):
                continue
            coded = CODES + name in data.files
            table[name] = (
                pd.Categorical.from_codes(data[CODES + name], pd.Index(data[name].tolist())) if coded else data[name]
            )
        frame = pd.DataFrame(table)
        frame.attrs = json.loads(str(data[META]))
    return frame
