"""Measured convolutions, forward and both backward directions, as points."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nmsim.errors import ShapeError, SpecError
from nmsim.validation.points import MICROSECOND, Found, Points, groups, known_types, scorable, set_name, source_key
from nmsim.validation.tables import Table
from nmsim.workloads.lower_products import conv_bp, conv_ff, conv_wu
from nmsim.workloads.model import with_dtype
from nmsim.workloads.modelfile import Conv
from nmsim.workloads.optable import WorkloadBuilder
from nmsim.workloads.shapes import Run

SIZES = ("N", "C", "H", "W", "K_filters", "R", "S", "stride_h", "stride_w")
PADDING = ("pad_h", "pad_w")
DIRECTIONS = {
    "ff": ("fwd_us", conv_ff), "bp": ("bwd_input_us", conv_bp), "wu": ("bwd_weight_us", conv_wu)
}  # fmt: skip
COLUMNS = ("device", "dtype", *SIZES, *PADDING, "fwd_us", "bwd_input_us", "bwd_weight_us")


def points(table: Table) -> Iterator[Found]:
    """The points of a table of convolutions: a data set per source, device, type and direction.

    Forward products by Winograd's algorithm, which multiplies less than im2col, are a data set of their own.
    """
    table, dtypes, left = known_types(table)
    yield from left
    winograd = np.array([text.upper().startswith("WINOGRAD") for text in table.words("fwd_algorithm")], dtype=bool)
    for direction, (column, _) in DIRECTIONS.items():
        suffix = np.where(winograd & (direction == "ff"), f"{direction}_winograd", direction).astype(object)
        for (source, device, dtype, how), rows in groups(source_key(table), table.words("device"), dtypes, suffix):
            part, missing = scorable(table.select(rows), column)
            yield from missing
            if len(part):
                yield _points(part, set_name(source, device, dtype, "conv", how), device, dtype, direction)


def _points(table: Table, name: str, device: str, dtype: str, direction: str) -> Points:
    column, lower = DIRECTIONS[direction]
    sizes = np.stack([*(table.wholes(c) for c in SIZES), *(table.wholes(c, 0) for c in PADDING)], axis=1)
    builder = WorkloadBuilder(name)
    for row, shape in enumerate(sizes.tolist()):
        try:
            builder.add(**with_dtype(lower(_layer(shape), Run(batch=shape[0])), dtype))
        except ShapeError as error:
            raise SpecError([table.problem(row, "H", str(error))]) from None
    labels = tuple(f"{n}x{c}x{h}x{w}, {k} of {r}x{s}, stride {sh}" for n, c, h, w, k, r, s, sh, *_ in sizes.tolist())
    return Points(
        "conv", name, device, dtype, table.file, table.lines, table.numbers(column) * MICROSECOND,
        labels, tuple(table.words("source")), builder.build(), np.arange(len(table)),
    )  # fmt: skip


def _layer(shape: list[int]) -> Conv:
    _, c, h, w, k, r, s, stride_h, stride_w, pad_h, pad_w = shape
    return Conv.model_validate({
        "type": "conv", "name": "conv", "in": c, "out": k, "kernel": [r, s], "input": [h, w],
        "stride": [stride_h, stride_w], "padding": [pad_h, pad_w],
    })  # fmt: skip
