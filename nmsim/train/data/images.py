"""Drawn images: each class is an outline with a filling and perhaps an accent, placed, turned, lit and noised anew."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nmsim.train.data.checks import check_amounts, check_integers, generator
from nmsim.train.data.dataset import Dataset, Split

Plane = np.ndarray  # [n, H, W] float32

_TURN = 0.35  # most rotation, radians (20 degrees)
_ZOOM = (0.85, 1.15)
_RADIUS = 0.36  # of the image's side, before zoom
_STROKE = 0.03  # half the width of the stray stroke, of the image's side
_CONTRAST = (0.5, 1.1)  # of figure and ground


def images(
    classes: int = 10,
    size: int = 32,
    channels: int = 3,
    train: int = 8192,
    test: int = 2048,
    shift: int = 4,
    noise: float = 0.3,
    seed: int | np.random.Generator = 0,
) -> Dataset:
    """`classes` kinds of figures in [N, size, size, channels] float32 of about zero mean and unit variance.

    What a class looks like does not depend on the seed; the examples do. Figures move by up to `shift` pixels each way,
    turn and change size; colours of figure and ground are random, so that no single pixel tells the class, and a stray
    stroke crosses each image; `noise` is the standard deviation of the pixel noise, where figure and ground differ by
    0.5 to 1.1. Classes are balanced to within one example.
    Raises DataError for options out of range (up to 120 classes; size at least 8).
    """
    check_integers(classes=classes, most=len(_OUTLINES) * len(_FILLINGS) * len(_ACCENTS))
    check_integers(least=8, size=size)
    check_integers(channels=channels, train=train, test=test)
    check_integers(least=0, most=size // 2, shift=shift)
    check_amounts(noise=noise)
    rng = generator(seed)
    train_x, train_y = _draw(rng, train, classes, size, channels, shift, noise)
    test_x, test_y = _draw(rng, test, classes, size, channels, shift, noise)
    mean, std = float(train_x.mean(dtype=np.float64)), float(train_x.std(dtype=np.float64))
    for pixels in (train_x, test_x):
        pixels -= np.float32(mean)
        pixels /= np.float32(std)
    info = {"mean": mean, "std": std, "class_names": tuple(class_name(c) for c in range(classes))}
    return Dataset("images", "images", Split(train_x, train_y), Split(test_x, test_y), classes, info)


def class_name(label: int) -> str:
    """What the figure of a class is made of, such as "striped disc"."""
    outline, filling, accent = _composition(label)
    return " ".join(part.__name__.strip("_") for part in (filling, outline, accent) if part is not _plain)


def balanced_labels(rng: np.random.Generator, count: int, classes: int) -> np.ndarray:
    """`count` labels [count] int32 in random order, each class as often as any other to within one."""
    return rng.permutation(np.arange(count, dtype=np.int32) % classes)


def _draw(
    rng: np.random.Generator, count: int, classes: int, size: int, channels: int, shift: int, noise: float
) -> tuple[np.ndarray, np.ndarray]:
    labels = balanced_labels(rng, count, classes)
    pixels = np.empty((count, size, size, channels), np.float32)
    for label in range(classes):
        chosen = np.flatnonzero(labels == label)
        cover = _figure(label, *_place(rng, len(chosen), size, shift))
        drawn = _colour(rng, cover, _clutter(rng, len(chosen), size), channels)
        pixels[chosen] = drawn + np.float32(noise) * rng.standard_normal(drawn.shape, np.float32)
    return pixels, labels


def _place(rng: np.random.Generator, count: int, size: int, shift: int) -> tuple[Plane, Plane, Plane]:
    """Coordinates of every pixel in the frame of its figure (a figure fills about -1..1), and a pixel's width there."""
    angle = rng.uniform(-_TURN, _TURN, count).astype(np.float32)
    radius = (rng.uniform(*_ZOOM, count) * _RADIUS * size).astype(np.float32)
    moved = rng.uniform(-shift, shift, (2, count)).astype(np.float32)
    grid = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
    x = (grid[None, None, :] - moved[0, :, None, None]) / radius[:, None, None]
    y = (grid[None, :, None] - moved[1, :, None, None]) / radius[:, None, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    return cos * x + sin * y, cos * y - sin * x, (1 / radius)[:, None, None]


def _clutter(rng: np.random.Generator, count: int, size: int) -> Plane:
    """One stroke anywhere across each image, which says nothing of the class."""
    angle = rng.uniform(0, np.pi, (count, 1, 1)).astype(np.float32)
    offset = rng.uniform(-0.4, 0.4, (count, 1, 1)).astype(np.float32) * size
    grid = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
    away = abs(np.cos(angle) * grid[None, None, :] + np.sin(angle) * grid[None, :, None] - offset)
    return _cover(away - np.float32(_STROKE * size), np.ones_like(angle))


def _colour(rng: np.random.Generator, cover: Plane, clutter: Plane, channels: int) -> np.ndarray:
    """Ground, stroke and figure in random colours; figure and ground differ in brightness, either one the brighter."""
    count, size, _ = cover.shape
    ground, stroke = rng.uniform(-0.5, 0.5, (2, count, 1, 1, channels)).astype(np.float32)
    slope = rng.uniform(-0.3, 0.3, (2, count, 1, 1, 1)).astype(np.float32)
    contrast = rng.uniform(*_CONTRAST, (count, 1, 1, 1)) * rng.choice([-1.0, 1.0], (count, 1, 1, 1))
    tint = (contrast + rng.uniform(-0.3, 0.3, (count, 1, 1, channels))).astype(np.float32)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    light = slope[0] * ramp[None, None, :, None] + slope[1] * ramp[None, :, None, None]
    return ground + light + 2 * stroke * clutter[..., None] + tint * cover[..., None]


def _figure(label: int, u: Plane, v: Plane, pixel: Plane) -> Plane:
    """How much of every pixel the class's figure covers, 0 to 1."""
    outline, filling, accent = _composition(label)
    distance = outline(u, v)
    figure = _cover(distance, pixel) * filling(u, v, distance, pixel)
    return np.maximum(figure, accent(u, v, pixel))


def _composition(label: int) -> tuple[Callable, Callable, Callable]:
    """Outline, filling and accent of a class; no two of the 120 classes share all three."""
    outlines, fillings = len(_OUTLINES), len(_FILLINGS)
    row = label // outlines
    accent = label // (outlines * fillings)
    return _OUTLINES[label % outlines], _FILLINGS[(label + row) % fillings], _ACCENTS[accent]


def _cover(distance: Plane, pixel: Plane) -> Plane:
    """An edge one pixel wide: 1 where the signed distance is inside, 0 outside."""
    return np.clip(0.5 - distance / pixel, 0, 1)


def disc(u: Plane, v: Plane) -> Plane:
    """Signed distance of a disc; this and the following outlines are negative inside."""
    return np.hypot(u, v) - 0.85


def square(u: Plane, v: Plane) -> Plane:
    """A square with upright sides."""
    return np.maximum(abs(u), abs(v)) - 0.75


def triangle(u: Plane, v: Plane) -> Plane:
    """A triangle, point up."""
    return np.maximum(0.87 * abs(u) - 0.5 * v, v) - 0.5 + 0.08 * v


def plus(u: Plane, v: Plane) -> Plane:
    """Two bars that cross."""
    a, b = abs(u), abs(v)
    return np.minimum(np.maximum(a - 0.9, b - 0.34), np.maximum(a - 0.34, b - 0.9))


def star(u: Plane, v: Plane) -> Plane:
    """Five rounded arms."""
    return (np.hypot(u, v) - 0.66 - 0.28 * np.cos(5 * np.arctan2(u, -v))) * 0.6


def crescent(u: Plane, v: Plane) -> Plane:
    """A disc from which another is cut."""
    return np.maximum(np.hypot(u, v) - 0.9, 0.62 - np.hypot(u - 0.45, v))


def bars(u: Plane, v: Plane) -> Plane:
    """Two level bars, one above the other."""
    return np.maximum(abs(abs(v) - 0.5) - 0.28, abs(u) - 0.85)


def hourglass(u: Plane, v: Plane) -> Plane:
    """Two triangles that meet."""
    return np.maximum(0.75 * (abs(u) - abs(v) - 0.08), abs(v) - 0.8)


def solid(u: Plane, v: Plane, distance: Plane, pixel: Plane) -> Plane:
    """Filled throughout."""
    return np.ones_like(u)


def hollow(u: Plane, v: Plane, distance: Plane, pixel: Plane) -> Plane:
    """Only a rim."""
    return _cover(-0.2 - distance, pixel)


def striped(u: Plane, v: Plane, distance: Plane, pixel: Plane) -> Plane:
    """Upright stripes."""
    return 0.5 + 0.5 * np.sin(np.float32(5 * np.pi) * u)


def checked(u: Plane, v: Plane, distance: Plane, pixel: Plane) -> Plane:
    """A chessboard."""
    step = np.float32(3 * np.pi)
    return np.clip(0.5 + 1.5 * np.sin(step * u) * np.sin(step * v), 0, 1)


def split(u: Plane, v: Plane, distance: Plane, pixel: Plane) -> Plane:
    """Cut by a slanted line."""
    return 1 - _cover(abs(u + v) * np.float32(0.7) - 0.14, pixel)


def _plain(u: Plane, v: Plane, pixel: Plane) -> Plane:
    return np.zeros_like(u)


def dotted(u: Plane, v: Plane, pixel: Plane) -> Plane:
    """A dot in the upper right corner."""
    return _cover(np.hypot(u - 0.95, v + 0.95) - 0.22, pixel)


def underlined(u: Plane, v: Plane, pixel: Plane) -> Plane:
    """A stroke below."""
    return _cover(np.maximum(abs(v - 1.12) - 0.1, abs(u) - 0.8), pixel)


_OUTLINES = (disc, square, triangle, plus, star, crescent, bars, hourglass)
_FILLINGS = (solid, hollow, striped, checked, split)
_ACCENTS = (_plain, dotted, underlined)
