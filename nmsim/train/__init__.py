"""The NumPy reference trainer: recipes executed on real (small) networks, every product recorded and checked.

from nmsim.train import Trainer, TrainingFile, check_gradients
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nmsim.train.config import TrainingFile
    from nmsim.train.data.load import load_data
    from nmsim.train.gradcheck import check_gradients
    from nmsim.train.loop import Trainer
    from nmsim.train.models import make_model

_HOME = {
    "Trainer": "nmsim.train.loop",
    "TrainingFile": "nmsim.train.config",
    "check_gradients": "nmsim.train.gradcheck",
    "load_data": "nmsim.train.data.load",
    "make_model": "nmsim.train.models",
}

__all__ = ["Trainer", "TrainingFile", "check_gradients", "load_data", "make_model"]


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'nmsim.train' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
