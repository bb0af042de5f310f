"""A model: the flat list of a network's layers and the sizes of one run of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

from nmsim.errors import ShapeError, UnsupportedError, nearest, unknown
from nmsim.workloads.lower import forward_rows
from nmsim.workloads.lower_products import Row
from nmsim.workloads.modelfile import AnyLayer, ModelFile, Repeat
from nmsim.workloads.optable import DTYPES, Workload, WorkloadBuilder
from nmsim.workloads.shapes import FlatLayer, Run, parameters

MAX_LAYERS = 100_000


@dataclass(frozen=True, eq=False)
class Model:
    """A network run at one batch size and sequence length; `layers` are those of the file with repeats expanded."""

    file: ModelFile
    layers: tuple[FlatLayer, ...]
    run: Run

    @classmethod
    def build(
        cls,
        file: ModelFile,
        batch: int = 1,
        seq_len: int | Mapping[str, int] | None = None,
        decode: bool = False,
        context: int | None = None,
    ) -> Model:
        """The model of `file`; the arguments are those of `load_workload`, and so are the errors."""
        streams = _streams(file, seq_len)
        generated = frozenset(name for name, stream in file.sequence.items() if stream.autoregressive)
        if decode and not generated:
            raise UnsupportedError(f"{file.name!r} cannot decode: none of its streams is autoregressive")
        if context is not None and not decode:
            raise UnsupportedError("`context` is the number of cached tokens in decode; set decode too")
        if context is None:
            context = max((streams[name] for name in generated), default=1)
        run = Run(size("batch", batch), streams, generated, decode, size("context", context))
        return cls(file, tuple(flatten(file.layers)), run)

    @property
    def batch(self) -> int:
        """Samples per step."""
        return self.run.batch

    @property
    def streams(self) -> Mapping[str, int]:
        """Tokens per sample of each stream."""
        return self.run.streams

    @property
    def decode(self) -> bool:
        """Whether the run is one token of autoregressive decoding."""
        return self.run.decode

    @property
    def context(self) -> int:
        """Tokens that a decoded token attends to, itself included."""
        return self.run.context

    @cached_property
    def parameters(self) -> int:
        """Learned parameters: weights, biases, scales and shifts; running statistics not counted."""
        return sum(parameters(layer) for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the dense forward pass at this batch."""
        return self.forward().macs_dense

    @property
    def info(self) -> dict[str, object]:
        """What a result says of the run."""
        generated = self.run.autoregressive if self.decode else ()
        streams = {name: length for name, length in self.streams.items() if name not in generated}
        info: dict[str, object] = {"model": self.file.name, "batch": self.batch, "streams": streams}
        return info | ({"decode": True, "context": self.context} if self.decode else {})

    def forward(self, dtype: str = "fp16") -> Workload:
        """The dense forward pass of inference: FF and VECTOR ops."""
        builder, dtype = WorkloadBuilder(self.file.name), known_dtype(dtype)
        for layer in self.layers:
            for row in forward_rows(layer, self.run, training=False):
                builder.add(**with_dtype(row, dtype))
        return builder.build(info=self.info | {"dtype": dtype}, model=self)


def with_dtype(row: Row, dtype: str) -> Row:
    """The row with all operands of `dtype`, except where it names another."""
    return {"a_dtype": dtype, "b_dtype": dtype, "c_dtype": dtype} | row


def known_dtype(dtype: str) -> str:
    """The dtype; raises UnsupportedError naming the nearest if there is none of that name."""
    if dtype not in DTYPES:
        raise UnsupportedError(unknown("dtype", dtype, DTYPES))
    return dtype


def flatten(layers: Iterable[AnyLayer]) -> Iterator[FlatLayer]:
    """The layers in order, those of a repeat as `<name>.<i>.<layer>`; raises ShapeError beyond MAX_LAYERS."""
    layers = list(layers)
    if (total := count_layers(layers)) > MAX_LAYERS:
        raise ShapeError(f"{total} layers with repeats expanded; at most {MAX_LAYERS} are supported")
    for layer in layers:
        yield from _expanded(layer, "")


def count_layers(layers: Iterable[AnyLayer]) -> int:
    """How many layers there are with repeats expanded."""
    return sum(layer.count * count_layers(layer.layers) if isinstance(layer, Repeat) else 1 for layer in layers)


def _expanded(layer: AnyLayer, prefix: str) -> Iterator[FlatLayer]:
    if not isinstance(layer, Repeat):
        yield layer.model_copy(update={"name": prefix + layer.name}) if prefix else layer
        return
    for i in range(layer.count if layer.layers else 0):
        for inner in layer.layers:
            yield from _expanded(inner, f"{prefix}{layer.name}.{i}.")


def matching(globs: Iterable[str], name: str) -> str | None:
    """The first of `globs` (shell patterns; a plain name matches itself) that matches a layer name."""
    return next((glob for glob in globs if glob == name or fnmatchcase(name, glob)), None)


def no_layer(glob: str, names: Iterable[str]) -> str:
    """The message for a name or glob that matches no layer, with the layers most like it."""
    close = nearest(glob, names)
    return f"no layer matches {glob!r}" + (f"; did you mean {', '.join(close)}?" if close else "")


def _streams(file: ModelFile, seq_len: int | Mapping[str, int] | None) -> dict[str, int]:
    """Tokens per sample of each stream, with `seq_len` put in place of the lengths that may change."""
    lengths = {name: stream.length for name, stream in file.sequence.items()}
    free = [name for name, stream in file.sequence.items() if not stream.fixed]
    if seq_len is None:
        return lengths
    if not free:
        raise UnsupportedError(f"{file.name!r} has no sequence whose length can be set")
    wanted = seq_len if isinstance(seq_len, Mapping) else dict.fromkeys(free, seq_len)
    for name, length in wanted.items():
        if name not in free:
            fixed = f"stream {name!r} has a length fixed by the architecture; "
            raise UnsupportedError((fixed if name in lengths else "") + unknown("stream", name, free))
        lengths[name] = size(f"the length of stream {name!r}", length)
    return lengths


def size(what: str, value: int) -> int:
    """The value as an int; raises ShapeError unless it is a whole number of at least 1."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise ShapeError(f"{what} must be a whole number of at least 1, not {value!r}")
    return value.__index__()
