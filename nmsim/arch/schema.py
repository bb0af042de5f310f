"""The schema of an architecture file: the machines nmsim can simulate, and what each number means."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from pydantic import Field, PrivateAttr, field_validator, model_validator

from nmsim.arch.fields import Dtype, Rate, Rates, Ratio, Tile
from nmsim.arch.gathering import Gathers
from nmsim.arch.gpu import Cache, Kernels, PowerLimit, RowKernel, StreamingMultiprocessors
from nmsim.arch.provenance import Provenance
from nmsim.errors import PatternError
from nmsim.sparsity.pattern import MAX_GROUP, Pattern
from nmsim.specfile import Bandwidth, BytesPerCycle, Count, Frequency, Node, Path, Power, Size, Spec, Time
from nmsim.workloads.optable import DTYPE_BITS

Dataflow = Literal["os", "ws", "is"]


class Sparsity(Spec):
    """What the multiply units can skip: groups along the reduction axis of one operand."""

    patterns: Literal["any"] | list[str] = Field(
        default=[], description="n:m patterns, or `any` for every n:m with m up to max_group"
    )
    max_group: Annotated[int, Field(ge=2, le=MAX_GROUP)] = Field(default=16, description="largest m when `any`")
    operands: list[Literal["A", "B"]] = Field(
        default=["A", "B"], description="operands of the product that may be sparse"
    )
    dtypes: list[Dtype] | None = Field(default=None, description="data types with a sparse mode; default all")
    blocks: bool = Field(
        default=False,
        description="V:n:m runs where n:4 does: kernels gather the 4 columns of every m that V rows share",
    )
    weights: Literal["pregenerate", "inline"] = Field(
        default="pregenerate",
        description="operands pruned every step: packed ahead by an op of their own, or while they stream in",
    )

    @property
    def deepest(self) -> int:
        """Elements of the largest group that a unit may hold; 1 without patterns."""
        if self.patterns == "any":
            return self.max_group
        return max((Pattern.parse(pattern).m for pattern in self.patterns), default=1)

    @field_validator("patterns")
    @classmethod
    def _are_patterns(cls, value: str | list[str]) -> str | list[str]:
        for text in value if isinstance(value, list) else ():
            try:
                pattern = Pattern.parse(text)
            except PatternError as error:
                raise ValueError(str(error)) from None
            if pattern.kind != "nm":
                raise ValueError(f"only n:m patterns can be listed, got {text!r}")
        return value


class Lanes(Spec):
    """A row of identical lanes, each taking one element a cycle."""

    lanes: Count


class ReductionEngine(Lanes):
    """The lanes that prune."""

    holds_groups: bool = Field(
        default=False,
        description="a group pruned in the stream serves all outputs that a unit takes in turn along the other axis; "
        "else it is pruned anew for each (output stationary)",
    )


class VectorUnit(Spec):
    """The unit for element-wise work; each lane does one arithmetic operation a cycle."""

    lanes: Count = Field(description="arithmetic operations per cycle of the whole machine")
    search: Rate = Field(
        default=1.0,
        description="operations per comparison of a search in groups, with selecting and packing",
    )
    fused: list[str] = Field(
        default=[],
        description="kinds applied to a product's output on its way out: only a second operand is still read",
    )


class GpuVectorUnit(VectorUnit):
    """The lanes of a GPU's cores, and the library's kernels that run on them."""

    dram_efficiency: Ratio = Field(
        default=1.0, description="share of what streams get of DRAM that kernels get which write as much as they read"
    )
    rows: dict[str, RowKernel] = Field(
        default={}, description="kinds whose kernels read a row more than once; rows of others stay on chip"
    )


class Dram(Spec):
    """Off-chip memory."""

    bandwidth: Bandwidth
    efficiency: Ratio = Field(default=1.0, description="share of the bandwidth that streams reach")
    capacity: Size | None = None
    channels: Count | None = Field(
        default=None, description="transfers served side by side, for the event engine; unlimited if left out"
    )


class Launch(Spec):
    """Time that an operation costs before its first and after its last cycle."""

    floor: Time = Field(description="start-to-end time of an operation that does nothing")
    graph: Time | None = Field(default=None, description="the same where a recorded graph of operations is replayed")
    replayed: bool = Field(default=False, description="whether operations are started by such a graph")

    @property
    def seconds(self) -> float:
        """The time that holds: of a graph where operations are replayed and one is known, else the floor."""
        return self.graph if self.replayed and self.graph is not None else self.floor


class Energy(Spec):
    """Where the energy per action is looked up, and the power drawn without work."""

    node: Node = Field(description="technology node of the logic and the on-chip memory")
    dram: str = Field(description="DRAM kind, as `ddr4`, `hbm2e`")
    static: Power = Field(description="power drawn whether the machine works or not")
    table: str | None = Field(
        default=None,
        description="table of energies per action: a name of arch_configs/energy or a path; default by kind of machine",
    )


class SystolicArray(Spec):
    """One or more arrays of rows x columns multiply-accumulate units."""

    rows: Count
    columns: Count
    count: Count = Field(default=1, description="identical arrays that share the work")
    dataflows: Annotated[list[Dataflow], Field(min_length=1)] = Field(description="output, weight or input stationary")
    scheduling: Literal["offline", "fixed"] = Field(
        default="offline",
        description="`offline`: the fastest dataflow is chosen per op ahead of the run; `fixed`: the first one listed",
    )
    fold_overlap: Literal["none", "pipelined"] = Field(
        default="pipelined",
        description="`none`: folds follow each other, as SCALE-Sim counts; `pipelined`: they overlap",
    )
    macs_per_cycle: Rates = Field(description="multiply-accumulates per unit and cycle, by data type")
    accumulator_latency: Count = Field(default=1, description="cycles until a sum can be added to again")
    interleave: Count = Field(default=1, description="independent outputs a unit takes in turn to hide that latency")
    stationary: Literal["value", "group"] = Field(
        default="value",
        description="what a unit holds in WS and IS when sparse: one kept value, or a whole group taken serially",
    )
    operand_port: BytesPerCycle | None = Field(
        default=None, description="bytes per cycle from the buffers into one array; unlimited if left out"
    )
    skips_inserted_zeros: bool = Field(
        default=True, description="zeros that a strided convolution inserts into its output gradient cost nothing"
    )

    @property
    def allowed(self) -> list[Dataflow]:
        """The dataflows that an op may have: all, or the first where none is chosen per op."""
        return self.dataflows if self.scheduling == "offline" else self.dataflows[:1]


class SystolicMemories(Spec):
    """DRAM and the on-chip buffers of the three operands (for all arrays together)."""

    dram: Dram
    a_buffer: Size = Field(description="buffer of operand A")
    b_buffer: Size = Field(description="buffer of operand B")
    c_buffer: Size = Field(description="accumulators of C")
    double_buffered: bool = Field(default=True, description="half of each buffer is filled while the other is used")


class Arch(Spec):
    """What every machine has: a name, a clock, a unit for element-wise work, and where its numbers come from."""

    name: str
    title: str = ""
    description: str = ""
    clock: Frequency
    sparsity: Sparsity = Sparsity()
    vector: VectorUnit
    energy: Energy
    _provenance: dict[Path, Provenance] = PrivateAttr(default_factory=dict)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def _repr_html_(self) -> str:
        from nmsim.arch.show import html

        return html(cast(AnyArch, self))

    @property
    def provenance(self) -> dict[Path, Provenance]:
        """Where each number comes from, by its path in the file."""
        return self._provenance

    @property
    def assumptions(self) -> tuple[str, ...]:
        """A line for each number that no source vouches for: its path, how it is known, and why."""
        weak = ((path, p) for path, p in self._provenance.items() if p.kind != "source")
        return tuple(f"{'.'.join(map(str, path))} ({p.kind}): {p.text}" for path, p in weak)


class SystolicArch(Arch):
    """A systolic array, plain or of value-serial units with engines for pruning and weight update (SAT)."""

    kind: Literal["systolic"]
    array: SystolicArray
    reduction_engine: ReductionEngine | None = Field(
        default=None, description="lanes that prune, one element a cycle each (SORE)"
    )
    update_engine: Lanes | None = Field(default=None, description="lanes that update weights, one a cycle each (WUVE)")
    memories: SystolicMemories
    launch: Launch | None = None

    @model_validator(mode="after")
    def _tile_fits(self) -> SystolicArch:
        """The smallest tile of outputs must fit into the accumulators, one group of its operands into their buffers."""
        turns = self.array.interleave if "os" in self.array.allowed else 1
        need = self.array.rows * self.array.columns * turns * ACCUMULATOR_BYTES
        if need > usable(self.memories, self.memories.c_buffer):
            raise ValueError(
                f"the smallest tile, {self.array.rows} x {self.array.columns} outputs of {ACCUMULATOR_BYTES} bytes, "
                f"{turns} in turn, needs {need} B of memories.c_buffer (twice that when double_buffered)"
            )
        deep, bits = self.sparsity.deepest, max(DTYPE_BITS[name] for name in self.array.macs_per_cycle)
        for letter, lanes in (("a", self.array.rows), ("b", self.array.columns)):
            need = lanes * deep * bits // 8
            if need > usable(self.memories, getattr(self.memories, f"{letter}_buffer")):
                raise ValueError(
                    f"the smallest tile of operand {letter.upper()}, {lanes} x {deep} values of {bits} bits, needs "
                    f"{need} B of memories.{letter}_buffer (twice that when double_buffered)"
                )
        return self


class GpuMemories(Spec):
    """The memories outside the cores."""

    l2: Cache
    dram: Dram


class TensorCoreArch(Arch):
    """A GPU with tensor cores, dense or with n:m modes."""

    kind: Literal["tensor_core"]
    vector: GpuVectorUnit
    cores: StreamingMultiprocessors
    kernels: Kernels
    memories: GpuMemories
    launch: Launch
    power: PowerLimit | None = None
    gathers: Gathers | None = None

    @model_validator(mode="after")
    def _has_power_to_spend(self) -> TensorCoreArch:
        """Below the cap there must be something left beyond the static power."""
        if self.power is not None and self.power.cap <= self.energy.static:
            raise ValueError(
                f"power.cap: {self.power.cap:g} W does not exceed energy.static, {self.energy.static:g} W; "
                "nothing would be left to compute with"
            )
        return self

    @model_validator(mode="after")
    def _packs_ahead(self) -> TensorCoreArch:
        """Tensor cores take operands that are packed already."""
        if self.sparsity.weights == "inline":
            raise ValueError(
                "sparsity.weights: a tensor core cannot prune operands while they stream in; allowed: pregenerate"
            )
        return self


class CpuCores(Spec):
    """The cores of a CPU and the dense kernel of its library; an op is shared among all cores."""

    count: Count
    macs_per_cycle: Rates = Field(description="multiply-accumulates per core and cycle of the SIMD units, by data type")
    simd: Size = Field(description="width of a vector register")
    register_tile: Tile = Field(
        description="sums that the dense kernel keeps in registers, [rows, vectors], the vectors along m or along n"
    )
    fma_efficiency: Ratio = Field(default=1.0, description="share of the peak rate that the inner loop issues")
    packing: Rate = Field(description="cycles per element that the dense kernel copies into blocks before it begins")


class CpuCache(Spec):
    """A level of cache: its size for one core, or for all where they share it, and what one core reads of it."""

    size: Size
    bandwidth: BytesPerCycle = Field(description="into one core")


class CpuMemories(Spec):
    """The levels of memory of a CPU."""

    l1: CpuCache
    l2: CpuCache
    l3: CpuCache | None = None
    dram: Dram


class CpuArch(Arch):
    """A CPU: SIMD cores under a hierarchy of caches, with kernels that gather."""

    kind: Literal["cpu"]
    cores: CpuCores
    memories: CpuMemories
    launch: Launch
    gathers: Gathers | None = None

    @model_validator(mode="after")
    def _packs_ahead(self) -> CpuArch:
        """A kernel takes operands that are packed already."""
        if self.sparsity.weights == "inline":
            raise ValueError("sparsity.weights: a CPU prunes in an op of its own; allowed: pregenerate")
        return self


AnyArch = SystolicArch | TensorCoreArch | CpuArch

MODELS: dict[str, type[SystolicArch] | type[TensorCoreArch] | type[CpuArch]] = {
    "systolic": SystolicArch, "tensor_core": TensorCoreArch, "cpu": CpuArch,
}  # fmt: skip
"""The model of each `kind` of machine."""

ACCUMULATOR_BYTES = 4
"""Partial sums are kept in 32 bits by every machine modelled here."""


def usable(memories: SystolicMemories, size: float) -> float:
    """Bytes of a buffer that one tile may fill."""
    return size / 2 if memories.double_buffered else size
