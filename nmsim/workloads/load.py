"""Workloads by name or from a file."""

from __future__ import annotations

import os
from collections.abc import Mapping

from nmsim.errors import UnsupportedError
from nmsim.library import YAML, locate
from nmsim.workloads.check import read_model_file
from nmsim.workloads.model import Model
from nmsim.workloads.optable import Workload
from nmsim.workloads.quantized import with_weights
from nmsim.workloads.tables import read_products

CSV = ".csv"
FOREIGN = {".json": "Hugging Face config.json", ".onnx": "ONNX"}


def load_workload(
    name_or_path: str | os.PathLike[str],
    batch: int = 1,
    seq_len: int | Mapping[str, int] | None = None,
    decode: bool = False,
    context: int | None = None,
    dtype: str = "fp16",
    weight_dtype: str | None = None,
    weight_group: int | None = None,
) -> Workload:
    """The forward pass of a model, dense, from the library by name or from a .yaml file; or the products of a .csv.

    `seq_len` replaces the tokens per sample of every stream whose length is not fixed by the architecture, or of
    those it names. `decode` is one step of generation: one new token per sample, which attends to `context` cached
    tokens, itself included (default: the length of its stream). `.training(...)` and `.inference(...)` of the
    result apply a recipe. `weight_dtype` and `weight_group` quantise the weights, see `Workload.quantized`; a recipe
    applied to the result starts from weights that are not.

    Raises SpecError with every mistake of the file, UnsupportedError for an unknown name, a file that cannot be
    read yet, or an option that the model has no use for, ShapeError for sizes below 1 or beyond 64 bits.
    """
    path = locate("workloads", name_or_path, (*YAML, CSV, *FOREIGN))
    suffix = path.suffix.lower()
    if suffix in FOREIGN:
        raise UnsupportedError(
            f"{path.name}: {FOREIGN[suffix]} files cannot be imported yet; write the layers as YAML; see workloads/"
        )
    if suffix not in (*YAML, CSV):
        raise UnsupportedError(f"{path}: a workload file ends in .yaml, .yml or .csv")
    if suffix == CSV:
        if batch != 1 or seq_len is not None or decode or context is not None:
            raise UnsupportedError(f"{path.name} is a table of products: it has no batch, seq_len, decode or context")
        return with_weights(read_products(path, dtype), weight_dtype, weight_group)
    model = Model.build(read_model_file(path), batch, seq_len, decode, context)
    return with_weights(model.forward(dtype), weight_dtype, weight_group)
