"""Directories of measurements that tests write."""

from __future__ import annotations

import csv

import pytest

NO_OVERHEAD = 'kind: overheads\noverheads: {"*": {value: 0 s, assumed: "a test"}}\n'


@pytest.fixture
def write(tmp_path):
    """Writes rows (mappings of columns) as a table of the directory, which is returned; it has no overheads."""

    def table(name, rows, overheads=NO_OVERHEAD):
        with (tmp_path / name).open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        (tmp_path / "overheads.yaml").write_text(overheads)
        return tmp_path

    return table
