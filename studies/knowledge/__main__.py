"""`python -m studies.knowledge`: train the language model by each recipe, ask the battery, write the table.

Every run leaves a record under out/, so that an interrupted study goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from nmsim.files import atomic_write
from nmsim.library import find
from nmsim.specfile import read, set_path, validate
from nmsim.train.config import TrainingFile
from nmsim.train.data.load import load_data
from nmsim.train.evaluate import battery
from nmsim.train.loop import Trainer

RECORDS = Path("out/studies/knowledge")
HERE = Path(__file__).parent
SEEDS = (1, 2)
TRAINED = (("dense", "dense"), ("srste", "4:8"), ("srste", "2:4"), ("srste", "2:8"), ("bdwp", "2:8"), ("asp", "2:4"))
ONE_SHOT = tuple((f"oneshot_{m}", p) for m in ("magnitude", "wanda", "sparsegpt") for p in ("4:8", "2:4", "2:8"))
SHOWN = {
    "text.test.perplexity": "perplexity of text",
    "fact_frequent.train.exact_match": "frequent facts",
    "fact_rare.train.exact_match": "rare facts",
    "fact_rare.train.choice_by_likelihood": "rare facts, choice by likelihood",
    "find.test.exact_match": "lookups",
    "add.test.exact_match": "sums",
    "sort.test.exact_match": "sorting",
}


def config(recipe: str, pattern: str, seed: int) -> TrainingFile:
    """The training file of the library with this recipe."""
    document = read(find("workloads/training", "language_model_knowledge"))
    for path, value in (("recipe", recipe), ("pattern", pattern), ("check_every", "100")):
        document = set_path(document, path, value)
    return validate(TrainingFile, set_path(document, "seed", seed))


@lru_cache(maxsize=1)
def trained(recipe: str, pattern: str, seed: int) -> Trainer:
    """A finished run."""
    settings = config(recipe, pattern, seed)
    trainer = Trainer(settings, load_data(settings.data.name, seed=seed, **settings.data.options), record=False)
    trainer.train()
    return trainer


def pruned(recipe: str, pattern: str, seed: int) -> Trainer:
    """The dense run of this seed, pruned after its last step."""
    dense = trained("dense", "dense", seed)
    trainer = Trainer(config(recipe, pattern, seed), dense.data, record=False)
    for mine, theirs in zip(trainer.parameters, dense.parameters, strict=True):
        mine.value[...] = theirs.value
    trainer.step = dense.step
    trainer.finish()
    return trainer


def runs() -> Iterator[tuple[str, str, int]]:
    """Recipe, pattern and seed of every run; those that prune a dense run come right after it."""
    for seed in SEEDS:
        for recipe, pattern in (TRAINED[0], *ONE_SHOT, *TRAINED[1:]):
            yield recipe, pattern, seed


def scores(recipe: str, pattern: str, seed: int) -> dict[str, Any]:
    """The record of a run, from the file if there is one."""
    path = RECORDS / f"{recipe}_{pattern.replace(':', '-')}_{seed}.json"
    if not path.exists():
        trainer = (pruned if recipe.startswith("oneshot") else trained)(recipe, pattern, seed)
        atomic_write(path, json.dumps(battery(trainer)))
    return {"recipe": recipe, "pattern": pattern, "seed": seed, **json.loads(path.read_text(encoding="utf-8"))}


def table(rows: pd.DataFrame) -> str:
    """Mean ± standard deviation over seeds, as Markdown."""
    groups = rows.groupby(["recipe", "pattern"], sort=False)
    lines = ["| recipe | pattern | " + " | ".join(SHOWN.values()) + " |", "|---" * (2 + len(SHOWN)) + "|"]
    for (recipe, pattern), group in groups:
        cells = [_cell(group[name], name.endswith("perplexity")) for name in SHOWN]
        lines.append(f"| {recipe} | {pattern} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: pd.Series, plain: bool) -> str:
    scale = 1 if plain else 100
    spread = f" ± {scale * values.std():.2g}" if len(values) > 1 else ""
    return f"{scale * values.mean():.3g}{spread}" + ("" if plain else " %")


def main() -> None:
    """Run what is missing, write results.csv and print the table."""
    RECORDS.mkdir(parents=True, exist_ok=True)
    rows = pd.DataFrame([scores(*run) for run in tqdm(list(runs()), unit="run")])
    rows.round(5).to_csv(HERE / "results.csv", index=False)
    print(table(rows))


if __name__ == "__main__":
    main()
