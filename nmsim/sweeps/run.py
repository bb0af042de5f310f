"""Running a sweep: chunks of points on any executor, each kept when it is done, so that a run can be resumed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, as_completed
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import nmsim
from nmsim.errors import NmsimError, UnsupportedError
from nmsim.sweeps import rows
from nmsim.sweeps.evaluate import evaluate
from nmsim.sweeps.identity import identity
from nmsim.sweeps.points import Points
from nmsim.sweeps.space import SpaceFile, as_space, check_size
from nmsim.workloads.shapes import plural

if TYPE_CHECKING:
    import pandas as pd

LIMIT = 20_000_000
"""Points that a sweep takes unless told to take more."""

SMALLEST, LARGEST, CHUNKS = 512, 1 << 17, 16
"""Points of a chunk: a sixteenth of all, within these bounds; large ones share more ops."""

COUNTED = 4_000_000
"""Points up to which those that satisfy the constraints are counted beforehand."""


@dataclass(frozen=True)
class Shard:
    """The `index`-th (from 1) of `count` parts of a sweep."""

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise UnsupportedError(f"shard {self.index}/{self.count}: shards are numbered from 1 to their count")


def sweep(
    space: SpaceFile | str | os.PathLike[str] | Mapping[str, Any], executor: Executor | None = None, *,
    keep: str | os.PathLike[str] | None = None, shard: Shard | None = None, chunk: int | None = None,
    limit: int = LIMIT, progress: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """A row for each point of `space` (a name, a file, or its entries), in the order of their numbers.

    Columns: `point`, its inputs (SI units), the metrics, `error` (empty where there is none), a `digest` of the
    inputs, the digest `sweep` of all that the rows depend on, and the version `nmsim`; with a baseline also `speedup`,
    `energy_ratio` and `edp_ratio`, the baseline's latency, energy and their product over the point's.

    `executor` is any of the concurrent.futures interface; None runs in this process. Chunks that are done are kept in
    the folder `keep`, and taken from there when their content is the same. Raises NmsimError for a space without
    points or with more than `limit`, and where a worker dies; what was done is then kept.
    """
    chosen, part = as_space(space), shard or Shard()
    points = points_of(chosen)
    check_size(chosen, limit)
    _require_points(points)
    size = chunk or int(np.clip(-(-len(points) // CHUNKS), SMALLEST, LARGEST))
    chunks = range(0, len(points), size)
    if not (starts := chunks[part.index - 1 :: part.count]):
        raise UnsupportedError(
            f"{chosen.name}: shard {part.index}/{part.count} has no points: all {len(points):,} are in "
            f"{plural(len(chunks), 'chunk')} of at most {size:,}, which is the most shards that there can be"
        )
    store = Store(None if keep is None else Path(keep), identity(chosen))
    done = {start: frame for start in starts if (frame := store.load(start, size)) is not None}
    with _bar(sum(min(size, len(points) - start) for start in starts), progress) as bar:
        bar.update(sum(min(size, len(points) - start) for start in done))
        bar.refresh()
        waiting = [start for start in starts if start not in done]
        for start, frame in _results(executor, chosen, store.key, waiting, size):
            store.save(start, size, frame)
            done[start] = frame
            bar.update(min(size, len(points) - start))
    frame = rows.joined([done[start] for start in starts])
    frame.attrs = {"space": chosen.name, "shard": [part.index, part.count]}
    return frame


def chunk_rows(space: SpaceFile, key: str, start: int, stop: int) -> pd.DataFrame:
    """The rows of the points from `start` to before `stop`: what travels to a worker, and back."""
    import pandas as pd

    numbers, columns = points_of(space).table(start, stop)
    found = evaluate(space, columns) if len(numbers) else None
    figures: dict[str, Any] = dict(found.metrics) if found else {name: np.zeros(0) for name in space.metrics}
    if space.baseline:
        figures |= _against(_baseline(space), figures)
    frame = rows.frame_of(columns, figures, len(numbers))
    inputs = frame[list(columns)]
    digest = pd.util.hash_pandas_object(inputs, index=False).to_numpy() ^ np.uint64(int(key[:16], 16))
    size = len(numbers)
    errors = found.errors if found else [""]
    frame.insert(0, "point", numbers)
    frame["error"] = rows.categorical(found.error if found else np.zeros(0, int), errors)
    frame["digest"] = digest
    for name, text in (("sweep", key), ("nmsim", nmsim.__version__)):
        frame[name] = rows.categorical(np.zeros(size, int), [text])
    return frame


@lru_cache(maxsize=4)
def _points(text: str) -> Points:
    return Points(SpaceFile.model_validate_json(text))


def points_of(space: SpaceFile) -> Points:
    """The points of the space, whose axes are read once per process."""
    return _points(space.model_dump_json(by_alias=True, exclude_none=True))


@lru_cache(maxsize=4)
def _baseline_of(text: str) -> dict[str, float]:
    space = SpaceFile.model_validate_json(text)
    found = evaluate(space, points_of(space).baseline())
    if found.error[0]:
        raise UnsupportedError(f"{space.name}: baseline: {found.errors[found.error[0]]}")
    return {name: float(values[0]) for name, values in found.metrics.items()}


def _baseline(space: SpaceFile) -> dict[str, float]:
    return _baseline_of(space.model_dump_json(by_alias=True, exclude_none=True))


def _against(base: dict[str, float], figures: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The baseline's figures over those of the points; more than 1 is better."""
    found = {}
    if "latency_s" in figures:
        found["speedup"] = base["latency_s"] / figures["latency_s"]
    if "energy_j" in figures:
        found["energy_ratio"] = base["energy_j"] / figures["energy_j"]
    if len(found) == 2:
        found["edp_ratio"] = found["speedup"] * found["energy_ratio"]
    return found


class Store:
    """The chunks of a sweep that are done, a file each, named by the content they depend on."""

    def __init__(self, folder: Path | None, key: str):
        self.folder, self.key = folder, key
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            rows.atomic_write(folder / ".writable", "")  # refused now rather than after the first chunk
            (folder / ".writable").unlink(missing_ok=True)

    def path(self, start: int, size: int) -> Path | None:
        """The file of a chunk."""
        return None if self.folder is None else self.folder / f"{self.key}-{start}-{size}.npz"

    def load(self, start: int, size: int) -> pd.DataFrame | None:
        """The rows of a chunk if they are there and whole."""
        path = self.path(start, size)
        if path is None or not path.exists():
            return None
        try:
            return rows.load(path)
        except NmsimError:
            return None

    def save(self, start: int, size: int, frame: pd.DataFrame) -> None:
        """Keep the rows of a chunk; raises NmsimError where the disk is full, saying what is kept."""
        path = self.path(start, size)
        if path is None:
            return
        try:
            rows.save(frame, path)
        except OSError as error:
            kept = len(list(path.parent.glob(f"{self.key}-*.npz")))
            raise NmsimError(f"{path}: {error.strerror or error}; {_resume(kept, path.parent)}") from None


def _resume(kept: int, folder: Path) -> str:
    return f"{kept} finished chunks are kept in {folder}: the same command goes on from there"


def _results(
    executor: Executor | None, space: SpaceFile, key: str, starts: list[int], size: int
) -> Iterator[tuple[int, pd.DataFrame]]:
    """The rows of each chunk as they are done."""
    if executor is None:
        for start in starts:
            yield start, chunk_rows(space, key, start, start + size)
        return
    waiting: dict[Future[pd.DataFrame], int] = {}
    try:
        waiting |= {executor.submit(chunk_rows, space, key, start, start + size): start for start in starts}
        broken = None
        for future in as_completed(list(waiting)):
            if isinstance(future.exception(), BrokenExecutor):
                broken = future.exception()  # raised once all that was done before is kept
                continue
            yield waiting.pop(future), future.result()
        if broken is not None:
            raise broken
    except BrokenExecutor as error:
        raise NmsimError(f"a worker process died ({error}); the same command goes on with what is done") from None
    finally:
        for future in waiting:
            future.cancel()


def _require_points(points: Points) -> None:
    """Raise UnsupportedError where constraints exclude every point, saying which exclude how many."""
    space, size = points.space, len(points)
    if not space.where or size > COUNTED:
        return
    if any(len(points.table(start, start + LARGEST)[0]) for start in range(0, size, LARGEST)):
        return
    alone = []
    for number, constraint in enumerate(space.where):
        only = Points(space.model_copy(update={"where": [constraint]}))
        left = sum(len(only.table(start, start + LARGEST)[0]) for start in range(0, size, LARGEST))
        alone.append(f"where[{number}] alone leaves {left:,}")
    raise UnsupportedError(
        f"{space.name}: 0 of {size:,} points satisfy `where`: {'; '.join(alone)}; loosen or drop what leaves least"
    )


def _bar(total: int, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, unit=" points", unit_scale=True, disable=None if progress else True, smoothing=0.1)


def merge(frames: list[pd.DataFrame], names: list[str]) -> pd.DataFrame:
    """The rows of all shards of one sweep; raises NmsimError for shards of different sweeps, missing or given twice."""
    keys = [sorted(set(frame["sweep"].astype(str))) for frame in frames]
    for name, key in zip(names, keys, strict=True):
        if key != keys[0]:
            raise UnsupportedError(f"{name} is not of the same sweep as {names[0]}: its `sweep` digest differs")
    shards = [tuple(frame.attrs.get("shard", ())) for frame in frames]
    if all(shards):
        missing = sorted(set(range(1, shards[0][1] + 1)) - {index for index, _ in shards})
        if missing:
            raise UnsupportedError(f"shards {', '.join(map(str, missing))} of {shards[0][1]} are missing")
    frame = rows.joined(frames)
    if (twice := frame["point"].duplicated()).any():
        raise UnsupportedError(f"point {frame['point'][twice].iloc[0]} and {int(twice.sum()) - 1} more are given twice")
    frame.attrs = {**frame.attrs, "shard": [1, 1]}
    return frame
