"""The loss of classification, its gradient and the accuracy."""

from __future__ import annotations

import numpy as np

from nmsim.errors import ShapeError
from nmsim.train.parallel import row_dot, rows_in_parallel

Array = np.ndarray


def softmax_cross_entropy(
    logits: Array, targets: Array, smoothing: float = 0.0, ignore: int = -1
) -> tuple[float, Array, float]:
    """Mean loss, its gradient (like logits[..., C]) and accuracy over the positions whose target is not `ignore`.

    The wanted distribution gives 1 - smoothing to the target and smoothing/C to every class (Szegedy et al. 2016,
    section 7). Where no position counts, all are zero. Raises ShapeError if a target is no class.
    """
    rows, classes = logits.reshape(-1, logits.shape[-1]), logits.shape[-1]
    wanted = targets.reshape(-1)
    counted = wanted != ignore
    wanted = np.where(counted, wanted, 0)
    if wanted.shape != rows.shape[:1] or (wanted.size and not 0 <= wanted.min() <= wanted.max() < classes):
        raise ShapeError(f"targets {targets.shape} must be classes 0 ... {classes - 1} of logits {logits.shape}")
    count = max(int(counted.sum()), 1)
    ones = np.ones(classes, logits.dtype)

    def losses(gradient: Array, z: Array, target: Array, counted: Array) -> tuple[float, int]:
        best = z.argmax(axis=1)
        at = np.arange(len(z))
        np.subtract(z, z[at, best][:, None], out=gradient)
        right = (1.0 - smoothing) * gradient[at, target]
        if smoothing:
            right += (smoothing / classes) * row_dot(gradient, ones)[:, 0]
        np.exp(gradient, out=gradient)
        total = row_dot(gradient, ones)
        weight = counted[:, None].astype(z.dtype) * (1.0 / count)
        gradient *= weight / total
        if smoothing:
            gradient -= weight * (smoothing / classes)
        gradient[at, target] -= (1.0 - smoothing) * weight[:, 0]
        loss = np.log(total[:, 0]) - right
        return float(loss[counted].sum(dtype=np.float64)), int((best == target)[counted].sum())

    gradient = np.empty(logits.shape, logits.dtype)
    parts = rows_in_parallel(losses, gradient.reshape(rows.shape), rows, wanted, counted)
    return sum(p[0] for p in parts) / count, gradient, sum(p[1] for p in parts) / count
