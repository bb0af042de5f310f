"""The schema of a space file: which points of machines and work there are, and what is measured at each."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nmsim import library
from nmsim.errors import Problem, SpecError, UnsupportedError, unknown
from nmsim.specfile import Count, Document, Spec, read, validate
from nmsim.sweeps.fleets import FIGURES

Value = bool | int | float | str

WORK = ("workload", "recipe", "pattern", "batch", "seq_len", "dtype", "optimizer")
PRODUCT = ("m", "n", "k", "count", "pattern", "operand", "dtype")
MACHINE = "arch"
PATH = "arch."
"""Fields: `arch` is the machine, `arch.<path>` a value in its file; WORK is what a model does, PRODUCT one product."""

METRIC_DEFAULTS = ("latency_s", "energy_j", "power_w", "utilization", "macs_executed", "dram_bytes")


class Range(Spec):
    """Values between two ends, both included; counts are rounded to whole numbers."""

    first: Value = Field(alias="from", description="lowest value, with its unit if it has one")
    last: Value = Field(alias="to", description="highest value")
    steps: Annotated[int, Field(ge=2)] | None = Field(default=None, description="values of a grid")
    scale: Literal["linear", "log"] = "linear"


class Sample(Spec):
    """Which points are taken."""

    method: Literal["grid", "random", "latin_hypercube", "sobol"] = "grid"
    points: Count | None = Field(default=None, description="how many; a grid has all there are")
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _counts(self) -> Sample:
        if (self.method == "grid") != (self.points is None):
            raise ValueError("`points` belongs to random, latin_hypercube and sobol, which need it")
        return self


class Constraint(Spec):
    """A comparison that every point must satisfy: a field, a product or a sum of fields with a value or a field."""

    field: str | None = None
    product: Annotated[list[str], Field(min_length=1)] | None = None
    sum: Annotated[list[str], Field(min_length=1)] | None = None
    at_most: Value | None = None
    at_least: Value | None = None
    equal: Value | None = None
    unequal: Value | None = None

    @model_validator(mode="after")
    def _is_one_comparison(self) -> Constraint:
        if sum(x is not None for x in (self.field, self.product, self.sum)) != 1:
            raise ValueError("a constraint has one of field, product, sum")
        if sum(getattr(self, x) is not None for x in COMPARISONS) != 1:
            raise ValueError(f"a constraint has one of {', '.join(COMPARISONS)}")
        return self

    @property
    def fields(self) -> list[str]:
        """The fields on its left side."""
        return self.product or self.sum or [str(self.field)]

    @property
    def comparison(self) -> tuple[str, Value]:
        """The name of the comparison, and what is on its right side."""
        return next((x, getattr(self, x)) for x in COMPARISONS if getattr(self, x) is not None)


COMPARISONS = ("at_most", "at_least", "equal", "unequal")


class SpaceFile(Spec):
    """A space of design points."""

    kind: Literal["space"]
    name: str = "space"
    title: str = ""
    fixed: dict[str, Value] = Field(default={}, description="fields that are the same at every point")
    axes: Annotated[dict[str, list[Value] | Range], Field(min_length=1)] = Field(
        description="fields that vary: a list of values, or a range; the last varies fastest in a grid"
    )
    sample: Sample = Sample()
    where: list[Constraint] = Field(default=[], description="comparisons that every point satisfies")
    baseline: dict[str, Value] = Field(
        default={}, description="the point that others are compared with, where it differs from `fixed`"
    )
    metrics: Annotated[list[str], Field(min_length=1)] = list(METRIC_DEFAULTS)

    @property
    def products(self) -> bool:
        """Whether points are single products rather than models."""
        return "m" in self.axes or "m" in self.fixed

    @property
    def size(self) -> int:
        """Points before constraints."""
        if self.sample.points is not None:
            return self.sample.points
        return math.prod(len(x) if isinstance(x, list) else x.steps or 0 for x in self.axes.values())


def read_space(name_or_path: str | os.PathLike[str]) -> SpaceFile:
    """The space of a library name or a file; raises SpecError with every mistake, UnsupportedError for no such name."""
    return space_of(read(library.locate("workloads/sweeps", name_or_path)))


def space_of(document: Document) -> SpaceFile:
    """The space that a parsed file describes."""
    space = validate(SpaceFile, document)
    if found := list(_problems(document, space)):
        raise SpecError(found)
    return space


def as_space(space: SpaceFile | str | os.PathLike[str] | Mapping[str, Any]) -> SpaceFile:
    """The space itself, or that of a name, a file, or a mapping with the entries of a file."""
    if isinstance(space, SpaceFile):
        return space
    if isinstance(space, Mapping):
        return space_of(Document("<space>", {"kind": "space", **space}, {}))
    return read_space(space)


def _problems(document: Document, space: SpaceFile) -> Iterator[Problem]:
    """What is wrong beyond the schema: fields, metrics and ranges that there are not, or too many or none."""
    allowed = (MACHINE, *(PRODUCT if space.products else WORK))
    for section in ("fixed", "axes", "baseline"):
        for name in getattr(space, section):
            if name not in allowed and not name.startswith(PATH):
                message = unknown("field", name, [*allowed, f"{PATH}<path>"])
                yield document.problem((section, name), message, at_key=True)
    for name in space.axes.keys() & space.fixed.keys():
        yield document.problem(("fixed", name), "is an axis too; leave it out here", at_key=True)
    for name in ("arch", *(("m", "n", "k") if space.products else ("workload",))):
        if name not in space.axes and name not in space.fixed:
            yield document.problem(("fixed",), f"{name!r} is missing: give it here or as an axis")
    for name, axis in space.axes.items():
        yield from _axis_problems(document, space, name, axis)
    for number, constraint in enumerate(space.where):
        for name in constraint.fields:
            if name not in space.axes and name not in space.fixed:
                message = unknown("field", name, [*space.axes, *space.fixed])
                yield document.problem(("where", number), message)
    for number, metric in enumerate(space.metrics):
        if metric not in FIGURES:
            yield document.problem(("metrics", number), unknown("metric", metric, FIGURES))


def _axis_problems(document: Document, space: SpaceFile, name: str, axis: list[Value] | Range) -> Iterator[Problem]:
    if isinstance(axis, list):
        if not axis:
            yield document.problem(("axes", name), "has no values, so that the space has 0 points")
    elif axis.steps is None and space.sample.method == "grid":
        yield document.problem(("axes", name), "a range in a grid needs `steps`; or take a sample of points")
    elif not name.startswith(PATH) and name not in ("batch", "seq_len", "m", "n", "k", "count"):
        yield document.problem(("axes", name), "has names, not numbers, for values: give a list")


def check_size(space: SpaceFile, limit: int) -> None:
    """Raise UnsupportedError where there are more points than `limit`, naming the axes to cut."""
    if space.size <= limit:
        return
    if space.sample.points is not None:
        raise UnsupportedError(f"{space.name}: a sample of {space.size:,} points, more than {limit:,} (--limit)")
    lengths = {name: len(x) if isinstance(x, list) else x.steps or 0 for name, x in space.axes.items()}
    longest = sorted(lengths, key=lambda name: -lengths[name])[:3]
    cut = ", ".join(f"{name} ({lengths[name]})" for name in longest)
    raise UnsupportedError(
        f"{space.name}: a grid of {space.size:,} points, more than {limit:,} (--limit): cut its longest axes, {cut}, "
        "or take a sample (sample: {method: sobol, points: ...})"
    )
