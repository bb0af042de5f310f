"""Plain data as JSON text, and as an array of its bytes for a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from nmsim.traces.schema import TraceError

KEY = "recorder"


def plain(text: str) -> Any:
    """The data of a JSON text; raises ValueError for what is none, numbers that are not finite included."""
    return json.loads(text, parse_constant=_not_finite)


def dump_state(data: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Plain data as one array of bytes [length], uint8."""
    return {KEY: np.frombuffer(json.dumps(data).encode(), np.uint8)}


def load_state(state: Mapping[str, np.ndarray]) -> Any:
    """The data that `dump_state` was given; raises TraceError for anything else."""
    try:
        return json.loads(np.asarray(state[KEY], np.uint8).tobytes())
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise TraceError(f"not the state of a recorder: {error!r}") from None


def _not_finite(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")
