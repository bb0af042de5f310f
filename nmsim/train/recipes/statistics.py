"""How masks move: what changed between two moments of training, by layer and stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmsim.sparsity.groups import Mask
from nmsim.sparsity.stats import mask_churn

Masks = Mapping[Any, Mask]


@dataclass(frozen=True)
class Change:
    """`flips`: elements kept in one mask only; `churn`: the share of those kept before that no longer are."""

    flips: int
    churn: float


def changes(before: Masks, after: Masks) -> dict[tuple[str, str], Change]:
    """The change of every mask found in both; take `before` as a copy, `dict(execution.masks)`."""
    both = [place for place in after if place in before]
    return {
        place: Change(int(np.count_nonzero(before[place] ^ after[place])), mask_churn(before[place], after[place]))
        for place in both
    }
