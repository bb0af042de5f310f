"""Traces on disk: the same bytes for the same run, read back as they were, refused when they are anything else."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nmsim
from nmsim.traces import io as trace_io
from nmsim.traces.schema import SCHEMA, TABLES, TraceError, content_digest, parts
from nmsim.traces.verify import verify
from tests.traces.recordings import recorded


@pytest.fixture(scope="module")
def trace():
    return recorded(steps=4)


@pytest.fixture(scope="module")
def raw(trace):
    return trace_io.to_bytes(trace)


def members(raw: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def with_meta(raw: bytes, **changes: object) -> bytes:
    contents = members(raw)
    meta = json.loads(contents["meta.npy"][128:]) | changes
    return packed(contents | {"meta.npy": npy(np.frombuffer(json.dumps(meta).encode(), np.uint8))})


def refused(raw: bytes) -> str:
    with pytest.raises(TraceError) as error:
        trace_io.from_bytes(raw)
    return str(error.value)


def test_a_trace_reads_back_as_it_was(trace, tmp_path):
    trace_io.save(trace, tmp_path / "runs" / "t.npz")
    loaded = nmsim.load_trace(tmp_path / "runs" / "t.npz")
    (meta, arrays), (expected_meta, expected) = parts(loaded), parts(trace)
    assert meta == expected_meta
    assert all(np.array_equal(arrays[name], expected[name], equal_nan=True) for name in expected)
    assert {name: values.dtype for name, values in loaded.executed.columns.items()} == TABLES["ops"]
    assert loaded.digest == trace.digest == content_digest(loaded)
    assert verify(loaded) == []
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["t.npz"]


def test_equal_runs_give_equal_files(raw):
    assert trace_io.to_bytes(recorded(steps=4)) == raw
    assert trace_io.to_bytes(recorded(steps=5)) != raw
    assert trace_io.to_bytes(trace_io.from_bytes(raw)) == raw


def test_numpy_reads_the_file_without_pickle(raw, trace):
    """The header that is written is the one NumPy writes, for every data type and length."""
    with np.load(io.BytesIO(raw), allow_pickle=False) as file:
        assert set(file.files) == {"meta", *(f"{t}.{c}" for t, columns in TABLES.items() for c in columns)}
        assert file["ops.m"].tolist() == trace.executed["m"].tolist()
    assert all(data == npy(np.load(io.BytesIO(data), allow_pickle=False)) for data in members(raw).values())


def test_a_failed_write_leaves_what_was_there(trace, tmp_path, monkeypatch):
    (tmp_path / "t.npz").write_bytes(b"old")
    monkeypatch.setattr(trace_io, "MAX_FILE_BYTES", 100)
    with pytest.raises(TraceError, match="too large for a file"):
        trace_io.save(trace, tmp_path / "t.npz")
    monkeypatch.undo()
    (tmp_path / "d").mkdir()
    with pytest.raises(OSError, match="directory"):
        trace_io.save(trace, tmp_path / "d")
    assert (tmp_path / "t.npz").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "t.npz"]


def test_every_cut_off_file_is_refused(raw):
    for length in range(0, len(raw), 97):
        assert refused(raw[:length])


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_is_refused_or_changes_nothing(data, raw, trace):
    """Some bits of a zip file say nothing of its contents (times, file modes); all others must be noticed."""
    at, bit = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 7))
    bad = bytearray(raw)
    bad[at] ^= 1 << bit
    try:
        loaded = trace_io.from_bytes(bytes(bad))
    except TraceError:
        return
    assert content_digest(loaded) == trace.digest


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_noise_is_refused(noise):
    assert refused(noise)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_changed_number_is_refused(data, raw):
    contents = members(raw)
    name = data.draw(st.sampled_from([n for n in sorted(contents) if len(contents[n]) > 128 and n != "meta.npy"]))
    at = data.draw(st.integers(128, len(contents[name]) - 1))
    changed = bytearray(contents[name])
    changed[at] ^= data.draw(st.integers(1, 255))
    assert "damaged" in refused(packed(contents | {name: bytes(changed)}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "not a trace of nmsim"),
        ({"schema": SCHEMA + 1, "info": {"nmsim": "9.9"}}, "written by a newer nmsim (9.9): schema 4"),
        ({"schema": SCHEMA - 1, "info": {"nmsim": "0.1"}}, "written by an older nmsim (0.1): schema 2"),
        ({"schema": SCHEMA + 1, "info": 3}, "written by a newer nmsim (None)"),
        ({"schema": True}, "schema is True, not a version number"),
        ({"schema": None}, "schema is None"),
        ({"parts": 1}, "'parts' is unknown"),
        ({"layers": None}, "'layers' is missing or not what it should be"),
        ({"layers": [1]}, "'layers' is not a list of names"),
        ({"layers": []}, "ops.layer has 0, an index into 0 names"),
        ({"kinds": ["gemm"]}, "ops.kind has"),
        ({"patterns": ["dense", "2:x"]}, "not a pattern: '2:x'"),
        ({"patterns": ["dense"]}, "ops.a_pattern has 1, an index into 1 names"),
        ({"phases": []}, "ops.phase has 0"),
        ({"phases": [["a", 0, 0]]}, "['a', 0, 0] is not a phase"),
        ({"phases": [["a", 0, 2**70]]}, "is not a phase"),
        ({"check_every": 0}, "check_every is 0"),
        ({"digest": "0" * 64}, "do not have the digest"),
        ({"info": {"recipe": "srste"}}, "do not have the digest"),
        ({"name": "\ud800"}, "damaged"),
    ],
)
def test_foreign_newer_and_altered_contents_are_refused(raw, changes, message):
    assert message in refused(with_meta(raw, **changes))


@pytest.mark.parametrize("text", [b"", b"[1", b"[" * 100_000, b"NaN", b"\xff", b"9" * 10_000, b"null", b"[]"])
def test_a_meta_that_is_no_json_object_is_refused(raw, text):
    assert refused(packed(members(raw) | {"meta.npy": npy(np.frombuffer(text, np.uint8))}))


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("ops.m.npy", np.array([1, None], dtype=object), "is not a"),
        ("ops.m.npy", np.zeros(3, np.int32), "damaged"),
        ("ops.m.npy", np.zeros((2, 2), np.int64), "is not a one-dimensional array of int64"),
        ("ops.m.npy", np.zeros(3, ">i8"), "is not a one-dimensional array of int64"),
        ("ops.m.npy", np.zeros(3, np.int64), "the columns of 'ops' are not of one length"),
        ("checked.a.npy", np.zeros(3, np.int64), "the columns of 'ops' are not of one length"),
        ("intervals.step.npy", np.zeros(3, np.int64), "the columns of 'intervals' are not of one length"),
        ("meta.npy", np.array(["meta"], dtype=object), "damaged: 'meta'"),
    ],
)
def test_arrays_of_another_kind_are_refused(raw, name, array, message):
    """An array of objects would have to be unpickled: it is not."""
    assert message in refused(packed(members(raw) | {name: npy(array)}))


def test_a_pickle_that_would_run_code_is_not_opened(raw, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (tmp_path.joinpath("owned").write_text, ("x",))

    for name in ("ops.m.npy", "meta.npy"):
        assert refused(packed(members(raw) | {name: npy(np.array([Bomb()], dtype=object))}))
    assert not list(tmp_path.iterdir())


def test_an_op_table_without_ops_is_refused(raw):
    empty = {f"{t}.{c}.npy": npy(np.zeros(0, kind)) for t in ("ops", "checked") for c, kind in TABLES[t].items()}
    assert "there are no ops" in refused(packed(members(raw) | empty))


def test_unknown_missing_and_doubled_members_are_refused(raw):
    contents = members(raw)
    assert "'extra' is unknown" in refused(packed(contents | {"extra.npy": npy(np.zeros(1))}))
    assert "'ops.m' is missing" in refused(packed({n: d for n, d in contents.items() if n != "ops.m.npy"}))
    assert "two members have one name" in refused(packed(contents | {"ops.m": contents["ops.m.npy"]}))


def test_a_foreign_npz_is_refused():
    buffer = io.BytesIO()
    np.savez(buffer, weights=np.zeros(3))
    assert "not a trace of nmsim: an npz file without 'meta'" in refused(buffer.getvalue())


@pytest.mark.parametrize("name", ["ops.m.npy", "meta.npy"])
def test_a_zip_bomb_is_not_unpacked(raw, name):
    """128 MB of zeros that pack to 128 kB: over the limit of one member by what the directory says."""
    assert "too large" in refused(packed(members(raw) | {name: b"\0" * 2**27}))


def test_a_member_that_lies_about_its_size_is_refused(raw):
    """Its directory entry claims 200 bytes of a member that unpacks to 64 MB."""
    bad = bytearray(packed(members(raw) | {"ops.m.npy": b"\0" * 2**26}))
    size = struct.pack("<I", 2**26)
    while (at := bad.find(size)) >= 0:
        bad[at : at + 4] = struct.pack("<I", 200)
    assert "damaged" in refused(bytes(bad))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "cannot be read: No such file"),
        (lambda path: path.mkdir(), "cannot be read"),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_bytes(b"PK\x03\x04"), "not an npz file"),
        (lambda path: path.write_text("step,loss\n"), "not an npz file"),
    ],
)
def test_what_is_no_trace_is_refused_by_its_name(tmp_path, make, message):
    path = tmp_path / "t.npz"
    make(path)
    with pytest.raises(TraceError) as error:
        nmsim.load_trace(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert error.value.path == path


@pytest.mark.parametrize("odd", ["a\0b", "/dev/zero"])
def test_paths_that_are_no_files_are_refused(odd):
    with pytest.raises(TraceError, match="cannot be read"):
        nmsim.load_trace(odd)


def test_a_forged_digest_is_caught_by_the_laws(trace):
    """A trace altered with care reads well; what it says still has to hold."""
    columns = dict(trace.executed.columns) | {"repeat": trace.executed["repeat"] + 1}
    forged = replace(trace, executed=replace(trace.executed, columns=columns))
    forged = replace(forged, digest=content_digest(forged))
    loaded = trace_io.from_bytes(trace_io.to_bytes(forged))
    assert any(message.startswith("repeats: ") for message in verify(loaded))
