"""The pipeline recurrence: when each piece leaves each stage of a linear pipeline with finite buffers.

A stage takes pieces in order, one at a time, and may begin one only when a place in the buffer behind it is free; the
piece keeps its place until the next stage has finished it. With t[s][i] cycles of piece i in stage s, and d[s] places
between stages s and s + 1, piece i begins and ends in stage s at

    begin[s][i] = max(end[s-1][i], end[s][i-1], end[s+1][i - d[s]])
    end[s][i]   = begin[s][i] + t[s][i]

(terms with an index below 0 are 0): sums and maxima only, a max-plus linear system (Baccelli, Cohen, Olsder and
Quadrat, "Synchronization and Linearity", 1992). It shares no code with the event engine, which must agree with it.

By hand: stages of 3, 5 and 2 cycles, 3 pieces, 2 places. Piece 0 ends at 3, 8, 10. Piece 1 is loaded at 6, computed
from 8 to 13, stored at 15. Piece 2 waits for the place of piece 0, free at 8: loaded at 11, computed at 18, stored at
20.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def ends(times: np.ndarray, places: Sequence[int]) -> np.ndarray:
    """The cycle in which each piece ends in each stage [stages, pieces].

    `times` [stages, pieces] are whole cycles; `places` [stages - 1] are the pieces that may be between one stage's
    begin and the next one's end.
    """
    stages, pieces = times.shape
    end = np.zeros((stages, pieces), dtype=np.int64)
    for i in range(pieces):
        for s in range(stages):
            begin = end[s, i - 1] if i else 0
            if s:
                begin = max(begin, end[s - 1, i])
            if s + 1 < stages and i >= places[s]:
                begin = max(begin, end[s + 1, i - places[s]])
            end[s, i] = begin + times[s, i]
    return end


def makespan(times: np.ndarray, places: Sequence[int]) -> int:
    """The cycle in which the last piece leaves the last stage."""
    return int(ends(times, places)[-1, -1]) if times.size else 0
