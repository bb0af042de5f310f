"""Checkpoints: all of a run's state in one npz without pickle, so that a killed run resumes to the same bits."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from nmsim.errors import NmsimError
from nmsim.files import atomic_write
from nmsim.train.loop import Trainer

FORMAT = "nmsim checkpoint"
VERSION = 2
MAX_TRACE_BYTES = 2**30
"""What the recorded part of a checkpoint may unpack to."""


class CheckpointError(NmsimError):
    """A checkpoint that cannot be used: unreadable, or of another run."""


def save(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """Write the state of `trainer` to `path`, whole or not at all."""
    meta = {
        "format": FORMAT, "version": VERSION, "step": trainer.step, "config": _config(trainer),
        "rng": trainer.rng.bit_generator.state, "batches": trainer.batches.state(), "losses": trainer.losses,
    }  # fmt: skip
    arrays = {f"parameter/{p.name}": p.value for p in trainer.parameters}
    for part, state in _parts(trainer).items():
        arrays |= {f"{part}/{name}": value for name, value in state.items()}
    meta["digest"] = _digest(meta, arrays)
    buffer = io.BytesIO()
    np.savez(buffer, meta=np.array(json.dumps(meta)), **arrays)  # type: ignore[arg-type]
    atomic_write(path, buffer.getvalue())


def restore(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """Continue `trainer`, freshly made from the same configuration, from the checkpoint at `path`.

    Raises CheckpointError if the file is no checkpoint, damaged, altered, or of a run with other settings; `trainer`
    is then not to be used.
    """
    meta, arrays = _read(path, _most_bytes(trainer))
    try:
        if differing := [k for k, v in _config(trainer).items() if meta["config"].get(k) != v]:
            settings = ", ".join(sorted(differing))
            raise CheckpointError(f"{path}: the checkpoint is of a run with other settings: {settings}")
        _take_up(trainer, meta, arrays)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: damaged: {error!r}") from None


def _take_up(trainer: Trainer, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    groups: dict[str, dict[str, np.ndarray]] = {}
    for key, value in arrays.items():
        part, _, name = key.partition("/")
        groups.setdefault(part, {})[name] = value
    for parameter in trainer.parameters:
        parameter.value[...] = groups["parameter"][parameter.name]
    for name, buffer in trainer.network.buffers().items():
        buffer[...] = groups["buffer"][name]
    trainer.optimizer.restore(groups.get("optimizer", {}))
    trainer.execution.restore(groups.get("execution", {}))
    trainer.resume_masks(groups.get("masks", {}))
    if trainer.switch:
        trainer.switch.changes = groups["switch"]["changes"].tolist()
    if trainer.recorder is not None:
        trainer.recorder.restore(groups["recorder"])
    trainer.rng.bit_generator.state = meta["rng"]
    trainer.batches.restore(meta["batches"])
    trainer.step, trainer.losses = meta["step"], meta["losses"]


def _parts(trainer: Trainer) -> dict[str, dict[str, np.ndarray]]:
    parts = {
        "buffer": trainer.network.buffers(),
        "optimizer": trainer.optimizer.state(),
        "execution": trainer.execution.state(),
        "masks": trainer.masks_last_measured(),
        "switch": {"changes": np.array(trainer.switch.changes)} if trainer.switch else {},
    }
    return parts | ({"recorder": trainer.recorder.state()} if trainer.recorder is not None else {})


def _config(trainer: Trainer) -> dict[str, Any]:
    """The settings that a resumed run must share."""
    config: dict[str, Any] = trainer.config.model_dump(mode="json")
    return {k: v for k, v in config.items() if k not in ("name", "checkpoint_every")}


def _digest(meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of all that a checkpoint holds beside its digest."""
    digest = hashlib.sha256(json.dumps({k: v for k, v in meta.items() if k != "digest"}, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
    return digest.hexdigest()


def _read(path: str | os.PathLike[str], limit: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        with open(path, "rb") as file:
            _check_sizes(file, limit)
            with np.load(file, allow_pickle=False) as data:
                arrays = {name: data[name] for name in data.files}
        meta: dict[str, Any] = json.loads(str(arrays.pop("meta")))
        if meta["format"] != FORMAT:
            raise KeyError("format")
        version = meta["version"]
        intact = version != VERSION or meta["digest"] == _digest(meta, arrays)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file") from None
    except (
        OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, TypeError, EOFError, MemoryError,
        NotImplementedError, RuntimeError,
    ) as error:  # fmt: skip
        raise CheckpointError(f"{path}: not a checkpoint of nmsim, or a damaged one ({error})") from None
    if version != VERSION:
        raise CheckpointError(f"{path}: a checkpoint of version {version}; this nmsim reads {VERSION}")
    if not intact:
        raise CheckpointError(f"{path}: the checkpoint was altered: its digest is not that of what it holds")
    return meta, arrays


def _most_bytes(trainer: Trainer) -> int:
    """What the members of a checkpoint of this run may unpack to: state is a few arrays per parameter, and the trace.

    The optimizer keeps at most two arrays of each parameter, the recipe two masks and twice their like.
    """
    kept = sum(p.value.nbytes for p in trainer.parameters) + sum(b.nbytes for b in trainer.network.buffers().values())
    return 16 * kept + MAX_TRACE_BYTES


def _check_sizes(file: BinaryIO, limit: int) -> None:
    """Raise ValueError before anything is unpacked if the members of a zip file say that they are too large."""
    with zipfile.ZipFile(file) as archive:
        total = sum(entry.file_size for entry in archive.infolist())
    if total > limit:
        raise ValueError(f"it unpacks to {total:,} bytes, a checkpoint of this run to {limit:,} at most")
    file.seek(0)
