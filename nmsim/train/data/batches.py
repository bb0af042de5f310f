"""Batches of a split, epoch after epoch, that a resumed run sees exactly as the first would have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from nmsim.train.data.checks import DataError, check_integers

Batch = tuple[np.ndarray, np.ndarray]


class Batches:
    """Pairs of (inputs, targets), each of up to `batch` examples.

    Iterating gives what is left of the current epoch, so `for x, y in batches` twice is two epochs and a loop that was
    left early continues where it stopped; `endless` never ends. Epoch e is shuffled by a permutation that depends on e
    and on one key drawn from `rng` at the start: the state is a few integers, and other users of `rng` do not matter.
    A batch counts as done once it has been handed out. Raises DataError when no batch fits or `rng` is missing.
    """

    def __init__(
        self,
        inputs: np.ndarray,
        targets: np.ndarray,
        batch: int,
        rng: np.random.Generator | None = None,
        shuffle: bool = True,
        drop_last: bool = True,
    ):
        check_integers(batch=batch)
        if drop_last and batch > len(inputs):
            raise DataError(f"batch {batch} is larger than the split of {len(inputs)} examples; nothing would be left")
        if shuffle and rng is None:
            raise DataError("shuffled batches need a numpy Generator as rng")
        self.inputs, self.targets, self.batch = inputs, targets, int(batch)
        self.shuffle, self.drop_last = shuffle, drop_last
        self.epoch = 0  # finished ones
        self._position = 0  # examples handed out in the current epoch
        self._key = int(rng.integers(2**63)) if shuffle and rng is not None else 0
        self._order = self._permutation()

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        full, rest = divmod(len(self.inputs), self.batch)
        return full + (1 if rest and not self.drop_last else 0)

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.epoch
        while self.epoch == epoch:
            yield self._take()

    def endless(self) -> Iterator[Batch]:
        """Batches without end, one epoch running into the next."""
        while True:
            yield self._take()

    def state(self) -> dict[str, int]:
        """What `restore` needs to continue from here, as plain integers (fit for JSON)."""
        return {
            "key": self._key,
            "epoch": self.epoch,
            "position": self._position,
            "examples": len(self.inputs),
            "batch": self.batch,
            "shuffle": int(self.shuffle),
            "drop_last": int(self.drop_last),
        }

    def restore(self, state: Mapping[str, int]) -> None:
        """Continue from a saved `state`; raises DataError when it is damaged or of other data."""
        missing = sorted(set(self.state()) - set(state))
        if missing:
            raise DataError(f"the saved state of the batches lacks {', '.join(missing)}")
        for name in ("examples", "batch", "shuffle", "drop_last"):
            if state[name] != self.state()[name]:
                raise DataError(f"the saved batches have {name} {state[name]}, this run has {self.state()[name]}")
        check_integers(least=0, epoch=state["epoch"], key=state["key"])
        check_integers(least=0, most=len(self) * self.batch - 1, position=state["position"])
        if state["position"] % self.batch:
            raise DataError(f"position {state['position']} is no multiple of the batch {self.batch}")
        self._key, self.epoch, self._position = int(state["key"]), int(state["epoch"]), int(state["position"])
        self._order = self._permutation()

    def _permutation(self) -> np.ndarray | None:
        if not self.shuffle:
            return None
        return np.random.default_rng([self._key, self.epoch]).permutation(len(self.inputs))

    def _take(self) -> Batch:
        chosen: slice | np.ndarray = slice(self._position, self._position + self.batch)
        if self._order is not None:
            chosen = self._order[chosen]
        pair = self.inputs[chosen], self.targets[chosen]
        self._position += self.batch
        if self._position >= len(self) * self.batch:
            self.epoch, self._position = self.epoch + 1, 0
            self._order = self._permutation()
        return pair
