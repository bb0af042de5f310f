"""Field types and data types that the kinds of machines share in their architecture files."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from nmsim.errors import unknown
from nmsim.specfile import Count
from nmsim.workloads.optable import DTYPES


def _known_dtype(name: Any) -> str:
    if name not in DTYPES:
        raise ValueError(unknown("data type", name, DTYPES))
    return name


Ratio = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Dtype = Annotated[str, AfterValidator(_known_dtype)]
Rates = Annotated[dict[Dtype, Rate], Field(min_length=1)]
Tile = Annotated[list[Count], Field(min_length=2, max_length=2)]
