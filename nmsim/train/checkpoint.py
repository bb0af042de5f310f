"""Checkpoints: all of a run's state in one npz without pickle, so that a killed run resumes to the same bits."""

from __future__ import annotations

import io
import json
import os
import zipfile
from typing import Any

import numpy as np

from nmsim.errors import NmsimError
from nmsim.files import atomic_write
from nmsim.train.loop import Trainer

FORMAT = "nmsim checkpoint"
VERSION = 1


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
    arrays = _read(path)
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
        "masks": trainer.masks_at_last_evaluation(),
    }
    return parts | ({"recorder": trainer.recorder.state()} if trainer.recorder is not None else {})


def _config(trainer: Trainer) -> dict[str, Any]:
    """The settings that a resumed run must share."""
    config: dict[str, Any] = trainer.config.model_dump(mode="json")
    return {k: v for k, v in config.items() if k not in ("name", "checkpoint_every")}


def _read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as data:
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
