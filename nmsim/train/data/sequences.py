"""Token sequences with a known best answer: associative recall, and text of a random Markov chain."""

from __future__ import annotations

import numpy as np

from nmsim.train.data.checks import DataError, check_amounts, check_integers, generator
from nmsim.train.data.dataset import IGNORED, Dataset, Split

_FLOOR = 0.02  # share of the uniform distribution in every row, so that each word can follow any two


def recall(
    pairs: int = 8,
    queries: int = 1,
    keys: int = 32,
    values: int = 32,
    train: int = 8192,
    test: int = 1024,
    seed: int | np.random.Generator = 0,
) -> Dataset:
    """Associative recall: `pairs` of key and value, then `queries` of those keys; the target of a query is its value.

    Inputs and targets are [N, 2·pairs + queries] int32; targets are -1 except where a query stands. Ids below `keys`
    are keys, the others values; keys of a row differ, values may repeat. Chance level is 1 / values, and 1 / pairs for
    one who picks among the row's values. Raises DataError for options out of range.
    """
    check_integers(pairs=pairs, keys=keys, values=values, train=train, test=test)
    check_integers(queries=queries, most=pairs)
    if pairs > keys:
        raise DataError(f"{pairs} pairs need as many different keys, and there are only {keys}")
    rng = generator(seed)
    parts = [_recall_split(rng, count, pairs, queries, keys, values) for count in (train, test)]
    words = (*(f"k{i}" for i in range(keys)), *(f"v{i}" for i in range(values)))
    return Dataset("recall", "tokens", parts[0], parts[1], keys + values, {"words": words, "keys": keys})


def _recall_split(rng: np.random.Generator, count: int, pairs: int, queries: int, keys: int, values: int) -> Split:
    shown = rng.permuted(np.tile(np.arange(keys, dtype=np.int32), (count, 1)), axis=1)[:, :pairs]
    held = rng.integers(keys, keys + values, (count, pairs), dtype=np.int32)
    asked = rng.permuted(np.tile(np.arange(pairs), (count, 1)), axis=1)[:, :queries]
    told = np.stack([shown, held], axis=2).reshape(count, 2 * pairs)
    inputs = np.concatenate([told, np.take_along_axis(shown, asked, axis=1)], axis=1)
    targets = np.full_like(inputs, IGNORED)
    targets[:, 2 * pairs :] = np.take_along_axis(held, asked, axis=1)
    return Split(inputs, targets)


def markov(
    vocabulary: int = 32,
    length: int = 64,
    train: int = 4096,
    test: int = 512,
    concentration: float = 0.1,
    seed: int | np.random.Generator = 0,
) -> Dataset:
    """Text of a random chain in which two words decide the odds of the next; targets are the next words.

    Inputs and targets are [N, length] int32; the first target is -1, since one word does not settle its odds, so the
    least mean loss any model can reach on the others is `info["entropy_rate_nats"]` per word. The rows of the chain are
    Dirichlet(`concentration`); smaller is more predictable. `info["transition"]` is [V, V, V] with
    P(c | a, b) at [a, b, c]. Raises DataError for options out of range.
    """
    check_integers(least=2, most=128, vocabulary=vocabulary)
    check_integers(least=2, length=length)
    check_integers(train=train, test=test)
    check_amounts(concentration=concentration)
    if concentration < 1e-3:
        raise DataError(f"concentration must be at least 0.001, not {concentration!r}")
    rng = generator(seed)
    transition = _random_chain(rng, vocabulary, concentration)
    pairs = stationary_pairs(transition)
    parts = [_markov_split(rng, transition, pairs, count, length) for count in (train, test)]
    info = {
        "entropy_rate_nats": entropy_rate_nats(transition, pairs),
        "transition": transition,
        "words": tuple(f"w{i}" for i in range(vocabulary)),
    }
    return Dataset("markov", "tokens", parts[0], parts[1], vocabulary, info)


def stationary_pairs(transition: np.ndarray) -> np.ndarray:
    """How often two words follow each other in the long run [V, V], for a chain [V, V, V] with all entries positive."""
    size = len(transition)
    pairs = np.full((size, size), 1 / size**2)
    for _ in range(10_000):
        after = np.einsum("ab,abc->bc", pairs, transition)
        if abs(after - pairs).sum() < 1e-13:
            break
        pairs = after
    return after / after.sum()


def entropy_rate_nats(transition: np.ndarray, pairs: np.ndarray) -> float:
    """Entropy of the next word given the two before, in nats: Σ π(a, b) H(P(·|a, b)).

    Cover and Thomas, Elements of Information Theory (2006), theorem 4.2.4.
    """
    return float(-(pairs[:, :, None] * transition * np.log(transition)).sum())


def _random_chain(rng: np.random.Generator, size: int, concentration: float) -> np.ndarray:
    rows = rng.dirichlet(np.full(size, concentration), (size, size))
    return (1 - _FLOOR) * rows + _FLOOR / size


def _markov_split(
    rng: np.random.Generator, transition: np.ndarray, pairs: np.ndarray, count: int, length: int
) -> Split:
    size = len(transition)
    upto = transition.cumsum(axis=2)
    text = np.empty((count, length + 1), np.int32)
    start = rng.choice(size * size, count, p=pairs.ravel())
    text[:, 0], text[:, 1] = start // size, start % size
    for i in range(2, length + 1):
        passed = rng.random((count, 1)) > upto[text[:, i - 2], text[:, i - 1]]
        text[:, i] = np.minimum(passed.sum(axis=1), size - 1)
    targets = text[:, 1:].copy()
    targets[:, 0] = IGNORED
    return Split(text[:, :-1].copy(), targets)
