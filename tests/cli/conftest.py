"""What tests of the command line share."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from nmsim.cli.main import main


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def nmsim_(capsys):
    """Runs the command line in this process."""

    def run(*words: object) -> Outcome:
        code = main([str(word) for word in words])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def refused(nmsim_):
    """Runs a command that must be refused, and gives its message."""

    def run(*words: object) -> str:
        outcome = nmsim_(*words)
        assert outcome.code == 2
        assert outcome.out == ""
        assert "Traceback" not in outcome.err
        return outcome.err

    return run
