"""Every entry of the index of reference vectors against nmsim; an entry without a check fails."""

from __future__ import annotations

import importlib
import os
import pkgutil
from typing import Any

import pytest

import tests.golden
from tests.conftest import golden_dir
from tests.golden.entries import checks_of, load, name_of, read_index

for module in pkgutil.iter_modules(tests.golden.__path__):
    if module.name.startswith("check_"):
        importlib.import_module(f"tests.golden.{module.name}")

INDEX = read_index(golden_dir())


@pytest.mark.skipif("NMSIM_GOLDEN" not in os.environ, reason="no folder of vectors was named")
def test_the_folder_named_has_vectors():
    """A folder that is named and has none is a mistake, not a reason to skip."""
    assert INDEX, f"no entries in {golden_dir() / 'recipes' / 'index.json'}"


@pytest.mark.skipif(not INDEX, reason="no reference vectors of recipes here (set NMSIM_GOLDEN)")
@pytest.mark.parametrize("entry", INDEX, ids=[entry["file"] for entry in INDEX])
def test_entry(entry: dict[str, Any]):
    found = checks_of(name_of(entry))
    assert found, f"nothing here compares {entry['file']} ({entry['recipe']}) with nmsim"
    for check in found:
        check(load(golden_dir(), entry))
