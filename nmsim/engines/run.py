"""simulate(): the one door to the engines."""

from __future__ import annotations

import os

from nmsim.arch.load import load_arch
from nmsim.arch.schema import AnyArch
from nmsim.engines import analytic
from nmsim.errors import UnsupportedError, unknown
from nmsim.results.result import Result
from nmsim.workloads.optable import Workload

ENGINES = {"analytic": analytic.simulate}


def simulate(
    arch: AnyArch | str | os.PathLike[str], workload: Workload, engine: str = "analytic", strict: bool = False
) -> Result:
    """The cost of `workload` on `arch` (a machine from `load_arch`, or its name).

    `strict` refuses sparsity that the machine cannot skip, which otherwise runs dense and says why. Raises
    UnsupportedError for an engine, data type or, with `strict`, pattern that is not there.
    """
    if engine not in ENGINES:
        raise UnsupportedError(unknown("engine", engine, ENGINES))
    machine = load_arch(arch) if isinstance(arch, (str, os.PathLike)) else arch
    return ENGINES[engine](machine, workload, strict)
