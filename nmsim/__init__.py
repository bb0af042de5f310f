"""nmsim: what an N:M sparsity recipe costs on a machine, over a training run or an inference.

arch = nmsim.load_arch("sat_vcu1525")
step = nmsim.load_workload("resnet18", batch=128).training(recipe="bdwp", pattern="2:8")
print(nmsim.simulate(arch, step).latency_s)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nmsim.arch.load import load_arch
    from nmsim.engines.run import simulate
    from nmsim.engines.schedule import load_schedule, make_schedule
    from nmsim.errors import NmsimError
    from nmsim.results.result import Result
    from nmsim.sparsity.pattern import Pattern
    from nmsim.sparsity.recipe import Recipe
    from nmsim.sweeps.run import sweep
    from nmsim.traces.io import load_trace
    from nmsim.workloads.load import load_workload
    from nmsim.workloads.optable import Workload
    from nmsim.workloads.products import gemm, gemms

_HOME = {
    "load_arch": "nmsim.arch.load",
    "load_schedule": "nmsim.engines.schedule",
    "load_trace": "nmsim.traces.io",
    "load_workload": "nmsim.workloads.load",
    "gemm": "nmsim.workloads.products",
    "gemms": "nmsim.workloads.products",
    "make_schedule": "nmsim.engines.schedule",
    "simulate": "nmsim.engines.run",
    "sweep": "nmsim.sweeps.run",
    "Result": "nmsim.results.result",
    "Workload": "nmsim.workloads.optable",
    "Pattern": "nmsim.sparsity.pattern",
    "Recipe": "nmsim.sparsity.recipe",
    "NmsimError": "nmsim.errors",
}

__all__ = [
    "NmsimError", "Pattern", "Recipe", "Result", "Workload", "gemm", "gemms", "load_arch", "load_schedule",
    "load_trace", "load_workload", "make_schedule", "simulate", "sweep",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first used, so that `import nmsim` stays quick."""
    if name not in _HOME:
        raise AttributeError(f"module 'nmsim' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
