"""Translation as token ids: sentences of a small grammar in English and in a language with other order and endings."""

from __future__ import annotations

import numpy as np

from nmsim.train.data.checks import DataError, check_integers, generator
from nmsim.train.data.dataset import IGNORED, Dataset, Split
from nmsim.train.data.grammar import random_sentence, source_words, target_words, vocabulary

PAD, BOS, EOS = 0, 1, 2
_MARKS = ("<pad>", "<bos>", "<eos>")
_PATIENCE = 5000  # draws in a row without a new sentence before the lengths are called too short

Pair = tuple[tuple[str, ...], tuple[str, ...]]


def translation(
    train: int = 8192,
    test: int = 1024,
    source_length: int = 16,
    target_length: int = 18,
    seed: int | np.random.Generator = 0,
) -> Dataset:
    """Pairs of sentences (see `grammar`), all different, so that no test sentence is in the training split.

    Inputs are English ids [N, source_length] int32: words, end mark, padding. Targets are [N, target_length] int32:
    words, end mark, then -1; `decoder_inputs` makes what a decoder reads from them. Sentences that do not fit are not
    drawn. `classes` is the size of the common vocabulary; `info` has `words`, `pad`, `bos`, `eos`. Raises DataError
    for options out of range, or lengths that leave too few different sentences.
    """
    check_integers(train=train, test=test)
    check_integers(least=4, source_length=source_length, target_length=target_length)
    pairs = _distinct_pairs(generator(seed), train + test, source_length - 1, target_length - 1)
    english, other = vocabulary()
    words = (*_MARKS, *english, *other)
    number = {word: i for i, word in enumerate(words)}
    sources = _rows([source for source, _ in pairs], number, source_length, PAD)
    targets = _rows([target for _, target in pairs], number, target_length, IGNORED)
    splits = Split(sources[:train], targets[:train]), Split(sources[train:], targets[train:])
    info = {"words": words, "pad": PAD, "bos": BOS, "eos": EOS}
    return Dataset("translation", "sequence_to_sequence", *splits, len(words), info)


def decoder_inputs(targets: np.ndarray, bos: int = BOS, pad: int = PAD) -> np.ndarray:
    """What a decoder reads to say `targets` [N, T]: the begin mark, then the targets but the last, -1 as padding."""
    shifted = np.full_like(targets, bos)
    shifted[:, 1:] = np.where(targets[:, :-1] == IGNORED, pad, targets[:, :-1])
    return shifted


def _distinct_pairs(rng: np.random.Generator, count: int, longest_source: int, longest_target: int) -> list[Pair]:
    pairs: dict[tuple[str, ...], tuple[str, ...]] = {}
    misses = 0
    while misses < _PATIENCE:
        sentence = random_sentence(rng)
        source, target = tuple(source_words(sentence)), tuple(target_words(sentence))
        if len(source) > longest_source or len(target) > longest_target or source in pairs:
            misses += 1
            continue
        pairs[source], misses = target, 0
        if len(pairs) == count:
            return list(pairs.items())
    raise DataError(
        f"only {len(pairs)} of {count} different sentences were found with source_length {longest_source + 1} "
        f"and target_length {longest_target + 1}; allow longer sentences or ask for fewer"
    )


def _rows(sentences: list[tuple[str, ...]], number: dict[str, int], length: int, filler: int) -> np.ndarray:
    rows = np.full((len(sentences), length), filler, np.int32)
    for row, sentence in zip(rows, sentences, strict=True):
        row[: len(sentence)] = [number[word] for word in sentence]
        row[len(sentence)] = EOS
    return rows
