"""What a dataset is: two splits of arrays, what their targets mean, and what could be wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nmsim.errors import unknown
from nmsim.train.data.batches import Batches
from nmsim.train.data.checks import DataError

KINDS = ("images", "signals", "sequence_to_sequence", "tokens")
IGNORED = -1


@dataclass(frozen=True, eq=False)
class Split:
    """Examples: `inputs` and integer `targets`, both with the example on axis 0; a target of -1 is ignored.

    Raises DataError when the two disagree in length, are empty, or when the targets are no integers.
    """

    inputs: np.ndarray
    targets: np.ndarray

    def __post_init__(self) -> None:
        if self.inputs.ndim < 2 or self.targets.ndim < 1:
            raise DataError(f"inputs {self.inputs.shape} and targets {self.targets.shape} need an axis of examples")
        if len(self.inputs) != len(self.targets):
            raise DataError(f"{len(self.inputs)} inputs but {len(self.targets)} targets")
        if not self.inputs.size or not self.targets.size:
            raise DataError("a split needs at least one example")
        if not np.issubdtype(self.targets.dtype, np.integer):
            raise DataError(f"targets must be integers, not {self.targets.dtype}")
        if np.issubdtype(self.inputs.dtype, np.floating) and not np.isfinite(self.inputs).all():
            first = tuple(int(i) for i in np.argwhere(~np.isfinite(self.inputs))[0])
            raise DataError(f"inputs{list(first)} is {self.inputs[first]}; every value must be finite")

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named task. `kind` says what the arrays hold:

    - images: inputs [N, H, W, C] float32, targets [N];
    - signals: inputs [N, L] or [N, L, C] float32, targets [N];
    - tokens: inputs [N, L] ids, targets [N, L] ids or -1 where nothing is asked;
    - sequence_to_sequence: inputs [N, S] ids, targets [N, T] ids, -1 after the end.

    `classes` is the number of classes, or the size of the vocabulary that inputs and targets share.
    `info` holds what else is known of it: `words` (for `decode`), `entropy_rate_nats`, `mean`, `std` and so on.
    Raises DataError for an unknown kind, an array of the wrong rank or a label out of range.
    """

    name: str
    kind: str
    train: Split
    test: Split
    classes: int
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DataError(unknown("kind of data", self.kind, KINDS))
        if self.train.inputs.shape[1:] != self.test.inputs.shape[1:]:
            raise DataError(f"train inputs {self.train.inputs.shape} and test inputs {self.test.inputs.shape} differ")
        for part in ("train", "test"):
            _check_split(part, self.split(part), self.kind, self.classes)

    def split(self, name: str) -> Split:
        """The split called `name`, "train" or "test"; raises DataError for another."""
        if name not in ("train", "test"):
            raise DataError(unknown("split", name, ("train", "test")))
        return self.train if name == "train" else self.test

    def batches(
        self,
        split: str | Split,
        batch: int,
        rng: np.random.Generator | None = None,
        shuffle: bool = True,
        drop_last: bool = True,
    ) -> Batches:
        """The split in batches of `batch` examples; shuffling needs `rng`. See `Batches` for resuming."""
        chosen = self.split(split) if isinstance(split, str) else split
        return Batches(chosen.inputs, chosen.targets, batch, rng, shuffle, drop_last)

    def decode(self, ids: np.ndarray) -> str:
        """The text of a row of ids [L]: it ends at the end mark; padding, begin marks and -1 are left out.

        Raises DataError when this dataset has no words, or for an id outside its vocabulary.
        """
        words = self.info.get("words")
        if words is None:
            raise DataError(f"{self.name}: a dataset of {self.kind} without words has nothing to decode")
        skipped = {IGNORED, self.info.get("pad"), self.info.get("bos")}
        said = []
        for token in np.asarray(ids).ravel().tolist():
            if token == self.info.get("eos"):
                break
            if token in skipped:
                continue
            if not 0 <= token < len(words):
                raise DataError(f"{self.name}: id {token} is outside the vocabulary of {len(words)}")
            said.append(words[token])
        return str(self.info.get("separator", " ")).join(said)


def _check_split(part: str, split: Split, kind: str, classes: int) -> None:
    ranks = {"images": ((4,), 1), "signals": ((2, 3), 1), "tokens": ((2,), 2), "sequence_to_sequence": ((2,), 2)}
    input_ranks, target_rank = ranks[kind]
    if split.inputs.ndim not in input_ranks or split.targets.ndim != target_rank:
        allowed = " or ".join(str(r) for r in input_ranks)
        raise DataError(
            f"{part}: {kind} need inputs of {allowed} axes and targets of {target_rank}, "
            f"not shapes {split.inputs.shape} and {split.targets.shape}"
        )
    if kind == "tokens" and split.inputs.shape != split.targets.shape:
        raise DataError(f"{part}: token inputs {split.inputs.shape} and targets {split.targets.shape} differ in shape")
    _check_range(f"{part} target", split.targets, IGNORED, classes)
    if kind in ("tokens", "sequence_to_sequence"):
        if not np.issubdtype(split.inputs.dtype, np.integer):
            raise DataError(f"{part}: {kind} need integer inputs, not {split.inputs.dtype}")
        _check_range(f"{part} input", split.inputs, 0, classes)


def _check_range(what: str, ids: np.ndarray, low: int, classes: int) -> None:
    wrong = (ids < low) | (ids >= classes)
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        allowed = f"0 to {classes - 1}" + (" or -1" if low == IGNORED else "")
        raise DataError(f"{what}{list(first)} is {int(ids[first])}; allowed: {allowed}")
