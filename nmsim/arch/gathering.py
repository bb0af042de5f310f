"""The part of an architecture file on kernels for operands that keep weights at any place (CSR, constant fan-in)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from nmsim.specfile import Count, Spec, Time

Rate = Annotated[float, Field(gt=0)]


class GatherKernel(Spec):
    """A kernel that takes the kept weights one by one, each times what it reads of the other operand; per core."""

    index_bytes: Rate = Field(description="bytes of the index of a kept weight")
    entry: Rate = Field(description="cycles per kept weight: its index, its value, the loop")
    elements: Rate = Field(description="elements gathered and multiplied per cycle, for rows of the other operand")
    single: Rate | None = Field(
        default=None, description="cycles per kept weight where the other operand is a vector; as any other if left out"
    )
    overlap: bool = Field(default=True, description="the entry and its elements take the longer of both, not the sum")
    block: Count | None = Field(default=None, description="columns of the other operand that it takes at a time")
    start: Time = Field(default=0.0, description="time to start this kernel, beyond that of any op")


class Gathers(Spec):
    """The kernels for operands that keep weights at any place."""

    transposing: Rate | None = Field(
        default=None,
        description="cycles per element to transpose the other operand, where it is no vector; free if left out",
    )
    csr: GatherKernel = Field(description="rows of any length: a value and a column index each, a pointer per row")
    condensed: GatherKernel | None = Field(default=None, description="rows of one length (constant fan-in)")
