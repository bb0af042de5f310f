"""Signals: ten template curves, each example padded, scaled, moved, sheared and noised on its own."""

from __future__ import annotations

import numpy as np

from nmsim.train.data.checks import check_amounts, check_integers, generator
from nmsim.train.data.dataset import Dataset, Split
from nmsim.train.data.images import balanced_labels

# Heights of the ten curves at even steps; they begin and end at rest.
_CURVES = (
    (0, 2, 3, 4, 4, 4, 4, 4, 4, 3, 2, 0),
    (0, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0),
    (0, 2, 4, 2, 0, -2, -4, -2, 0, 0, 0, 0),
    (0, 3, 4, 3, 0, 0, 0, 0, 3, 4, 3, 0),
    (0, 1, 2, 3, 4, -4, -3, -2, -1, 0, 0, 0),
    (0, -3, -4, -3, 0, 3, 4, 3, 0, -3, -2, 0),
    (0, -4, -4, -4, 0, 0, 4, 4, 4, 0, 0, 0),
    (0, -1, -2, -3, -4, -3, -2, -1, 0, 4, 2, 0),
    (0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 0),
    (0, -2, -3, -3, -2, 0, 0, -2, -3, -3, -2, 0),
)
_FINE = 72  # samples of the signal before it is resampled
_PADDING = (36, 61)  # template steps of silence after the curve


def signals(
    train: int = 4096,
    test: int = 1024,
    length: int = 40,
    shift: int = 48,
    scale: float = 0.4,
    shear: float = 0.75,
    noise: float = 0.25,
    seed: int | np.random.Generator = 0,
) -> Dataset:
    """Ten classes of 1-D signals [N, length] float32, after MNIST-1D (Greydanus and Kobak, arXiv 2011.14439).

    A curve is padded with silence, its height scaled by 1 ± `scale`, moved round by up to `shift` of 72 steps, sheared
    by a slope of up to ± `shear` / 2 from end to end, given smooth noise of standard deviation `noise`, and resampled.
    The curves are our own, so its published accuracies do not apply. Raises DataError for options out of range.
    """
    check_integers(train=train, test=test)
    check_integers(least=2, length=length)
    check_integers(least=0, most=_FINE, shift=shift)
    check_amounts(scale=scale, shear=shear, noise=noise)
    rng = generator(seed)
    splits = [_split(rng, count, length, shift, scale, shear, noise) for count in (train, test)]
    return Dataset("signals", "signals", splits[0], splits[1], len(_CURVES))


def _split(
    rng: np.random.Generator, count: int, length: int, shift: int, scale: float, shear: float, noise: float
) -> Split:
    labels = balanced_labels(rng, count, len(_CURVES))
    signal = _curves(rng, labels, shift)
    signal *= 1 + scale * rng.uniform(-1, 1, (count, 1))
    signal += shear * rng.uniform(-0.5, 0.5, (count, 1)) * np.linspace(-1, 1, _FINE)
    signal += noise * _smooth(rng.standard_normal((count, _FINE)))
    return Split(_resample(signal, np.linspace(0, _FINE - 1, length)).astype(np.float32), labels)


def _curves(rng: np.random.Generator, labels: np.ndarray, shift: int) -> np.ndarray:
    """The template of every label, padded and moved: [count, 72]."""
    templates = np.array(_CURVES, float) / np.std(_CURVES, axis=1, keepdims=True)
    count, steps = len(labels), templates.shape[1]
    padding = rng.integers(*_PADDING, (count, 1))
    start = rng.integers(0, shift + 1, (count, 1))
    along = (np.arange(_FINE) - start) % _FINE * ((steps + padding) / _FINE)
    inside = np.minimum(along, steps - 1)
    left = np.minimum(inside.astype(int), steps - 2)
    low, high = templates[labels[:, None], left], templates[labels[:, None], left + 1]
    return low + (high - low) * (inside - left)


def _smooth(noise: np.ndarray) -> np.ndarray:
    """White noise [count, L] through a Gaussian of two steps, with its variance restored."""
    taps = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)
    taps /= np.sqrt((taps**2).sum())
    wide = np.pad(noise, ((0, 0), (6, 6)), mode="wrap")
    return sum(tap * wide[:, i : i + noise.shape[1]] for i, tap in enumerate(taps))


def _resample(signal: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Linear interpolation of every row at the positions `at`."""
    left = np.minimum(at.astype(int), signal.shape[1] - 2)
    part = at - left
    return signal[:, left] * (1 - part) + signal[:, left + 1] * part
