"""What every study writes in the same way: figures, Markdown tables, and the part of its README that is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from nmsim.files import atomic_write
from nmsim.report import style

END = "<!-- end of results -->"


def save_figures(figures: Mapping[str, Any], folder: Path, kinds: tuple[str, ...] = ("png",)) -> None:
    """Write each figure as a file of each kind into the folder, and close it."""
    for name, figure in figures.items():
        for kind in kinds:
            metadata = {"Date": None} if kind == "svg" else None
            figure.savefig(folder / f"{name}.{kind}", dpi=style.DPI, metadata=metadata)
        plt.close(figure)


def grid(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]) + "\n"


def write_results(readme: Path, begin: str, sections: Iterable[str]) -> None:
    """Put the sections between the line `begin` and the end mark; the text around them stays as it is."""
    body = "\n".join(sections)
    before, _, rest = readme.read_text(encoding="utf-8").partition(begin)
    atomic_write(readme, f"{before}{begin}\n{body}\n{END}{rest.partition(END)[2]}")
