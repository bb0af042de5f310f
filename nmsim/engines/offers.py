"""The kernels that a GPU's library offers for each product: output tiles, and how a reduction is split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nmsim.arch.gpu import Kernels
from nmsim.engines.convolutions import on_tensor_cores, own_kernels
from nmsim.engines.gpu_traffic import Kernel
from nmsim.engines.products import Products
from nmsim.workloads.optable import DTYPES, STAGES


def offered(kernels: Kernels, p: Products) -> Iterator[tuple[Kernel, np.ndarray]]:
    """The candidates, and the ops for which the library offers each (boolean [ops])."""
    sparse = p.side > 0
    dense_splits, sparse_splits = kernels.split_k, kernels.sparse.split_k or kernels.split_k
    modes = {
        (float(split), 0.0): np.where(sparse, split in sparse_splits, split in dense_splits)
        for split in sorted({*dense_splits, *sparse_splits})
    }
    if kernels.stream_k:
        modes[1.0, 1.0] = np.ones(len(p.m), dtype=bool)
    if (conv := own_kernels(kernels, p)).any():
        own = kernels.conv.split_k if kernels.conv is not None else []
        update, cuda = p.stage == STAGES.index("WU"), ~on_tensor_cores(kernels, p)
        modes |= {(float(split), 0.0): np.zeros(len(p.m), dtype=bool) for split in own} | modes
        for (split, stream), rows in modes.items():
            parted = update & (stream == 0) & np.where(cuda, split in own, split in dense_splits)
            modes[split, stream] = np.where(conv, parted | ((split, stream) == (1.0, 0.0)), rows)
    for (tile_m, tile_n), tiled in _tiles(kernels, p).items():
        for (split, stream), split_so in modes.items():
            if (able := tiled & split_so).any():
                yield Kernel(float(tile_m), float(tile_n), split, stream), able


def _tiles(kernels: Kernels, p: Products) -> dict[tuple[int, int], np.ndarray]:
    """The tiles of the library, and the ops that may use each (boolean [ops]).

    The rows of a tile share the columns of a V:n:m operand that they gather: its tiles are as high as its blocks,
    or the next lower that there is.
    """
    sparse, none = p.side > 0, np.zeros(len(p.m), dtype=bool)
    sparse_tiles = kernels.sparse.tiles or kernels.tiles
    transposed = [(wide, high) for high, wide in sparse_tiles]
    conv = own_kernels(kernels, p)
    narrow = kernels.conv.narrow if kernels.conv is not None else []
    cuda, warp = ~on_tensor_cores(kernels, p), min(kernels.warp_tile)
    back = conv & ((p.stage == STAGES.index("WU")) | (p.stage == STAGES.index("BP")) & ~cuda)
    special = conv | of_own_tiles(kernels, p)
    found: dict[tuple[int, int], np.ndarray] = {}
    offers: list[tuple[Sequence[Sequence[int]], np.ndarray]] = [
        (kernels.tiles, ~special & ~sparse),
        *((tiles, (p.dtype == DTYPES.index(name)) & ~sparse & ~conv) for name, tiles in kernels.tiles_of.items()),
        (sparse_tiles, p.side == 1),
        (transposed, p.side == 2),
        *([(kernels.conv.tiles, conv & ~back)] if kernels.conv is not None else []),
        *([(kernels.conv.gradient_tiles or kernels.conv.tiles, back)] if kernels.conv is not None else []),
        *(
            ([tile], conv & (np.where(tile[0] < tile[1], p.m, p.n) <= min(tile)) & (cuda | (min(tile) >= warp)))
            for tile in narrow
        ),
    ]
    for tiles, rows in offers:
        for tile_m, tile_n in tiles:
            along = np.where(p.side == 1, tile_m, tile_n)
            shortest = min(min(tile) for tile in tiles)
            shared = (p.block == 0) | (along <= np.maximum(p.block, shortest))
            found[tile_m, tile_n] = found.get((tile_m, tile_n), none) | (rows & shared)
    return found


def of_own_tiles(kernels: Kernels, p: Products) -> np.ndarray:
    """The products of data types that have tiles of their own, as of fp32 on CUDA cores (boolean [ops])."""
    return np.isin(p.dtype, [DTYPES.index(name) for name in kernels.tiles_of])
