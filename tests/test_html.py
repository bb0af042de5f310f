"""What objects show of themselves in a notebook: the figures they have, small, escaped, without heavy imports."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser

import pytest

import nmsim
from nmsim.html import block, gapped, some, table
from tests.traces.recordings import recorded

VOID = {"br", "hr"}
LARGEST = 16_000


class Page(HTMLParser):
    """The text of a page, and whether its tags are balanced."""

    def __init__(self, source):
        super().__init__()
        self.open, self.texts, self.tags = [], [], set()
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def step():
    return nmsim.load_workload("resnet18", batch=8).training("bdwp", "2:8")


@pytest.mark.parametrize("name", ["sat_vcu1525", "h100_sxm5", "epyc_zen4_2core"])
def test_a_machine_shows_its_units_and_peaks(name):
    arch = nmsim.load_arch(name)
    page = Page(arch._repr_html_())
    assert arch.title in page.texts
    assert {"Machine", "Dense peak", "Numbers by origin", "source"} <= set(page.texts)


def test_the_peak_is_units_times_clock():
    """SAT: 32 x 32 units at 200 MHz, a multiply-accumulate a cycle each, are 409.6 GFLOP/s."""
    assert {"32 x 32, os, ws", "410 GFLOP/s"} <= set(Page(nmsim.load_arch("sat_vcu1525")._repr_html_()).texts)


def test_a_workload_shows_its_first_and_last_ops(step):
    page = Page(step._repr_html_())
    assert {"conv1", "2:8", "FF", "⋮", str(len(step) - 1)} <= set(page.texts)
    assert page.texts.count("⋮") == 11  # one row of dots


def test_a_result_shows_totals_and_breakdowns(step):
    result = nmsim.simulate("sat_vcu1525", step)
    page = Page(result._repr_html_())
    assert {"latency_s", "Latency by stage", "Latency by cause", "Energy by component", "static"} <= set(page.texts)
    assert "power" not in page.texts  # a cause that takes nothing has no row


def test_a_trace_shows_its_evaluations():
    trace = recorded(steps=30)
    page = Page(trace._repr_html_())
    assert {"bdwp", "30", "29.0 %", "checks"} <= set(page.texts)
    assert trace.digest[:16] in "".join(page.texts)


def test_all_of_them_are_small(step):
    run = nmsim.load_workload("llama2_7b", seq_len=128)
    for thing in (step, run, nmsim.simulate("a100_sxm4_80gb", run), recorded(steps=50), nmsim.load_arch("mi300x")):
        assert len(thing._repr_html_()) < LARGEST


def test_names_are_escaped():
    """A name from a file or a table is text, never markup."""
    evil = "<img src=x onerror=alert(1)>"
    work = nmsim.gemms({"m": [8], "n": [8], "k": [8], "name": [evil]}, name=evil)
    for shown in (work._repr_html_(), nmsim.simulate("sat_vcu1525", work)._repr_html_()):
        page = Page(shown)
        assert "img" not in page.tags
        assert evil in "".join(page.texts)
    assert "<b>" not in table([["<b>"]], ["<b>"], caption="<b>") + block("", "<b>").replace("<b></b>", "")


def test_rows_that_are_left_out_leave_a_mark():
    assert some(4) == [0, 1, 2, 3]
    assert some(40, 5) == [0, 1, 2, 3, 39]
    shown = some(40, 5)
    assert gapped([[i] for i in shown], shown) == [[0], [1], [2], [3], ["⋮"], [39]]
    assert table([]) == ""


def test_importing_nmsim_and_showing_a_workload_needs_no_pandas():
    code = (
        "import sys, nmsim; nmsim.load_workload('resnet9')._repr_html_();"
        "sys.exit(str({'pandas', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stderr.strip() == "set()"
