"""Evaluation beyond the loss: what a language model knows, finds, computes and writes, beside its perplexity.

from nmsim.train.evaluate import battery, measure, to_frame
"""

from nmsim.train.evaluate.battery import Row, battery, measure, to_frame
from nmsim.train.evaluate.generate import Generated, Reader, choose, greedy, log_likelihood
from nmsim.train.evaluate.score import contains, exact_match, f1, perplexity, rising, same_words

__all__ = [
    "Generated",
    "Reader",
    "Row",
    "battery",
    "choose",
    "contains",
    "exact_match",
    "f1",
    "greedy",
    "log_likelihood",
    "measure",
    "perplexity",
    "rising",
    "same_words",
    "to_frame",
]
