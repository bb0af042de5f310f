"""Optimizers, in place on a list of parameters, and schedules of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nmsim.errors import ShapeError, UnsupportedError, unknown
from nmsim.train.layers.base import Parameter
from nmsim.train.parallel import rows_in_parallel

Array = np.ndarray
Update = Callable[..., None]


class Optimizer:
    """Steps parameters by a rule on blocks (value, gradient, *slots), where slots are arrays kept for each parameter.

    Weight decay applies to parameters that decay; parameters without a gradient are left alone.
    """

    slots: tuple[str, ...] = ()

    def __init__(self, weight_decay: float = 0.0):
        self.weight_decay = weight_decay
        self._state: dict[str, Array] = {}

    def step(self, parameters: Iterable[Parameter], learning_rate: float) -> None:
        """One step of every parameter along its gradient."""
        for parameter in parameters:
            if parameter.grad is None:
                continue
            count = self._state.setdefault(f"{parameter.name}/steps", np.zeros((), np.int64))
            count += 1
            decay = self.weight_decay if parameter.decays else 0.0
            slots = (self._slot(parameter, slot) for slot in self.slots)
            arrays = _flat(parameter.value, parameter.grad, *slots)
            rows_in_parallel(self._rule(float(learning_rate) * parameter.rate, decay, int(count)), *arrays)

    def state(self) -> dict[str, Array]:
        """A copy of what is kept, `<parameter>/<slot>` to array, with the number of steps of each parameter."""
        return {name: array.copy() for name, array in self._state.items()}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Go on from a `state()`."""
        self._state = {name: np.array(array) for name, array in state.items()}

    def forget(self, parameter: Parameter, kept: Array) -> None:
        """Set the slots of a parameter to 0 where `kept` is False: of weights that are not there any more."""
        for slot in self.slots:
            if (array := self._state.get(f"{parameter.name}/{slot}")) is not None:
                array *= kept

    def _slot(self, parameter: Parameter, slot: str) -> Array:
        array = self._state.setdefault(f"{parameter.name}/{slot}", np.zeros_like(parameter.value))
        if array.shape != parameter.value.shape:
            raise ShapeError(f"{parameter.name} is {parameter.value.shape}, but its {slot} is {array.shape}")
        return array

    def _rule(self, learning_rate: float, decay: float, step: int) -> Update:
        raise NotImplementedError


class SGD(Optimizer):
    """v = momentum·v + g, w -= rate·v; with Nesterov, w -= rate·(g + momentum·v) (Sutskever et al. 2013)."""

    def __init__(self, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False):
        super().__init__(weight_decay)
        self.momentum, self.nesterov = momentum, nesterov
        self.slots = ("velocity",) if momentum else ()

    def _rule(self, learning_rate: float, decay: float, step: int) -> Update:
        def update(w: Array, g: Array, *velocity: Array) -> None:
            if decay:
                g = g + decay * w
            for v in velocity:
                v *= self.momentum
                v += g
                g = g + self.momentum * v if self.nesterov else v
            w -= learning_rate * g

        return update


class Adam(Optimizer):
    """m and v average g and g²; w -= rate·m̂ / (sqrt(v̂) + eps) (Kingma and Ba 2015, algorithm 1); decay added to g.

    `freeze` keeps v as it is from then on (STEP): w -= rate·m̂ / (sqrt(v̂*) + eps), with v* corrected for its bias as
    at the last step that changed it, or used as it is (`corrected` False).
    """

    slots = ("mean", "square")
    decoupled = False

    def __init__(
        self, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0
    ):  # fmt: skip
        super().__init__(weight_decay)
        self.betas, self.eps = betas, eps
        self.corrected = True

    @property
    def frozen_at(self) -> int | None:
        """The number of steps after which v was frozen, None while it is not."""
        frozen = self._state.get("frozen/steps")
        return None if frozen is None else int(frozen)

    def freeze(self) -> None:
        """Keep v as it is now; a second call changes nothing. Raises UnsupportedError before the first step."""
        if not self._state:
            raise UnsupportedError("Adam's variance cannot be frozen before the first step; let the recipe start later")
        steps = [int(count) for name, count in self._state.items() if name.endswith("/steps")]
        self._state.setdefault("frozen/steps", np.array(max(steps, default=0), np.int64))

    def second_moment_variance(self, parameter: Parameter) -> float:
        """The variance of v over the elements of a parameter."""
        return float(np.var(self._slot(parameter, "square"), dtype=np.float64))

    def variance_change(self, parameters: Iterable[Parameter]) -> float:
        """The mean of |v_t - v_(t-1)| over all elements that the next step will make, from the present gradients."""
        total, count = 0.0, 0
        for parameter in parameters:
            if parameter.grad is not None:
                change = np.square(parameter.grad, dtype=np.float64) - self._slot(parameter, "square")
                total, count = total + (1.0 - self.betas[1]) * float(np.abs(change).sum()), count + change.size
        return total / count if count else 0.0

    def _rule(self, learning_rate: float, decay: float, step: int) -> Update:
        first, second = self.betas
        rate = learning_rate / (1.0 - first**step)
        frozen = self.frozen_at
        since = step if frozen is None else frozen
        root = 1.0 / math.sqrt(1.0 - second**since) if since and (self.corrected or frozen is None) else 1.0

        def update(w: Array, g: Array, m: Array, v: Array) -> None:
            if decay and self.decoupled:
                w *= 1.0 - learning_rate * decay
            elif decay:
                g = g + decay * w
            scratch = g - m
            scratch *= 1.0 - first
            m += scratch
            if frozen is None:
                np.multiply(g, g, out=scratch)
                scratch *= 1.0 - second
                v *= second
                v += scratch
            np.sqrt(v, out=scratch)
            scratch *= root
            scratch += self.eps
            np.divide(m, scratch, out=scratch)
            scratch *= rate
            w -= scratch

        return update


class AutoSwitch:
    """STEP's rule for the step from which Adam's variance is frozen.

    Z_t, the mean of |v_t - v_(t-1)|, averaged over the last 1 / (1 - beta2) steps, is below eps; not before a tenth
    of the run, and at its half at the latest. (Read in a third party's AdamW_STEP; the paper could not be read.)
    """

    def __init__(self, adam: Adam, steps: int):
        self.eps, self.window = adam.eps, round(1.0 / (1.0 - adam.betas[1]))
        self.first, self.last = steps // 10, steps // 2
        self.changes: list[float] = []

    def note(self, change: float) -> None:
        """One more Z_t."""
        self.changes = [*self.changes, change][-self.window :]

    def fires(self, step: int) -> bool:
        """Whether the variance is frozen from this step on."""
        if step < self.first or not self.changes:
            return False
        settled = len(self.changes) == self.window and float(np.mean(self.changes)) < self.eps
        return settled or step >= self.last


class AdamW(Adam):
    """Adam with w -= rate·decay·w apart from the gradient (Loshchilov and Hutter 2019, algorithm 2)."""

    decoupled = True

    def __init__(
        self, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.01
    ):  # fmt: skip
        super().__init__(betas, eps, weight_decay)


class Schedule(Protocol):
    """A learning rate for each step, counted from 0."""

    def rate(self, step: int) -> float:
        """The learning rate of a step."""


@dataclass(frozen=True)
class Constant:
    """`base`, after `warmup` steps of linear growth to it."""

    base: float
    warmup: int = 0

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        return _warmed(self.base, step, self.warmup)


@dataclass(frozen=True)
class Step:
    """`base`, multiplied by `factor` at each of the `milestones` (steps)."""

    base: float
    milestones: tuple[int, ...]
    factor: float = 0.1
    warmup: int = 0

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        passed = sum(step >= milestone for milestone in self.milestones)
        return _warmed(self.base * self.factor**passed, step, self.warmup)


@dataclass(frozen=True)
class Cosine:
    """From `base` at the end of warm-up to `floor` at `steps` by half a cosine (Loshchilov and Hutter 2017, eq. 5)."""

    base: float
    steps: int
    floor: float = 0.0
    warmup: int = 0

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        done = min(max(step - self.warmup, 0) / max(self.steps - self.warmup, 1), 1.0)
        falling = self.floor + (self.base - self.floor) * (1.0 + math.cos(math.pi * done)) / 2.0
        return _warmed(falling, step, self.warmup)


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}
SCHEDULES = ("constant", "step", "cosine")


def make_optimizer(name: str, momentum: float = 0.9, weight_decay: float = 0.0) -> Optimizer:
    """The optimizer of that name, `momentum` for sgd only; raises UnsupportedError for a name that does not exist."""
    if name not in OPTIMIZERS:
        raise UnsupportedError(unknown("optimizer", name, OPTIMIZERS))
    return SGD(momentum, weight_decay) if name == "sgd" else OPTIMIZERS[name](weight_decay=weight_decay)


def make_schedule(
    name: str, rate: float, total: int, warmup: int = 0, every: int | None = None, factor: float = 0.1
) -> Schedule:
    """The schedule of that name over `total` steps; `every` steps the step schedule multiplies by `factor`.

    Raises UnsupportedError for a name that does not exist, or a step schedule without `every`.
    """
    if name not in SCHEDULES:
        raise UnsupportedError(unknown("schedule", name, SCHEDULES))
    if name == "constant":
        return Constant(rate, warmup)
    if name == "cosine":
        return Cosine(rate, total, warmup=warmup)
    if every is None:
        raise UnsupportedError("the step schedule needs `every`, the steps between two drops")
    return Step(rate, tuple(range(every, total, every)), factor, warmup)


def _warmed(rate: float, step: int, warmup: int) -> float:
    return rate * (step + 1) / warmup if step < warmup else rate


def _flat(*arrays: Array) -> tuple[Array, ...]:
    """The arrays as vectors, so that blocks are even; as they are if that would copy one."""
    return tuple(a.reshape(-1) for a in arrays) if all(a.flags.c_contiguous for a in arrays) else arrays
