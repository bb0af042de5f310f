"""The training loop: steps, evaluations, statistics for the trace, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from nmsim.errors import NmsimError, UnsupportedError
from nmsim.traces.recorder import Recorder
from nmsim.traces.schema import Trace
from nmsim.train.config import TrainingFile
from nmsim.train.data.dataset import Dataset
from nmsim.train.data.load import load_data
from nmsim.train.layers.base import Run
from nmsim.train.loss import softmax_cross_entropy
from nmsim.train.optim import make_optimizer, make_schedule
from nmsim.train.precision import get_precision
from nmsim.train.products import Products
from nmsim.train.recipes.execution import Execution
from nmsim.train.recipes.statistics import changes
from nmsim.train.tasks import network_for, network_inputs
from nmsim.train.update import record_updates, rule_name

EVALUATION_BATCH = 256


class DivergedError(NmsimError):
    """Training produced a value that is not finite; the message names layer, stage and step."""


class Trainer:
    """A training run in progress: everything that a checkpoint has to keep, and nothing else that changes."""

    def __init__(self, config: TrainingFile, data: Dataset | None = None, record: bool = True):
        self.config = config
        self.precision = get_precision(config.precision)
        self.data = data or load_data(config.data.name, seed=config.seed, **config.data.options)
        seeds = np.random.SeedSequence(config.seed).spawn(3)
        init, order, self.rng = (np.random.default_rng(s) for s in seeds)
        self.network = network_for(self.data, config.model.name, config.model.sizes, init)
        self.network.cast(self.precision.working)
        self.model = self.network.plan(config.batch)
        self.recorder = Recorder(config.check_every, config.precision) if record else None
        self.execution = Execution.of(
            self.model, config.recipe, config.pattern, config.keep_dense, config.start, self.recorder
        )
        if self.execution.recipe.prunes and not self.execution.prunes_anything:
            raise UnsupportedError(
                f"recipe {config.recipe!r} with {config.pattern} prunes nothing of {self.network.name!r}: all is dense"
            )
        self.optimizer = make_optimizer(**config.optimizer.model_dump())
        self.schedule = make_schedule(total=config.steps, **config.schedule.model_dump())
        self.batches = self.data.batches("train", config.batch, order)
        self.parameters = list(self.network.parameters())
        self.step = 0
        self.losses: list[float] = []
        self.last_evaluation: tuple[int, float, float, float] | None = None
        self._masks: dict[tuple[str, str], np.ndarray] = {}
        self._judge = Execution.of(self.model, config.recipe, config.pattern, config.keep_dense, config.start)

    def train(self, steps: int | None = None, on_step: Callable[[Trainer], None] | None = None) -> None:
        """Run `steps` more (default: to the end), evaluating on the way; raises DivergedError."""
        last = self.config.steps if steps is None else min(self.config.steps, self.step + steps)
        stream = self.batches.endless()
        while self.step < last:
            self.one_step(*next(stream))
            if self.step % self.config.evaluate_every == 0 or self.step == self.config.steps:
                self.record_evaluation()
            if on_step is not None:
                on_step(self)

    def one_step(self, inputs: np.ndarray, targets: np.ndarray) -> float:
        """Forward, backward and update on one batch; the loss. A step that overflows raises DivergedError."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return self._one_step(inputs, targets)

    def _one_step(self, inputs: np.ndarray, targets: np.ndarray) -> float:
        rate = self.schedule.rate(self.step)
        self.execution.begin_step(self.step)
        run = Run(Products(self.precision, self.recorder), self.execution, True, self.rng)
        logits = self.network.forward(run, **self._inputs(inputs, targets))
        loss, gradient, _ = softmax_cross_entropy(logits, targets, self.config.smoothing)
        if not math.isfinite(loss):
            raise self._diverged(run, logits)
        self.network.backward(run, gradient)
        self._check_finite()
        self.optimizer.step(self.parameters, rate)
        if self.recorder is not None:
            record_updates(self.recorder, self.model, self.execution, self.config, self.parameters)
            self.recorder.end_step()
        self.step += 1
        self.losses.append(loss)
        return loss

    def evaluate(self, split: str = "test") -> tuple[float, float]:
        """Loss and accuracy on a split, forward weights as the recipe has them; the run itself is left untouched."""
        self._judge.restore(self.execution.state())
        self._judge.begin_step(self.step)
        run = Run(Products(self.precision), self._judge, training=False)
        total, right, counted = 0.0, 0.0, 0
        for inputs, targets in self._evaluation_batches(split):
            logits = self.network.forward(run, **self._inputs(inputs, targets))
            loss, _, accuracy = softmax_cross_entropy(logits, targets)
            n = int(np.count_nonzero(targets >= 0))
            total, right, counted = total + loss * n, right + accuracy * n, counted + n
        return total / counted, right / counted

    def record_evaluation(self) -> tuple[float, float]:
        """Evaluate on the test split, and note it with the statistics since the last time."""
        loss, accuracy = self.evaluate()
        train_loss = float(np.mean(self.losses)) if self.losses else math.nan
        self.last_evaluation = (self.step, train_loss, loss, accuracy)
        if self.recorder is not None:
            self.recorder.evaluation(self.step, train_loss, loss, accuracy, self.schedule.rate(self.step - 1))
            self._record_intervals()
        self.losses = []
        return loss, accuracy

    def trace(self) -> Trace:
        """What the run has done so far."""
        if self.recorder is None:
            raise NmsimError("this run was not recorded")
        config = self.config.model_dump(mode="json")
        return self.recorder.finish({
            "model": self.network.name, "recipe": self.config.recipe, "pattern": self.config.pattern,
            "batch": self.config.batch, "dtype": self.config.precision, "optimizer": rule_name(self.config),
            "seed": self.config.seed, "steps": self.step, "data": self.data.name, "config": config,
        })  # fmt: skip

    def _inputs(self, inputs: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
        read = network_inputs(self.data, self.config.model.name, inputs, targets)
        working = self.precision.working
        return {k: v.astype(working, copy=False) if v.dtype.kind == "f" else v for k, v in read.items()}

    def _evaluation_batches(self, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        part = self.data.split(split)
        for start in range(0, len(part), EVALUATION_BATCH):
            rows = slice(start, start + EVALUATION_BATCH)
            yield part.inputs[rows], part.targets[rows]

    def _record_intervals(self) -> None:
        """Statistics per layer: density and mask flips of the weight, norm and variance of its gradient."""
        assert self.recorder is not None
        moved = changes(self._masks, self.execution.masks)
        self._masks = {place: mask.copy() for place, mask in self.execution.masks.items()}
        for parameter in self.parameters:
            layer, _, kind = parameter.name.rpartition(".")
            if kind != "weight" or parameter.grad is None or parameter.value.ndim < 2:
                continue
            norm, variance = float(np.linalg.norm(parameter.grad)), float(np.var(parameter.grad))
            for stage in ("FF", "BP"):
                flips = moved[layer, stage].flips if (layer, stage) in moved else 0
                if self.recorder.knows(layer, stage, "b"):
                    self.recorder.interval(
                        layer, stage, "b", mask_flips=flips, gradient_norm=norm, gradient_variance=variance
                    )

    def masks_at_last_evaluation(self) -> dict[str, np.ndarray]:
        """The masks that mask flips are counted from, by `stage/layer`."""
        return {f"{stage}/{layer}": mask for (layer, stage), mask in self._masks.items()}

    def resume_masks(self, masks: Mapping[str, np.ndarray]) -> None:
        """Take up what `masks_at_last_evaluation` gave."""
        places = (name.partition("/") for name in masks)
        self._masks = {(layer, stage): masks[f"{stage}/{layer}"] for stage, _, layer in places}

    def _check_finite(self) -> None:
        for parameter in reversed(self.parameters):
            if parameter.grad is not None and not np.isfinite(parameter.grad.sum()):
                raise self._stopped(parameter.name.rpartition(".")[0], "WU")

    def _diverged(self, run: Run, logits: np.ndarray) -> DivergedError:
        """The error that names the first layer whose saved input is not finite, or the last layer."""
        for node in self.network.nodes:
            saved = run.saved.get(node.name)
            if isinstance(saved, np.ndarray) and saved.dtype.kind == "f" and not np.isfinite(saved.sum()):
                return self._stopped(node.name, "FF")
        return self._stopped(self.network.nodes[-1].name, "FF")

    def _stopped(self, layer: str, stage: str) -> DivergedError:
        if self.recorder is not None:
            self.recorder.discard_step()
        return DivergedError(
            f"training diverged at step {self.step + 1}: {layer} {stage} is not finite; "
            "a lower learning rate or a longer warm-up may help"
        )
