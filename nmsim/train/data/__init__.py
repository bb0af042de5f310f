"""Datasets for training: generated from a seed without a network, or read from the user's own files."""

from nmsim.train.data.batches import Batches
from nmsim.train.data.binary import from_cifar, from_idx
from nmsim.train.data.checks import DataError
from nmsim.train.data.dataset import IGNORED, Dataset, Split
from nmsim.train.data.images import images
from nmsim.train.data.knowledge import knowledge
from nmsim.train.data.load import GENERATED, load_data
from nmsim.train.data.npz import from_npz
from nmsim.train.data.sequences import markov, recall
from nmsim.train.data.signals import signals
from nmsim.train.data.text import from_text
from nmsim.train.data.translation import decoder_inputs, translation

__all__ = [
    "GENERATED",
    "IGNORED",
    "Batches",
    "DataError",
    "Dataset",
    "Split",
    "decoder_inputs",
    "from_cifar",
    "from_idx",
    "from_npz",
    "from_text",
    "images",
    "knowledge",
    "load_data",
    "markov",
    "recall",
    "signals",
    "translation",
]
