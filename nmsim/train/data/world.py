"""What is true in a small world, and the questions that can be asked of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from nmsim.errors import unknown
from nmsim.train.data.checks import DataError
from nmsim.train.data.dataset import IGNORED, Dataset, Split

PAD, END, ASK, GIVES = 0, 1, 2, 3
TASKS = ("fact", "find", "add", "sort", "pick", "text")
"""The tasks; the name of each is also the first word of its documents."""

HELD_OUT = 5  # one in so many sets of keys, and of items to sort, is never seen in training
_PATIENCE = 200  # draws of marks, none of which divides the sets, before the options are called too narrow
_SETS = {"key": "told", "item": "listed"}  # families of which sets are held out, and how many words a set has


@dataclass(frozen=True, eq=False)
class Items:
    """Questions with one right answer each: `prompts` [N, P] and `answers` [N, A] ids, the end mark left out."""

    prompts: np.ndarray
    answers: np.ndarray

    def __len__(self) -> int:
        return len(self.prompts)


@dataclass(frozen=True, eq=False)
class World:
    """What is true. `first` is the first id and `sizes` the number of words of each family.

    `objects` [S, R] are the ids of the objects of all facts; `frequent` [S] tells the subjects that are met often and
    `odds` [S] how often each is met. `marks` are random numbers by which sets are held out of training.
    """

    words: tuple[str, ...]
    first: Mapping[str, int]
    sizes: Mapping[str, int]
    objects: np.ndarray
    frequent: np.ndarray
    odds: np.ndarray
    marks: np.ndarray
    transition: np.ndarray
    entropy_rate_nats: float

    def items(self, task: str, rng: np.random.Generator, count: int, held_out: bool) -> Items:
        """`count` questions of a task (not text), with those sets only that training sees, or those it never sees.

        Facts have no held-out side: they are drawn from all of the world, as often as in training. Raises DataError
        for a task without questions.
        """
        makers = {"fact": self._fact, "find": self._find, "add": self._add, "sort": self._sort, "pick": self._pick}
        if task not in makers:
            raise DataError(unknown("task with questions", task, makers))
        return makers[task](rng, count, held_out)

    def facts(self) -> tuple[Items, np.ndarray]:
        """A question for every fact, subject by subject, and whether its subject is frequent [S·R]."""
        subjects, relations = (x.ravel() for x in np.indices(self.objects.shape))
        return self._about(subjects, relations), self.frequent[subjects]

    def choices(self, right: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Objects to choose from [N, C], each once, in random order; and the place of the right one [N]."""
        count, size = self.sizes["label"], self.sizes["object"]
        apart = 1 + _subsets(rng, size - 1, count - 1, len(right))
        wrong = self.first["object"] + (right[:, None] - self.first["object"] + apart) % size
        place = rng.integers(count, size=len(right))
        offered = np.insert(wrong, 0, right, axis=1)
        order = (np.arange(count) - place[:, None]) % count
        return np.take_along_axis(offered, order, axis=1), place

    def pick_prompts(self, questions: Items, offered: np.ndarray) -> np.ndarray:
        """`pick o A o B o C o D ? s r` for questions about facts and the objects offered [N, C]."""
        labels = np.broadcast_to(self._ids("label"), offered.shape)
        told = np.stack([offered, labels], axis=2).reshape(len(offered), -1)
        return self._row("pick", told, ASK, questions.prompts[:, 1:])

    def documents(self, task: str, rng: np.random.Generator, rows: int, length: int, held_out: bool) -> Split:
        """Rows of questions with their answers, as many as fit; targets are the answers and their end marks."""
        if task == "find":
            return self._find_documents(rng, rows, length, held_out)
        one = self.items(task, rng, 1, held_out)
        width = one.prompts.shape[1] + one.answers.shape[1] + 1
        many = length // width
        made = self.items(task, rng, rows * many, held_out)
        ends = np.full((len(made), 1), END)
        tokens = np.concatenate([made.prompts, made.answers, ends], axis=1).reshape(rows, many * width)
        asked = np.tile(np.arange(width) >= made.prompts.shape[1], many)
        return _split(tokens, asked, length)

    def _about(self, subjects: np.ndarray, relations: np.ndarray) -> Items:
        pair = np.stack([self.first["subject"] + subjects, self.first["relation"] + relations], axis=1)
        return Items(self._row("fact", pair), self.objects[subjects, relations][:, None])

    def _fact(self, rng: np.random.Generator, count: int, held_out: bool) -> Items:
        subjects = rng.choice(len(self.odds), count, p=self.odds)
        return self._about(subjects, rng.integers(self.sizes["relation"], size=count))

    def _pick(self, rng: np.random.Generator, count: int, held_out: bool) -> Items:
        questions = self._fact(rng, count, held_out)
        offered, place = self.choices(questions.answers[:, 0], rng)
        return Items(self.pick_prompts(questions, offered), self.first["label"] + place[:, None])

    def _add(self, rng: np.random.Generator, count: int, held_out: bool) -> Items:
        size = self.sizes["number"]
        pairs = self._allowed("number", lambda n: rng.integers(size, size=(n, 2)), count, held_out)
        total = pairs.sum(axis=1, keepdims=True) % size
        return Items(self._row("add", self.first["number"] + pairs), self.first["number"] + total)

    def _sort(self, rng: np.random.Generator, count: int, held_out: bool) -> Items:
        items = self.first["item"] + self._distinct("item", rng, count, held_out)
        return Items(self._row("sort", items, GIVES), np.sort(items, axis=1))

    def _find(self, rng: np.random.Generator, count: int, held_out: bool) -> Items:
        told, keys, values = self._pairs(rng, count, held_out)
        about = rng.integers(keys.shape[1], size=(count, 1))
        key, value = (np.take_along_axis(x, about, axis=1) for x in (keys, values))
        return Items(self._row("find", told, ASK, key), value)

    def _find_documents(self, rng: np.random.Generator, rows: int, length: int, held_out: bool) -> Split:
        """Pairs, then as many questions as fit, each about any of the keys: those left over tell nothing."""
        told, keys, values = self._pairs(rng, rows, held_out)
        many = (length - 2 - told.shape[1]) // 3
        about = rng.integers(keys.shape[1], size=(rows, many))
        answers = [np.take_along_axis(x, about, axis=1) for x in (keys, values)]
        asked = np.stack([*answers, np.full_like(about, END)], axis=2).reshape(rows, -1)
        before = np.zeros(2 + told.shape[1], bool)
        return _split(self._row("find", told, ASK, asked), np.r_[before, np.tile([False, True, True], many)], length)

    def _pairs(self, rng: np.random.Generator, count: int, held_out: bool) -> tuple[np.ndarray, ...]:
        """Keys and their values as they are told [N, 2·pairs], and by themselves [N, pairs]."""
        keys = self.first["key"] + self._distinct("key", rng, count, held_out)
        values = self.first["value"] + rng.integers(self.sizes["value"], size=keys.shape)
        return np.stack([keys, values], axis=2).reshape(count, -1), keys, values

    def _distinct(self, family: str, rng: np.random.Generator, count: int, held_out: bool) -> np.ndarray:
        chosen = self.sizes[_SETS[family]]
        return self._allowed(family, lambda n: _subsets(rng, self.sizes[family], chosen, n), count, held_out)

    def _allowed(self, family: str, draw: Callable[[int], np.ndarray], count: int, held_out: bool) -> np.ndarray:
        """`count` rows of those that `draw` gives that are on the side asked for."""
        found: list[np.ndarray] = []
        have = 0
        while have < count:
            drawn = draw(max(count, HELD_OUT))
            codes = self.marks[self.first[family] + drawn].sum(axis=1)
            kept = _one_order(codes, drawn) if family == "number" else codes % HELD_OUT == 0
            fitting = drawn[kept == held_out]
            found.append(fitting)
            have += len(fitting)
        return np.concatenate(found)[:count]

    def _ids(self, family: str) -> np.ndarray:
        return self.first[family] + np.arange(self.sizes[family])

    def _row(self, task: str, *parts: np.ndarray | int) -> np.ndarray:
        """The mark of the task and the parts, arrays [N, ...] or one id for all rows, side by side."""
        rows = next(len(x) for x in parts if isinstance(x, np.ndarray))
        columns = (np.full((rows, 1), x) if isinstance(x, int) else x for x in (self.first[task], *parts))
        return np.concatenate(list(columns), axis=1)


def make_world(
    rng: np.random.Generator, families: Mapping[str, int], frequent: int, rarity: float, more: Mapping[str, int],
    text: Dataset,
) -> World:  # fmt: skip
    """A random world of `families` of so many words each, in which sets have as many words as `more` says.

    Raises DataError where there are too few different sets to hold some out of training.
    """
    words: list[str] = ["<pad>", ".", "?", "=", *TASKS]
    first = {task: words.index(task) for task in TASKS}
    for family, size in families.items():
        first[family] = len(words)
        words += [f"{family}{i}" for i in range(size)]
    often = np.arange(families["subject"]) < frequent
    odds = np.where(often, rarity, 1.0)
    facts = first["object"] + rng.integers(families["object"], size=(families["subject"], families["relation"]))
    marks = _marks(rng, len(words), {f: first[f] + np.arange(size) for f, size in families.items()}, more)
    return World(
        tuple(words), first, {**families, **more}, facts, often, odds / odds.sum(), marks,
        text.info["transition"], text.info["entropy_rate_nats"],
    )  # fmt: skip


def _marks(rng: np.random.Generator, count: int, ids: Mapping[str, np.ndarray], more: Mapping[str, int]) -> np.ndarray:
    """A number for each word [count], by which of every kind of set some are held out of training and some are not."""
    for _ in range(_PATIENCE):
        marks = rng.integers(1 << 40, size=count)
        sums = {family: _sums(marks[ids[family]], more[chosen], HELD_OUT) for family, chosen in _SETS.items()}
        sums["number"] = _sums(marks[ids["number"]], 2, 3) | {1}  # of a pair held out, training has the other order
        narrow = [family for family, found in sums.items() if 0 not in found or len(found) == 1]
        if not narrow:
            return marks
    raise DataError(f"there are too few different sets of words {narrow[0]} to hold some out of training")


def _sums(marks: np.ndarray, chosen: int, modulus: int) -> set[int]:
    """What the marks of `chosen` different words can add up to, modulo `modulus`."""
    sums: list[set[int]] = [{0}] + [set() for _ in range(chosen)]
    for mark in marks.tolist():
        for have in reversed(range(chosen)):
            sums[have + 1] |= {(total + mark) % modulus for total in sums[have]}
    return sums[chosen]


def _split(tokens: np.ndarray, asked: np.ndarray, length: int) -> Split:
    """Inputs and targets of rows of words [N, T], T at most length + 1, of which those `asked` [T] are to be said."""
    whole = np.full((len(tokens), length + 1), PAD, np.int32)
    whole[:, : tokens.shape[1]] = tokens
    wanted = np.zeros(length + 1, bool)
    wanted[: len(asked)] = asked
    return Split(whole[:, :-1].copy(), np.where(wanted, whole, np.int32(IGNORED))[:, 1:].copy())


def _subsets(rng: np.random.Generator, size: int, chosen: int, count: int) -> np.ndarray:
    """`count` random choices [count, chosen] of different numbers below `size`."""
    return rng.permuted(np.tile(np.arange(size), (count, 1)), axis=1)[:, :chosen]


def _one_order(codes: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """True for one of the two orders of one set of two numbers in three: rows of pairs [N, 2] whose sets have codes."""
    rises = np.where(codes // 3 % 2 == 0, pairs[:, 0] < pairs[:, 1], pairs[:, 0] > pairs[:, 1])
    return (codes % 3 == 0) & rises
