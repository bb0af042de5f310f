"""Scores of generated answers; arrays hold a row of ids each, -1 behind the last word, and never the prompt.

An empty answer is never right, and there is a score for every question that was asked.
"""

from __future__ import annotations

import numpy as np

from nmsim.errors import ShapeError
from nmsim.train.data.dataset import IGNORED

Array = np.ndarray


def exact_match(answers: Array, wanted: Array) -> Array:
    """Whether each answer [N, A] is the wanted one [N, W], word for word and no longer: bool [N]."""
    answers, wanted = _alike(answers, wanted)
    return (answers == wanted).all(axis=1) & _said(answers)


def contains(answers: Array, wanted: Array) -> Array:
    """Whether the words wanted [N, W] stand in the answer [N, A] without a gap: bool [N]. Not the other way round."""
    answers, wanted = _alike(answers, wanted)
    width = answers.shape[1]
    padded = np.concatenate([answers, np.full_like(wanted, IGNORED)], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, width, axis=1)
    fits = (windows == wanted[:, None]) | (wanted[:, None] == IGNORED)
    return fits.all(axis=2).any(axis=1) & _said(answers)


def f1(answers: Array, wanted: Array) -> Array:
    """Harmonic mean [N] of precision and recall of the words, repetitions counted, order ignored.

    2·common / (words said + words wanted), as SQuAD scores answers (Rajpurkar et al. 2016, section 6.1).
    """
    answers, wanted = _alike(answers, wanted)
    return 2 * _common(answers, wanted) / ((answers != IGNORED).sum(axis=1) + (wanted != IGNORED).sum(axis=1))


def same_words(answers: Array, wanted: Array) -> Array:
    """Whether the answer [N, A] has the wanted words [N, W], each as often, in any order: bool [N]."""
    answers, wanted = _alike(answers, wanted)
    common = _common(answers, wanted)
    return (common == (answers != IGNORED).sum(axis=1)) & (common == (wanted != IGNORED).sum(axis=1))


def rising(answers: Array) -> Array:
    """Whether every word of an answer [N, A] has a greater id than the one before it: bool [N]."""
    upward = (np.diff(answers, axis=1) > 0) | (answers[:, 1:] == IGNORED)
    return upward.all(axis=1) & _said(answers)


def perplexity(log_odds: Array) -> float:
    """exp of the mean negative logarithm of the odds, in nats, of all words given; raises ShapeError for none."""
    if not log_odds.size:
        raise ShapeError("the perplexity of no words is not defined")
    return float(np.exp(-np.mean(log_odds)))


def _said(answers: Array) -> Array:
    return (answers != IGNORED).any(axis=1)


def _common(answers: Array, wanted: Array) -> Array:
    """Words in common [N]: the i-th time that a word is wanted counts if it is said i times or more."""
    said = (wanted[:, :, None] == answers[:, None]).sum(axis=2)
    same = wanted[:, :, None] == wanted[:, None]
    time = np.tril(same).sum(axis=2)
    return ((time <= said) & (wanted != IGNORED)).sum(axis=1)


def _alike(answers: Array, wanted: Array) -> tuple[Array, Array]:
    """Both with as many columns; raises ShapeError if there is not one answer for each question."""
    if answers.ndim != 2 or wanted.ndim != 2 or len(answers) != len(wanted):
        raise ShapeError(f"answers {answers.shape} and what is wanted {wanted.shape} must be as many rows")
    if not _said(wanted).all():
        raise ShapeError("a question whose right answer is empty cannot be scored")
    width = max(answers.shape[1], wanted.shape[1])
    return _padded(answers, width), _padded(wanted, width)


def _padded(rows: Array, width: int) -> Array:
    return np.pad(rows, ((0, 0), (0, width - rows.shape[1])), constant_values=IGNORED)
