"""`nmsim schedule`, and the files it writes in the other verbs."""

from __future__ import annotations

import json

ARGS = ("sat_vcu1525", "resnet9", "--batch", 8, "--recipe", "bdwp", "--pattern", "2:8")


def test_made_checked_replayed(nmsim_, tmp_path):
    """The file that one verb writes is what the others read; a replay prints the figures of a plain run."""
    file = tmp_path / "schedule.yaml"
    made = nmsim_("schedule", *ARGS, "-o", file)
    assert made.code == 0
    assert "resnet9, recipe bdwp, pattern 2:8, batch 8" in made.out
    assert "ok (schedule, " in nmsim_("check", file).out
    plain, replayed = (nmsim_("run", *ARGS, "--csv", *more).out for more in ((), ("--schedule", file)))
    assert plain == replayed
    assert json.loads(nmsim_("schedule", *ARGS, "--json").out)["machine"] == "sat_vcu1525"
    assert json.loads(nmsim_("schema", "schedule").out)["title"] == "nmsim schedule"


def test_refused_with_its_place(refused, nmsim_, tmp_path):
    """A schedule of another batch: the first product of the file is named with line and column."""
    file = tmp_path / "schedule.yaml"
    nmsim_("schedule", *ARGS, "-o", file)
    message = refused("run", "sat_vcu1525", "resnet9", "--batch", 16, *ARGS[4:], "--schedule", file)
    assert f"{file}:8:" in message
    assert "conv1 FF: it is 16,384 x 128 x 27 in the workload, not 8,192 x 128 x 27" in message
    assert f"{tmp_path}: is a directory" in refused("schedule", *ARGS, "-o", tmp_path)
    assert "no such file" in refused("run", *ARGS, "--schedule", tmp_path / "none.yaml")
    other = tmp_path / "machine.yaml"
    other.write_text("name: x\nkind: systolic\n")
    assert f"{other}:2:7: kind: is 'systolic'; a schedule has `kind: schedule`" in refused(
        "run", *ARGS, "--schedule", other
    )
