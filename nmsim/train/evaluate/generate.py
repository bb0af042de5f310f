"""What a language model says: greedy generation, and the likelihood of words that are put before it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from nmsim.errors import ShapeError
from nmsim.train.data.dataset import IGNORED
from nmsim.train.layers.base import Array, Run, Sparsifier
from nmsim.train.precision import FULL, Precision
from nmsim.train.products import Products

_FILLER = 0  # stands where a causal model does not look yet


class Predictor(Protocol):
    """What gives logits [N, L, V] of the next word for `inputs` [N, L]: a Network, or what stands in for one."""

    def forward(self, run: Run, **inputs: Array) -> Array:
        """The logits."""


@dataclass(frozen=True)
class Reader:
    """A causal model that reads rows of `length` ids, with the recipe that its weights have, `batch` rows at a time."""

    network: Predictor
    length: int
    sparsifier: Sparsifier = field(default_factory=Sparsifier)
    precision: Precision = FULL
    batch: int = 256

    def next_words(self, tokens: Array, at: Array) -> Array:
        """Logits [N, V] of the word that follows position at[N] of rows tokens [N, length]."""
        parts = [self._logits(tokens[i])[np.arange(len(at[i])), at[i]] for i in self._batches(tokens)]
        return np.concatenate(parts)

    def log_odds(self, tokens: Array, targets: Array) -> Array:
        """Logarithm [N, length] of the odds of each target that is not -1, given the ids up to its own; 0 elsewhere."""
        return np.concatenate([_log_odds(self._logits(tokens[i]), targets[i]) for i in self._batches(tokens)])

    def _logits(self, tokens: Array) -> Array:
        run = Run(Products(self.precision), self.sparsifier, training=False)
        return self.network.forward(run, inputs=tokens)

    def _batches(self, tokens: Array) -> list[slice]:
        if tokens.ndim != 2 or not len(tokens) or tokens.shape[1] != self.length:
            raise ShapeError(f"rows of {self.length} ids are read, not an array of shape {tokens.shape}")
        return [slice(i, i + self.batch) for i in range(0, len(tokens), self.batch)]


@dataclass(frozen=True, eq=False)
class Generated:
    """What was said after each prompt: `answers` [N, budget], -1 behind the last word; `ended` [N] by itself in time.

    Neither the prompt nor the end mark is part of an answer.
    """

    answers: Array
    ended: Array


def greedy(reader: Reader, prompts: Array, budget: int, end: int) -> Generated:
    """The likeliest word after each prompt [N, P], again and again until it is `end` or `budget` words are said.

    A prompt shorter than P has -1 behind it. The end mark counts as ending in time if it is word budget + 1 at the
    latest. Raises ShapeError if a prompt is empty or leaves no room for the budget.
    """
    lengths = _lengths(prompts, "prompts")
    if budget < 1 or lengths.min() < 1 or lengths.max() + budget > reader.length:
        raise ShapeError(
            f"prompts of {lengths.min()} to {lengths.max()} ids and {budget} words more do not fit a model that reads "
            f"{reader.length}"
        )
    tokens = _joined(prompts, np.empty((len(prompts), 0), int), reader.length)[0]
    answers = np.full((len(prompts), budget), IGNORED)
    ended = np.zeros(len(prompts), bool)
    for i in range(budget + 1):
        going = np.flatnonzero(~ended)
        if not going.size:
            break
        at = lengths[going] + i
        said = reader.next_words(tokens[going], at - 1).argmax(axis=1)
        ended[going] = said == end
        if i < budget:
            more = said != end
            answers[going[more], i] = tokens[going[more], at[more]] = said[more]
    return Generated(answers, ended)


def log_likelihood(reader: Reader, prompts: Array, answers: Array) -> Array:
    """log P(answer | prompt) [N], the sum over the words of each answer [N, A]; shorter rows have -1 behind them.

    Raises ShapeError if an answer or a prompt is empty, or both together are longer than what is read.
    """
    if (np.minimum(_lengths(prompts, "prompts"), _lengths(answers, "answers")) < 1).any():
        raise ShapeError("the likelihood of an answer needs at least a word of it and of its prompt")
    tokens, targets = _joined(prompts, answers, reader.length)
    return reader.log_odds(tokens, targets).sum(axis=1)


def choose(reader: Reader, prompts: Array, choices: Array) -> Array:
    """The place [N] of the likeliest of the choices [N, C, A] for prompts [N, P]; of equals the first."""
    count, offered, words = choices.shape
    repeated = np.repeat(prompts, offered, axis=0)
    found = log_likelihood(reader, repeated, choices.reshape(count * offered, words))
    return found.reshape(count, offered).argmax(axis=1)


def _lengths(rows: Array, what: str) -> Array:
    """Words in each row [N, P]; raises ShapeError where a word stands behind -1."""
    if rows.ndim != 2 or not len(rows):
        raise ShapeError(f"{what} must be rows of ids, not an array of shape {rows.shape}")
    there = rows != IGNORED
    if (there[:, 1:] & ~there[:, :-1]).any():
        raise ShapeError(f"{what} may have -1 only behind the last word of a row")
    return there.sum(axis=1)


def _joined(prompts: Array, answers: Array, length: int) -> tuple[Array, Array]:
    """Rows [N, length] of prompt and answer, and the targets that ask for the answer alone."""
    if len(prompts) != len(answers):
        raise ShapeError(f"{len(prompts)} prompts, but {len(answers)} answers")
    begins, said = _lengths(prompts, "prompts"), _lengths(answers, "answers")
    if (begins + said).max() > length:
        raise ShapeError(f"a prompt and its answer take {(begins + said).max()} ids; the model reads {length}")
    tokens = np.full((len(prompts), length), _FILLER)
    targets = np.full((len(prompts), length), IGNORED)
    row, column = np.nonzero(prompts != IGNORED)
    tokens[row, column] = prompts[row, column]
    row, column = np.nonzero(answers != IGNORED)
    tokens[row, begins[row] + column] = targets[row, begins[row] + column - 1] = answers[row, column]
    return tokens, targets


def _log_odds(logits: Array, targets: Array) -> Array:
    row, column = np.nonzero(targets != IGNORED)
    chosen: Any = logits[row, column].astype(np.float64)
    chosen -= chosen.max(axis=1, keepdims=True)
    said = chosen[np.arange(len(row)), targets[row, column]]
    out = np.zeros(targets.shape)
    out[row, column] = said - np.log(np.exp(chosen).sum(axis=1))
    return out
