"""The battery: perplexity of held-out text beside what the model knows, finds, computes and writes.

After LLM-KICK (Jaiswal et al. 2023, arXiv 2310.01382): perplexity alone can hide what pruning has destroyed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from nmsim.errors import UnsupportedError
from nmsim.train.data.checks import DataError, check_integers, generator
from nmsim.train.data.dataset import IGNORED, Dataset
from nmsim.train.data.world import END, TASKS, Items, World
from nmsim.train.evaluate import score
from nmsim.train.evaluate.generate import Generated, Predictor, Reader, choose, greedy
from nmsim.train.evaluate.tasks import Questions, closed_book, open_book, world_of
from nmsim.train.layers.base import Sparsifier
from nmsim.train.precision import FULL, Precision

if TYPE_CHECKING:
    import pandas as pd

    from nmsim.train.loop import Trainer

SPARE_WORDS = 4
"""Words that an answer may be longer than the right one before it is cut off."""


@dataclass(frozen=True)
class Row:
    """A score: the mean over `count` questions (or words, of a perplexity), and what `chance` gives (nan: undefined).

    `split` tells what is asked: things that training saw, or held out of it ("test").
    """

    task: str
    split: str
    metric: str
    value: float
    count: int
    chance: float

    @property
    def name(self) -> str:
        """`task.split.metric`."""
        return f"{self.task}.{self.split}.{self.metric}"


def battery(
    subject: Trainer | Predictor,
    data: Dataset | None = None,
    sparsifier: Sparsifier | None = None,
    seed: int | np.random.Generator = 0,
    prompts: int = 256,
    precision: Precision = FULL,
) -> dict[str, float]:
    """The scores by name, `task.split.metric`; see `measure`, which has the same arguments."""
    return {row.name: row.value for row in measure(subject, data, sparsifier, seed, prompts, precision)}


def measure(
    subject: Trainer | Predictor,
    data: Dataset | None = None,
    sparsifier: Sparsifier | None = None,
    seed: int | np.random.Generator = 0,
    prompts: int = 256,
    precision: Precision = FULL,
) -> list[Row]:
    """Scores of a trainer (its network, data, recipe and precision) or of a network on data `knowledge`.

    Every fact, up to `prompts` questions of each other task and split, drawn from `seed`, and the text of the test
    split. Answers are generated greedily, up to SPARE_WORDS longer than the right one, which is no hint to the model;
    see `tasks` for what is asked and `score` for what is right. Nothing of a trainer is changed. Raises
    UnsupportedError for data without a world, DataError for options out of range.
    """
    from nmsim.train.loop import Trainer

    if isinstance(subject, Trainer):
        if data is not None or sparsifier is not None:
            raise UnsupportedError("a trainer brings its own data and recipe; give its network to judge it with others")
        data, precision = subject.data, subject.precision
        sparsifier, subject = _recipe_of(subject), subject.network
    elif data is None:
        raise UnsupportedError("a network is judged on data; give a dataset 'knowledge'")
    check_integers(prompts=prompts)
    world, rng = world_of(data), generator(seed)
    reader = Reader(subject, data.test.inputs.shape[1], sparsifier or Sparsifier(), precision)
    asked = (*closed_book(world, rng), *open_book(world, rng, prompts))
    return [*_texts(reader, data, world), *(row for questions in asked for row in _answered(reader, questions))]


def to_frame(rows: Iterable[Row]) -> pd.DataFrame:
    """The rows as a table with the columns task, split, metric, value, count and chance."""
    import pandas as pd

    return pd.DataFrame([asdict(row) for row in rows])


def _recipe_of(trainer: Trainer) -> Sparsifier:
    """The recipe as an evaluation sees it: searches made with it leave the trainer's as they are."""
    execution = trainer.execution.snapshot()
    execution.begin_step(trainer.step)
    return execution


def _texts(reader: Reader, data: Dataset, world: World) -> Iterator[Row]:
    """Perplexity of all that the test documents ask for, and of their text; and of text for one who knows the chain."""
    odds, asked = reader.log_odds(data.test.inputs, data.test.targets), data.test.targets != IGNORED
    yield Row("documents", "test", "perplexity", score.perplexity(odds[asked]), int(asked.sum()), float(data.classes))
    rows = data.info["tasks"]["test"] == TASKS.index("text")
    if not rows.any():
        raise DataError(f"none of the {len(rows)} test documents is text; ask for more of them")
    words = asked & rows[:, None]
    chance = float(world.sizes["word"])
    yield Row("text", "test", "perplexity", score.perplexity(odds[words]), int(words.sum()), chance)
    known = _known_odds(world, data.test.inputs[rows], data.test.targets[rows])
    yield Row("text", "test", "least_perplexity", score.perplexity(known), known.size, chance)


def _known_odds(world: World, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The logarithms of the true odds of the words asked for."""
    row, column = np.nonzero(targets != IGNORED)
    told = np.stack([inputs[row, column - 1], inputs[row, column], targets[row, column]]) - world.first["word"]
    return np.log(world.transition[tuple(told)])


def _answered(reader: Reader, questions: Questions) -> Iterator[Row]:
    """Generated answers, scored on what was generated, and choices where there are any."""
    wanted, chance = questions.items.answers, questions.chance
    said = _generated(reader, questions.items)
    yield _row(questions, "exact_match", score.exact_match(said.answers, wanted), chance)
    yield _row(questions, "f1", score.f1(said.answers, wanted), math.nan)
    if questions.task == "sort":
        there = (said.answers != IGNORED).any(axis=1)
        yield _row(questions, "in_order", score.rising(said.answers), math.nan)
        yield _row(questions, "same_words", score.same_words(said.answers, wanted), math.nan)
        yield _row(questions, "ended", said.ended & there, math.nan)
    if questions.offered is not None and questions.labelled is not None:
        among = 1 / questions.offered.shape[1]
        chosen = choose(reader, questions.items.prompts, questions.offered[:, :, None])
        yield _row(questions, "choice_by_likelihood", chosen == questions.right, among)
        labels = _generated(reader, questions.labelled)
        right = score.exact_match(labels.answers, questions.labelled.answers)
        yield _row(questions, "choice_by_generation", right, among)


def _generated(reader: Reader, items: Items) -> Generated:
    """Answers that may be longer than the right one, by a word at least, so that one that does not end is wrong."""
    budget = min(items.answers.shape[1] + SPARE_WORDS, reader.length - items.prompts.shape[1])
    return greedy(reader, items.prompts, budget, END)


def _row(questions: Questions, metric: str, scores: np.ndarray, chance: float) -> Row:
    return Row(questions.task, questions.split, metric, float(scores.mean()), len(scores), chance)
