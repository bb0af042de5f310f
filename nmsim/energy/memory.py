"""SRAM as a law: energy of an access and leakage against size, width, ports and node.

    E = base (node/45 nm)^p (size/1 KiB)^a (width/64 bit)^b (1 + port (ports - 1))

fitted to runs of CACTI from 45 to 22 nm (the coefficients and their residuals stand in the energy table). Below 22 nm
energies fall more slowly, with an exponent through a published 7 nm memory. For area see nmsim.energy.area.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nmsim.energy.files import Law, Sram
from nmsim.errors import UnsupportedError

KIB = 1024.0
FINEST = 22e-9
"""The finest node of the runs that the law was fitted to."""
SIZES = (8 * KIB, 4096 * KIB)
WIDTHS = (64.0, 1024.0)
"""Sizes in bytes and widths in bits of these runs; beyond them the law is extrapolated."""


@dataclass(frozen=True)
class SramModel:
    """The laws at one node; `factor` times the energies of custom logic."""

    laws: Sram
    node_m: float
    factor: float = 1.0

    def read_j(self, size_bytes: float, width_bits: float = 64.0, ports: int = 1) -> float:
        """Joules of one read of `width_bits`."""
        return self._law(self.laws.read, size_bytes, width_bits, ports) * self.factor

    def write_j(self, size_bytes: float, width_bits: float = 64.0, ports: int = 1) -> float:
        """Joules of one write of `width_bits`."""
        return self._law(self.laws.write, size_bytes, width_bits, ports) * self.factor

    def leakage_w(self, size_bytes: float, ports: int = 1, low_power: bool = False) -> float:
        """Watts that the macro leaks at 22 nm and above; below, as at 22 nm."""
        law = self.laws.low_power_leakage if low_power else self.laws.leakage
        scale = (max(self.node_m, FINEST) / 45e-9) ** law.node
        return law.base * scale * (size_bytes / KIB) ** law.size * self._ports(ports)

    def _law(self, law: Law, size_bytes: Any, width_bits: Any, ports: int) -> Any:
        """Joules; an array for an array of sizes or widths, each pair that occurs evaluated once."""
        if np.ndim(size_bytes) or np.ndim(width_bits):
            pairs = np.stack(np.broadcast_arrays(size_bytes, width_bits)).astype(float)
            distinct, spread = np.unique(pairs, axis=1, return_inverse=True)
            values = [self._law(law, size, width, ports) for size, width in distinct.T.tolist()]
            return np.array(values)[spread.reshape(-1)]
        if size_bytes <= 0 or width_bits <= 0:
            given = f"{size_bytes:g} B and {width_bits:g} bit"
            raise UnsupportedError(f"an SRAM has a size and a width above 0, not {given}")
        scale = (max(self.node_m, FINEST) / 45e-9) ** law.node
        fine = (self.node_m / FINEST) ** self.laws.below_22nm if self.node_m < FINEST else 1.0
        shape = (size_bytes / KIB) ** law.size * (width_bits / 64) ** law.width
        return law.base * scale * fine * shape * self._ports(ports)

    def _ports(self, ports: int) -> float:
        if ports < 1:
            raise UnsupportedError(f"an SRAM has at least one port, not {ports}")
        return 1 + self.laws.port * (ports - 1)


def fit(
    node_m: np.ndarray, size_bytes: np.ndarray, width_bits: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The law's (log base, node, size, width) fitted to values `y` [runs] by least squares of logarithms, and the
    residuals of the logarithm [runs]."""
    columns = [np.ones(len(y)), np.log(node_m / 45e-9), np.log(size_bytes / KIB), np.log(width_bits / 64)]
    matrix = np.column_stack(columns)
    found, *_ = np.linalg.lstsq(matrix, np.log(y), rcond=None)
    return found, matrix @ found - np.log(y)
