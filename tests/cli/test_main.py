"""The frame of the command line: help, unknown names, and every failure as a message and an exit code."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import nmsim
from nmsim.cli import main as cli
from nmsim.errors import NmsimError


def python(*words, **options):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, **options)


def test_help_lists_every_verb(nmsim_):
    outcome = nmsim_("--help")
    assert outcome.code == 0
    assert all(f"  {verb} " in outcome.out for verb in cli.VERBS)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_help(nmsim_, verb):
    outcome = nmsim_(verb, "--help")
    assert outcome.code == 0
    assert outcome.out.startswith(f"usage: nmsim {verb}")


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(words):
    code = (
        "import sys; from nmsim.cli.main import main; main(sys.argv[1:]);"
        "sys.exit(str({'numpy', 'pandas', 'matplotlib', 'pydantic', 'ruamel'} & set(sys.modules)))"
    )
    assert python("-c", code, *words).stderr.strip() == "set()"


def test_running_prints_without_plotting():
    code = "import sys; from nmsim.cli.main import main; main(sys.argv[1:]); sys.exit(str('matplotlib' in sys.modules))"
    assert python("-c", code, "run", "sat_vcu1525", "resnet9").stderr.strip() == "False"


def test_version_and_python_m(nmsim_):
    assert nmsim_("--version").out == f"nmsim {nmsim.__version__}\n"
    assert python("-m", "nmsim", "--version").stdout == f"nmsim {nmsim.__version__}\n"


def test_without_a_verb_the_help_goes_to_stderr(refused):
    assert "verbs:" in refused()


def test_unknown_names_get_the_nearest(refused):
    assert "unknown verb 'rum'; did you mean run?" in refused("rum")
    assert "unknown option '--recpie'; did you mean --recipe?" in refused("run", "--recpie", "bdwp")
    assert "unknown option '--rec'" in refused("run", "a", "b", "--rec=bdwp")
    assert "--bogus" in refused("--bogus")


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        (NmsimError("no such thing"), 2, "nmsim: no such thing\n"),
        (KeyboardInterrupt(), 130, "nmsim: interrupted\n"),
        (MemoryError("Unable to allocate 8 TiB"), 2, "nmsim: out of memory: Unable to allocate 8 TiB\n"),
        (OSError(28, "No space left on device"), 2, "nmsim: No space left on device\n"),
        (PermissionError(13, "Permission denied", "/out/x"), 2, "nmsim: /out/x: Permission denied\n"),
    ],
)
def test_failures_become_messages(monkeypatch, nmsim_, failure, code, message):
    def fail(argv):
        raise failure

    monkeypatch.setattr(cli, "_dispatch", fail)
    outcome = nmsim_("run")
    assert (outcome.code, outcome.err) == (code, message)


def test_a_reader_that_leaves_early_is_no_error():
    """As `nmsim run … | head -1`: the pipe is closed long before the rows are written."""
    read, write = os.pipe()
    words = [sys.executable, "-m", "nmsim", "run", "sat_vcu1525", "resnet18", "--csv"]
    process = subprocess.Popen(words, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    os.close(read)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (cli.CLOSED_PIPE, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["list", "dtypes"], ["--help"], ["run", "--help"], ["--version"]])
def test_a_full_disk_is_a_message(words, unbuffered):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "nmsim", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert (process.returncode, process.stderr) == (2, "nmsim: No space left on device\n")


@pytest.mark.parametrize("words", ["list dtypes", "list dtypes --json", "--help"])
def test_a_closed_output_is_a_message(words):
    process = subprocess.run(
        f"exec {sys.executable} -m nmsim {words} >&-", shell=True, stderr=subprocess.PIPE, text=True, check=False
    )
    assert (process.returncode, process.stderr) == (2, "nmsim: the standard output is closed\n")


def test_messages_for_a_closed_stderr_do_not_reach_the_output():
    command = f"exec {sys.executable} -m nmsim list dtyps 2>&-"
    process = subprocess.run(command, shell=True, stdout=subprocess.PIPE, text=True, check=False)
    assert (process.returncode, process.stdout) == (2, "")


def test_a_terminal_without_unicode_still_gets_the_table():
    process = python(
        "-m",
        "nmsim",
        "run",
        "sat_vcu1525",
        "resnet9",
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )
    assert (process.returncode, process.stderr) == (0, "")
