"""Checkpoints: all of a run's state in one npz without pickle, so that a killed run resumes to the same bits."""

from __future__ import annotations

import io
import json
import os
import zipfile
from typing import Any, BinaryIO

import numpy as np

from nmsim.errors import NmsimError
from nmsim.files import atomic_write
from nmsim.train.loop import Trainer

FORMAT = "nmsim checkpoint"
VERSION = 1
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
    arrays: dict[str, np.ndarray] = {"meta": np.array(json.dumps(meta))}
    arrays |= {f"parameter/{p.name}": p.value for p in trainer.parameters}
    for part, state in _parts(trainer).items():
        arrays |= {f"{part}/{name}": value for name, value in state.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    atomic_write(path, buffer.getvalue())


def restore(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """Continue `trainer`, freshly made from the same configuration, from the checkpoint at `path`.

    Raises CheckpointError if the file is no checkpoint, damaged, or of a run with other settings.
    """
    arrays = _read(path, _most_bytes(trainer))
    meta = json.loads(str(arrays.pop("meta")))
    if differing := [k for k, v in _config(trainer).items() if meta["config"].get(k) != v]:
        raise CheckpointError(f"{path}: the checkpoint is of a run with other settings: {', '.join(sorted(differing))}")
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


def _read(path: str | os.PathLike[str], limit: int) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file:
            _check_sizes(file, limit)
            with np.load(file, allow_pickle=False) as data:
                arrays = {name: data[name] for name in data.files}
        meta = json.loads(str(arrays["meta"]))
        if meta["format"] != FORMAT:
            raise KeyError("format")
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file") from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, TypeError, EOFError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of nmsim, or a damaged one ({error})") from None
    if meta["version"] != VERSION:
        raise CheckpointError(f"{path}: a checkpoint of version {meta['version']}; this nmsim reads {VERSION}")
    return arrays


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
