"""The notebooks as files: valid, executed from top to bottom, no errors, nothing of the machine they ran on.

Executing them is `make notebooks`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 300_000
KINDS = {"stream", "display_data", "execute_result"}
CELL = {"cell_type", "id", "metadata", "source"}
ABSOLUTE = re.compile(r"(?<![\w.:/<])/(?:home|root|tmp|usr|var|work|Users|opt|mnt)\b|\b[A-Z]:\\\\")


def cells_of(path, kind="code"):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def test_notebooks_are_numbered_without_gaps():
    assert [int(path.stem[:2]) for path in NOTEBOOKS] == list(range(1, 8))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebook:
    def test_is_valid_nbformat_4(self, path):
        """The keys that the schema of nbformat 4.5 requires, cell ids that are unique and of its alphabet."""
        data = json.loads(path.read_text())
        assert (data["nbformat"], data["nbformat_minor"] >= 5) == (4, True)
        assert data.keys() == {"cells", "metadata", "nbformat", "nbformat_minor"}
        ids = [cell["id"] for cell in data["cells"]]
        assert len(set(ids)) == len(ids)
        assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", i) for i in ids)
        for cell in data["cells"]:
            own = {"code": {"execution_count", "outputs"}, "markdown": set()}[cell["cell_type"]]
            assert cell.keys() == CELL | own
            assert isinstance(cell["source"], str | list)

    def test_was_executed_from_top_to_bottom(self, path):
        code = cells_of(path)
        assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
        assert sum(bool(cell["outputs"]) for cell in code) >= len(code) / 2

    def test_has_no_errors_and_no_warnings(self, path):
        for cell in cells_of(path):
            for output in cell["outputs"]:
                assert output["output_type"] in KINDS
                assert output.get("name") != "stderr"

    def test_shows_pictures_and_asserts(self, path):
        code = cells_of(path)
        assert any("image/png" in output.get("data", {}) for cell in code for output in cell["outputs"])
        assert sum("assert " in "".join(cell["source"]) for cell in code) >= 2

    def test_is_small_and_says_nothing_of_its_machine(self, path):
        text = path.read_text()
        assert len(text) < LARGEST
        without_images = re.sub(r'"image/png": "[^"]*"', "", text)
        assert not ABSOLUTE.search(without_images)
        assert not re.search(r"0x[0-9a-f]{8,}", without_images)  # an object without a repr of its own

    def test_starts_with_a_title_and_links_to_what_is_there(self, path):
        text = ["".join(cell["source"]) for cell in cells_of(path, "markdown")]
        assert text[0].startswith(f"# {int(path.stem[:2])}. ")
        for link in re.findall(r"\]\(([^)]+\.ipynb)\)", "\n".join(text)):
            assert (FOLDER / link).is_file()
