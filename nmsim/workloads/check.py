"""Model files: reading them, and the mistakes that show only when the parts of a file are seen together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from nmsim.errors import Problem, ShapeError, SpecError, unknown
from nmsim.specfile import Document, Path, read, validate
from nmsim.workloads.lower_products import key_value_heads, routed_experts
from nmsim.workloads.model import MAX_LAYERS, count_layers, matching, no_layer
from nmsim.workloads.modelfile import (
    SAMPLE,
    AnyLayer,
    Attention,
    Conv,
    Embedding,
    Linear,
    ModelFile,
    Norm,
    Pool,
    Repeat,
)
from nmsim.workloads.shapes import FlatLayer, conv_weight, output_size

Placed = tuple[Path, str, FlatLayer]


def read_model_file(path: str | os.PathLike[str]) -> ModelFile:
    """The model file at `path`; raises SpecError with every mistake in it."""
    document = read(path)
    file = validate(ModelFile, document)
    if found := list(problems(document, file)):
        raise SpecError(found)
    return file


def problems(document: Document, file: ModelFile) -> Iterator[Problem]:
    """The mistakes of a valid document: names used twice or nowhere, unknown streams, sizes that do not fit."""
    if (total := count_layers(file.layers)) > MAX_LAYERS:
        yield document.problem(("layers",), f"{total} layers with repeats expanded; at most {MAX_LAYERS} are supported")
        return
    placed = list(_walk(file.layers, ("layers",), ""))
    if SAMPLE in file.sequence:
        yield document.problem(("sequence", SAMPLE), f"{SAMPLE!r} is reserved for layers that run once per sample")
    yield from _repeated_names(document, placed)
    yield from _unused_globs(document, file, [name for _, name, _ in placed])
    for path, layer in {path: layer for path, _, layer in placed}.items():
        for step, message in [*_stream_mistakes(layer, file), *_size_mistakes(layer)]:
            yield document.problem((*path, step), message)


def _walk(layers: Iterable[AnyLayer], path: Path, prefix: str) -> Iterator[Placed]:
    """Every layer with repeats expanded: its place in the file, its full name, the layer as it is written."""
    for i, layer in enumerate(layers):
        if not isinstance(layer, Repeat):
            yield (*path, i), prefix + layer.name, layer
            continue
        for turn in range(layer.count if layer.layers else 0):
            yield from _walk(layer.layers, (*path, i, "layers"), f"{prefix}{layer.name}.{turn}.")


def _repeated_names(document: Document, placed: list[Placed]) -> Iterator[Problem]:
    first: dict[str, Path] = {}
    reported: set[Path] = set()
    for path, name, _ in placed:
        if name in first and path not in reported:
            line = document.problem((*first[name], "name"), "").line
            yield document.problem((*path, "name"), f"the name {name!r} stands here again; it was first at line {line}")
            reported.add(path)
        first.setdefault(name, path)


def _unused_globs(document: Document, file: ModelFile, names: list[str]) -> Iterator[Problem]:
    for glob in file.keep_dense:
        if not any(matching([glob], name) for name in names):
            yield document.problem(("keep_dense", glob), no_layer(glob, names), at_key=True)


def _stream_mistakes(layer: FlatLayer, file: ModelFile) -> Iterator[tuple[str, str]]:
    streams = [*file.sequence, SAMPLE]
    if isinstance(layer, Linear | Attention | Embedding | Norm) and layer.tokens not in streams:
        yield "tokens", unknown("stream", layer.tokens, streams)
    if isinstance(layer, Attention) and layer.keys is not None and layer.keys not in streams:
        yield "keys", unknown("stream", layer.keys, streams)


def _size_mistakes(layer: FlatLayer) -> Iterator[tuple[str, str]]:
    checks: list[tuple[str, Callable[[], object]]] = []
    match layer:
        case Conv():
            checks = [("groups", lambda: conv_weight(layer)), ("input", lambda: output_size(layer))]
        case Pool():
            checks = [("input", lambda: output_size(layer))]
        case Linear():
            checks = [("active", lambda: routed_experts(layer))]
        case Attention():
            checks = [("kv_heads", lambda: key_value_heads(layer))]
    for field, check in checks:
        try:
            check()
        except ShapeError as error:
            yield field, str(error)
