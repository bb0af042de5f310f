"""The training loop: steps, evaluations, statistics for the trace, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from nmsim.errors import NmsimError, UnsupportedError
from nmsim.sparsity.parts import STAGES, Stage
from nmsim.traces.recorder import Recorder
from nmsim.traces.schema import Trace
from nmsim.train.config import TrainingFile
from nmsim.train.data.dataset import Dataset
from nmsim.train.data.load import load_data
from nmsim.train.layers.base import Parameter, Run, Sparsifier
from nmsim.train.loss import softmax_cross_entropy
from nmsim.train.memory import keep_freed_memory
from nmsim.train.optim import Adam, AutoSwitch, make_optimizer, make_schedule
from nmsim.train.precision import get_precision
from nmsim.train.products import Products
from nmsim.train.recipes.calibration import Watcher
from nmsim.train.recipes.execution import Execution
from nmsim.train.recipes.statistics import changes
from nmsim.train.tasks import network_for, network_inputs
from nmsim.train.update import record_updates, rule_name
from nmsim.workloads.search_ops import CALIBRATION_SAMPLES

EVALUATION_BATCH = 256


class DivergedError(NmsimError):
    """Training produced a value that is not finite; the message names layer, stage and step."""


class Trainer:
    """A training run in progress: everything that a checkpoint has to keep, and nothing else that changes."""

    def __init__(self, config: TrainingFile, data: Dataset | None = None, record: bool = True):
        keep_freed_memory()
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
            self.model, config.described, config.pattern, config.keep_dense, config.start, self.recorder,
            config.steps, config.seed,
        )  # fmt: skip
        recipe = self.execution.recipe
        if recipe.prunes and not self.execution.prunes_anything:
            raise UnsupportedError(
                f"recipe {recipe.name!r} with {config.pattern} prunes nothing of {self.network.name!r}: all is dense"
            )
        self.optimizer = make_optimizer(**config.optimizer.model_dump())
        self.switch = AutoSwitch(self.optimizer, config.steps) if isinstance(self.optimizer, Adam) else None
        self.schedule = make_schedule(total=config.steps, **config.schedule.model_dump())
        self.batches = self.data.batches("train", config.batch, order)
        self.weights = {p.name.removesuffix(".weight"): p for p in self.network.parameters()}
        self.execution.attach(self.weights)
        self.parameters = [*self.network.parameters(), *self.execution.parameters()]
        self.step = 0
        self.losses: list[float] = []
        self.last_evaluation: tuple[int, float, float, float] | None = None
        self._masks: dict[tuple[str, Stage], np.ndarray] = {}
        self._measured = -1

    def train(self, steps: int | None = None, on_step: Callable[[Trainer], None] | None = None) -> None:
        """Run `steps` more (default: to the end), evaluating on the way; raises DivergedError."""
        last = self.config.steps if steps is None else min(self.config.steps, self.step + steps)
        stream = self.batches.endless()
        while self.step < last:
            self.one_step(*next(stream))
            if self.config.measure_every and self.step % self.config.measure_every == 0:
                self.measure()
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
        self._prepare()
        run = Run(Products(self.precision, self.recorder), self.execution, True, self.rng)
        logits = self.network.forward(run, **self._inputs(inputs, targets))
        loss, gradient, _ = softmax_cross_entropy(logits, targets, self.config.smoothing)
        if not math.isfinite(loss):
            raise self._diverged(run, logits)
        self.network.backward(run, gradient)
        self._check_finite()
        self._freeze()
        if self.execution.course.waits and isinstance(self.optimizer, Adam) and self.switch:
            self.switch.note(self.optimizer.variance_change(self.parameters))
        self.optimizer.step(self.parameters, rate)
        self.execution.end_step(self.weights, self._forget)
        if self.recorder is not None:
            record_updates(self.recorder, self.model, self.execution, self.config, self.parameters)
        if self.step + 1 == self.config.steps:
            self.finish()
        if self.recorder is not None:
            self.recorder.end_step()
        self.step += 1
        self.losses.append(loss)
        self._masks = {**self.execution.masks, **self._masks}  # changes are counted from the first mask on
        return loss

    def evaluate(self, split: str = "test", judge: Sparsifier | None = None) -> tuple[float, float]:
        """Loss and accuracy on a split, forward weights as the recipe, or another `judge`, has them; the run itself is
        left untouched."""
        judge = judge or self._judge()
        run = Run(Products(self.precision), judge, training=False)
        total, right, counted = 0.0, 0.0, 0
        for inputs, targets in self._evaluation_batches(split):
            logits = self.network.forward(run, **self._inputs(inputs, targets))
            loss, _, accuracy = softmax_cross_entropy(logits, targets)
            n = int(np.count_nonzero(targets >= 0))
            total, right, counted = total + loss * n, right + accuracy * n, counted + n
        return total / counted, right / counted

    def _judge(self) -> Execution:
        """The recipe as it stands."""
        judge = self.execution.snapshot()
        judge.begin_step(self.step)
        self._collect_inputs(judge)
        return judge

    def _prepare(self) -> None:
        """What a recipe needs before a step: the inputs of layers for one-shot masks, Adam's variance held still."""
        self._collect_inputs(self.execution)
        if self.execution.recipe.freeze_variance:
            self._hold_variance()

    def finish(self) -> None:
        """Masks that a recipe finds after the last update, which is a part of the last step."""
        if self.execution.timeline.start == self.config.steps:
            self.execution.begin_step(self.config.steps)
            self._collect_inputs(self.execution)
            self.execution.prune_now(self.weights)

    def _collect_inputs(self, execution: Execution) -> None:
        """If the recipe wants them, run calibration batches, and give it the statistics of the inputs of layers."""
        if not execution.wants_inputs():
            return
        watch = Watcher(self.network, execution.recipe)
        run = Run(Products(self.precision), watch, training=False)
        part = self.data.split("train")
        for start in range(0, min(len(part), CALIBRATION_SAMPLES), EVALUATION_BATCH):
            rows = slice(start, min(start + EVALUATION_BATCH, CALIBRATION_SAMPLES))
            self.network.forward(run, **self._inputs(part.inputs[rows], part.targets[rows]))
        execution.see_inputs(watch.statistics)

    def _hold_variance(self) -> None:
        """Stop Adam's second moments from the recipe's start on; with `start: auto` decide whether this is it."""
        assert isinstance(self.optimizer, Adam)
        assert self.switch is not None
        if self.execution.course.waits and self.switch.fires(self.step):
            self.execution.course.start_at(self.step)
        if not self.execution.course.waits and self.step >= self.execution.timeline.start:
            self.optimizer.freeze()

    def _freeze(self) -> None:
        """Forget the gradients of what the recipe does not train at this step."""
        if self.execution.freezes_weights():
            for parameter in self.network.parameters():
                parameter.grad = None

    def _forget(self, layer: str, kept: np.ndarray) -> None:
        """Clear what the optimizer remembers of weights that are not kept."""
        self.optimizer.forget(self.weights[layer], kept)

    def record_evaluation(self) -> tuple[float, float]:
        """Evaluate on the test split, and note it with the statistics since the last time."""
        loss, accuracy = self.evaluate()
        train_loss = float(np.mean(self.losses)) if self.losses else math.nan
        self.last_evaluation = (self.step, train_loss, loss, accuracy)
        if self.recorder is not None:
            self.recorder.evaluation(self.step, train_loss, loss, accuracy, self.schedule.rate(self.step - 1))
            self.measure()
        self.losses = []
        return loss, accuracy

    def trace(self) -> Trace:
        """What the run has done so far."""
        if self.recorder is None:
            raise NmsimError("this run was not recorded")
        config, course = self.config.model_dump(mode="json"), self.execution.course
        return self.recorder.finish({
            "model": self.network.name, "recipe": course.recipe.name, "pattern": self.config.pattern,
            "batch": self.config.batch, "dtype": self.config.precision, "optimizer": rule_name(self.config),
            "seed": self.config.seed, "steps": self.step, "data": self.data.name, "config": config,
            "described": course.recipe.model_dump(mode="json", exclude_defaults=True),
            "first_sparse_step": course.first_sparse_step, "start": course.timeline.start,
            "calibration": min(len(self.data.split("train")), CALIBRATION_SAMPLES),
            "left_dense": dict(course.left_dense), "found": [list(found) for found in course.found],
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

    def measure(self) -> None:
        """Note the statistics of each layer since the last time: masks, and what is known of gradients."""
        if self.recorder is None or self.step == self._measured:
            return
        self._measured = self.step
        moved = changes(self._masks, self.execution.masks)
        self._masks = dict(self.execution.masks)
        for parameter in self.parameters:
            layer, _, kind = parameter.name.rpartition(".")
            if kind != "weight" or parameter.grad is None or parameter.value.ndim < 2:
                continue
            noise = self._noise(parameter)
            for stage in ("FF", "BP"):
                if self.recorder.knows(layer, stage, "b"):
                    change = moved.get((layer, stage))
                    flips, churn = (change.flips, change.churn) if change else (0, math.nan)
                    self.recorder.interval(layer, stage, "b", mask_flips=flips, mask_churn=churn, **noise)

    def _noise(self, parameter: Parameter) -> dict[str, float]:
        """Norm and variance of the last gradient, and the variance of Adam's second moment over the layer."""
        assert parameter.grad is not None
        noise = {
            "gradient_norm": float(np.linalg.norm(parameter.grad)),
            "gradient_variance": float(np.var(parameter.grad, dtype=np.float64)),
        }
        if isinstance(self.optimizer, Adam):
            noise["second_moment_variance"] = self.optimizer.second_moment_variance(parameter)
        return noise

    def masks_last_measured(self) -> dict[str, np.ndarray]:
        """The masks that changes are counted from, by `stage/layer`."""
        return {f"{stage}/{layer}": mask for (layer, stage), mask in self._masks.items()}

    def resume_masks(self, masks: Mapping[str, np.ndarray]) -> None:
        """Take up what `masks_last_measured` gave."""
        self._masks = {
            (name.removeprefix(f"{stage}/"), stage): mask
            for stage in STAGES for name, mask in masks.items() if name.startswith(f"{stage}/")
        }  # fmt: skip

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
