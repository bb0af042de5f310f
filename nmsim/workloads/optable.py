"""The op table: a workload is a table of operations whose columns are NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nmsim.errors import ShapeError, UnsupportedError, unknown
from nmsim.sparsity.pattern import DENSE, Pattern

if TYPE_CHECKING:
    import pandas as pd

    from nmsim.sparsity.recipe import Recipe
    from nmsim.workloads.model import Model

STAGES = ("FF", "BP", "WU", "PRUNE", "UPDATE", "VECTOR")
AXES = ("", "m", "k", "n")
ROLES = ("none", "activation", "weight", "gradient", "weight_gradient", "state")
DTYPE_BITS = {
    "fp64": 64, "fp32": 32, "tf32": 32, "fp16": 16, "bf16": 16, "fp8": 8, "int32": 32, "int8": 8, "int4": 4
}  # fmt: skip
DTYPES = tuple(DTYPE_BITS)
QUANTIZED = ("int8", "int4", "fp8")
"""Data types whose values need a scale beside them."""
SCALE_BITS = 16
FORMATS = ("dense", "packed", "bitmask", "combinatorial", "csr")
MAX_MACS = 2**62

CODES: dict[str, tuple[str, ...]] = {
    "stage": STAGES,
    "a_axis": AXES, "b_axis": AXES,
    "a_role": ROLES, "b_role": ROLES, "c_role": ROLES,
    "a_dtype": DTYPES, "b_dtype": DTYPES, "c_dtype": DTYPES,
    "a_format": FORMATS, "b_format": FORMATS,
}  # fmt: skip
"""Columns that hold an index into a fixed list of names."""

DICTIONARIES = {
    "layer": "layers", "kind": "kinds", "a_pattern": "patterns", "b_pattern": "patterns", "note": "notes"
}  # fmt: skip
"""Columns that hold an index into a tuple of the workload."""

OF_CONVOLUTIONS = ("taps", "map_h", "map_w", "overhang")
COUNTS = ("m", "n", "k", "count", "m_inserted", *OF_CONVOLUTIONS, "a_elements", "b_elements", "c_elements", "repeat")
COLUMNS: dict[str, type] = {
    **dict.fromkeys(CODES, np.uint8),
    "layer": np.int32, "kind": np.int16, "a_pattern": np.int16, "b_pattern": np.int16, "note": np.int16,
    **dict.fromkeys(COUNTS, np.int64),
    "ops_per_element": np.float64,
    "phase": np.int32,
}  # fmt: skip


@dataclass(frozen=True)
class Phase:
    """A run of training steps that all execute the same operations."""

    name: str
    first_step: int
    steps: int


@dataclass(frozen=True, eq=False)
class Workload:
    """Operations in order of execution.

    A row with kind `gemm` is `count` independent products C[m,n] = A[m,k]·B[k,n], executed `repeat` times.
    Its columns:

    - `stage`, `layer`, `kind`, `phase`: what it belongs to; `note`: why the plan left it dense, if it did.
    - `m, n, k, count`; `m_inserted`: the rows of A when the zeros that a strided convolution inserts into its
      output gradient are not skipped (elsewhere equal to m).
    - OF_CONVOLUTIONS, 0 for others: `taps`, positions of the kernel; `map_h, map_w`, size of the output where a square
      kernel slides over every position (stride and dilation of 1), else 0; `overhang`, what padding exceeds a kernel's
      last position on the map by, so that outputs see nothing but zeros.
    - `a_pattern, b_pattern` with `a_axis, b_axis`: the letter of the axis along which the groups run. Only groups
      along k can be skipped.
    - `a_elements, b_elements, c_elements`: distinct elements of each operand over all `count`, before sparsity
      (im2col copies counted once); `*_dtype`, `*_role`, `*_format` (layout in memory when sparse).

    For every other kind m x n is the number of elements processed (m rows of n), `ops_per_element` the arithmetic
    per element, a and b are read, c is written. `PRUNE` rows carry the pattern they search in `a_pattern`.

    `weight_group` is how many elements of k share a scale of SCALE_BITS in the weights of a QUANTIZED type, 0 for
    one scale per output channel; None where no scales are counted.
    """

    name: str
    columns: Mapping[str, np.ndarray]
    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    patterns: tuple[Pattern, ...] = (DENSE,)
    notes: tuple[str, ...] = ("",)
    phases: tuple[Phase, ...] = (Phase("inference", 0, 1),)
    info: Mapping[str, Any] = field(default_factory=dict)
    model: Model | None = None
    weight_group: int | None = None

    def __post_init__(self) -> None:
        lengths = {name: len(values) for name, values in self.columns.items()}
        if set(lengths) != set(COLUMNS) or len(set(lengths.values())) != 1:
            raise ShapeError(f"a workload has the columns {', '.join(COLUMNS)}, all of one length; got {lengths}")
        _check_sizes(self)

    def __len__(self) -> int:
        return len(self.columns["m"])

    def __getitem__(self, column: str) -> np.ndarray:
        """The raw column: an array of shape [ops]; codes for the columns of CODES and DICTIONARIES."""
        return self.columns[column]

    def is_stage(self, *stages: str) -> np.ndarray:
        """Boolean mask [ops] of the rows of these stages."""
        return np.isin(self["stage"], [STAGES.index(s) for s in stages])

    def is_kind(self, *kinds: str) -> np.ndarray:
        """Boolean mask [ops] of the rows of these kinds (kinds that do not occur match nothing)."""
        return np.isin(self["kind"], [self.kinds.index(k) for k in kinds if k in self.kinds])

    def __repr__(self) -> str:
        return f"<Workload {self.name}: {len(self):,} ops>"

    def _repr_html_(self) -> str:
        from nmsim.workloads.show import html

        return html(self)

    @property
    def gemms(self) -> np.ndarray:
        """Boolean mask [ops] of the matrix products."""
        return self.is_kind("gemm")

    @property
    def macs_dense(self) -> int:
        """Multiply-accumulates of all products with every operand dense, inserted zeros not counted."""
        g = self.gemms
        per_op = self["m"][g] * self["n"][g] * self["k"][g] * self["count"][g]
        return sum(int(x) * int(r) for x, r in zip(per_op, self["repeat"][g], strict=True))

    def row_lengths(self, letter: str) -> np.ndarray:
        """Elements [ops] of the rows along which the pattern of operand a or b runs, 1 where it has no axis; a fan-in
        counts a row at all positions of a kernel, of which k has all and n one."""
        axis, fan_in = self[f"{letter}_axis"], np.array([p.kind == "fan_in" for p in self.patterns])
        length = np.select([axis == AXES.index(x) for x in "mnk"], [self[x].astype(float) for x in "mnk"], 1.0)
        one = fan_in[self[f"{letter}_pattern"]] & (axis == AXES.index("n"))
        return length * np.where(one, np.maximum(self["taps"], 1), 1)

    @property
    def parameters(self) -> int:
        """Learned parameters of the model; raises UnsupportedError for a bare table of products."""
        return self.require_model().parameters

    def require_model(self) -> Model:
        """The model behind the table; raises UnsupportedError where there is none."""
        if self.model is None:
            raise UnsupportedError(f"workload {self.name!r} is a table of operations without a model behind it")
        return self.model

    def training(
        self, recipe: str | Mapping[str, Any] | Recipe = "dense", pattern: str | Pattern = "dense", **options: Any
    ) -> Workload:
        """One training step, or a run of `steps=`: FF, BP, WU, PRUNE and UPDATE rows as the recipe has them.

        `recipe` is a name, a file, a Recipe, or a mapping with a `base` and the fields that differ from it.

        Options are those of `nmsim.workloads.training.expand`.
        """
        from nmsim.workloads.training import expand

        return expand(self.require_model(), recipe, pattern, **options)

    def inference(
        self,
        pattern: str | Pattern,
        *,
        weight_dtype: str | None = None,
        weight_group: int | None = None,
        **options: Any,
    ) -> Workload:
        """The forward pass with weights pruned beforehand to `pattern` (recipe `inference`).

        With `weight_dtype` they are quantised too, see `quantized`.
        """
        from nmsim.workloads.quantized import with_weights

        return with_weights(self.training("inference", pattern, **options), weight_dtype, weight_group)

    def quantized(self, weight_dtype: str, weight_group: int | None = None) -> Workload:
        """The same inference with its weights stored as `weight_dtype` (int8, int4, fp8); activations keep theirs.

        A scale of 16 bits is stored for each output channel, or for each `weight_group` elements of it along k.
        Raises UnsupportedError for another type and a workload that trains, ShapeError for a group below 1.
        """
        from nmsim.workloads.quantized import with_weights

        return with_weights(self, weight_dtype, weight_group)

    def select(self, rows: np.ndarray) -> Workload:
        """The workload of these rows (a boolean mask or indices [ops])."""
        return replace(self, columns={name: values[rows] for name, values in self.columns.items()})

    def names(self, column: str) -> np.ndarray:
        """The column with its codes spelled out, an object array [ops]."""
        table = CODES.get(column) or tuple(str(x) for x in getattr(self, DICTIONARIES[column]))
        return np.array(table, dtype=object)[self[column]]

    def to_frame(self) -> pd.DataFrame:
        """A row per op, codes spelled out."""
        import pandas as pd

        coded = CODES.keys() | DICTIONARIES.keys()
        order = ["layer", "stage", "kind", *(c for c in COLUMNS if c not in ("layer", "stage", "kind"))]
        return pd.DataFrame({c: self.names(c) if c in coded else self[c] for c in order})


_TOO_LARGE = (
    "multiply-accumulates or elements in one operation overflow a 64-bit count (at most 2^62 = 4.61e+18); "
    "take a smaller batch, sequence length or number of steps"
)


def _check_sizes(work: Workload) -> None:
    """Raise ShapeError at the first op whose sizes are not positive or whose products overflow 64 bits."""
    for name in ("m", "n", "k", "count", "m_inserted", "repeat"):
        if len(bad := np.flatnonzero(work[name] < 1)):
            raise ShapeError(f"op {bad[0]} ({work.layers[work['layer'][bad[0]]]}): {name} must be at least 1")
    macs = work["m_inserted"].astype(float) * work["n"] * work["k"] * work["count"]
    elements = np.max([work[c].astype(float) for c in ("a_elements", "b_elements", "c_elements")], axis=0, initial=0)
    if len(bad := np.flatnonzero((macs > MAX_MACS) | (elements > MAX_MACS))):
        op, size = work.layers[work["layer"][bad[0]]], max(macs[bad[0]], elements[bad[0]])
        raise ShapeError(f"layer {op!r}: {size:.3g} {_TOO_LARGE}")


class WorkloadBuilder:
    """Collects ops row by row; names and patterns are stored once and referred to by index."""

    def __init__(self, name: str):
        self.name = name
        self._rows: list[dict[str, Any]] = []
        self._tables: dict[str, dict[Any, int]] = {
            "layers": {}, "kinds": {"gemm": 0}, "patterns": {DENSE: 0}, "notes": {"": 0}
        }  # fmt: skip

    def add(self, layer: str, stage: str, kind: str = "gemm", **values: Any) -> None:
        """Append an op; names for coded columns (`a_dtype="fp16"`), Pattern objects for patterns.

        Defaults: m_inserted = m, sizes 1, operands as large as the product needs, fp16, dense.
        """
        if bad := values.keys() - COLUMNS.keys():
            raise UnsupportedError(unknown("op column", sorted(bad)[0], COLUMNS))
        self._rows.append({"layer": layer, "stage": stage, "kind": kind, **values})

    def build(self, **fields: Any) -> Workload:
        """The finished workload; `fields` are phases, info, model of Workload."""
        rows = [_complete(row) for row in self._rows]
        for row in rows:
            for column, table in DICTIONARIES.items():
                entries = self._tables[table]
                row[column] = entries.setdefault(row[column], len(entries))
            for column, names in CODES.items():
                row[column] = _code(column, names, row[column])
        try:
            columns: dict[str, np.ndarray] = {
                c: np.array([row[c] for row in rows], dtype=t) for c, t in COLUMNS.items()
            }
        except OverflowError:
            layer, size = _largest(self._rows)
            raise ShapeError(f"layer {layer!r} of {self.name!r}: {size:.3g} {_TOO_LARGE}") from None
        tables: dict[str, Any] = {name: tuple(entries) for name, entries in self._tables.items()}
        return Workload(self.name, columns, **tables, **fields)


def _largest(rows: Sequence[Mapping[str, Any]]) -> tuple[str, float]:
    """The layer with the largest count, and that count."""
    full = (_complete(dict(row)) for row in rows)
    size, layer = max((max(float(row[c]) for c in COUNTS), row["layer"]) for row in full)
    return layer, size


def _complete(row: dict[str, Any]) -> dict[str, Any]:
    full: dict[str, Any] = {"m": 1, "n": 1, "k": 1, "count": 1, "repeat": 1, "phase": 0, "note": "", **row}
    m, n, k, count = (full[c] for c in ("m", "n", "k", "count"))
    elements = (m * k, k * n, m * n) if full["kind"] == "gemm" else (0, 0, 0)
    defaults: dict[str, Any] = {"m_inserted": m, **dict.fromkeys(OF_CONVOLUTIONS, 0), "ops_per_element": 0.0}
    for letter, size in zip("abc", elements, strict=True):
        defaults |= {f"{letter}_elements": size * count, f"{letter}_dtype": "fp16", f"{letter}_role": "none"}
    for letter in "ab":
        defaults |= {f"{letter}_pattern": DENSE, f"{letter}_axis": "", f"{letter}_format": "packed"}
    return defaults | full


def _code(column: str, names: Sequence[str], value: str) -> int:
    try:
        return names.index(value)
    except ValueError:
        raise UnsupportedError(unknown(column, value, names)) from None
