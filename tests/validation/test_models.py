"""Networks as they were measured: kernels counted by hand, published sizes, the rows that are scored."""

from __future__ import annotations

import numpy as np
import pytest

from nmsim.errors import SpecError
from nmsim.validation.datasets import validate
from nmsim.validation.eager import eager, eager_kernels, site
from nmsim.validation.models import NETWORKS, network
from nmsim.workloads.load import load_workload

BLOCK = """
kind: workload
name: block
source: a test
sequence: {tokens: {length: 3}}
layers:
  - {type: linear, name: query, in: 4, out: 4}
  - {type: attention, name: sdpa, heads: 2, head_dim: 2}
  - {type: linear, name: head, in: 4, out: 5, bias: false, then: [gelu]}
"""


@pytest.fixture
def block(tmp_path):
    path = tmp_path / "block.yaml"
    path.write_text(BLOCK)
    return path


def kernels(work):
    """For each kind of kernel that is no product, how many there are, and the elements that they read and write."""
    kinds, found = work.names("kind"), {}
    for kind in dict.fromkeys(kinds[~work.gemms]):
        rows = kinds == kind
        moved = work["a_elements"] + work["b_elements"], work["c_elements"]
        found[kind] = (int(rows.sum()), *(int(x[rows].sum()) for x in moved))
    return found


def test_kernels_of_a_forward_pass(block):
    """12 elements of queries, keys, values and outputs are copied each; 2 heads x 3 x 3 scores are scaled, masked and
    normalised; gelu_new reads its 15 elements 10 times and writes 8 times where GPT-2 has it."""
    work = load_workload(block, dtype="fp32")
    scores = {"softmax": (1, 18, 18), "copy": (4, 48, 48), "scale_mask": (2, 36, 36)}
    assert kernels(eager(work, "bert_x", False)) == scores | {"gelu": (1, 15, 15)}
    assert kernels(eager(work, "gpt_x", False)) == scores | {"gelu": (8, 152, 120)}
    assert kernels(eager(work, "other", False)) == {"softmax": (1, 18, 18), "copy": (4, 48, 48), "gelu": (1, 15, 15)}


def test_kernels_of_a_training_step(block):
    """Beside those: the gradients of queries, keys, values and outputs are copied; the bias of `query` has 12
    gradients summed up; 16 + 4 and 20 parameters get theirs added to what is there; the loss has 15 logits."""
    work = load_workload(block, dtype="fp32").training("dense", dtype="fp32", first_input_gradient=True)
    found = kernels(eager(work, "bert_x", True))
    assert found["copy"] == (8, 96, 96)
    assert found["dropout"] == (1, 18, 22)
    assert found["dropout_backward"] == (1, 22, 18)
    assert found["column_sums"] == (1, 12, 0)
    assert found["accumulate"] == (2, 80, 40)
    assert found["loss_backward"] == (2, 30, 30)
    assert "optimizer" not in found


@pytest.mark.parametrize("name", ["bert_large_train", "gpt2_large", "opt_13"])
def test_every_kernel_of_the_file_goes_with_an_op(name):
    """A name in `on` that no op has would be a mistake of the file that nothing else tells."""
    work = load_workload(NETWORKS / f"{name}.yaml", batch=1, seq_len=8, dtype="fp32").training("dense", dtype="fp32")
    rules = eager_kernels(name)
    assert len(rules) > 8
    assert all(len(site(work, rule.on)[0]) for rule in rules)


def test_products_and_layers_stay(block):
    work = load_workload(block, dtype="fp32").training("dense", dtype="fp32")
    changed = eager(work, "gpt_x", True)
    assert changed.macs_dense == work.macs_dense
    added = ~changed.gemms
    assert set(changed.names("layer")[added]) <= set(work.names("layer"))
    np.testing.assert_array_equal(changed["repeat"], 1)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("gpt2_large", 774_030_080), ("opt_13", 1_315_758_080), ("bert_large_train", 335_141_888 + 1_053_698)],
)
def test_parameters_are_those_published(name, parameters):
    """KerasHub's presets gpt2_large_en, opt_1.3b_en and bert_large_en_uncased; its heads have 1024 x 1025 + 2048
    of the transformation and 2 x 1025 of the next sentence, 1,053,698 (the biases of a tied layer are not counted)."""
    assert load_workload(NETWORKS / f"{name}.yaml").model.parameters == parameters


def test_pretraining_has_a_product_with_the_vocabulary_and_inference_has_not():
    files = {"inf": "bert_large", "train": NETWORKS / "bert_large_train.yaml"}
    works = {mode: network(file, "bert_large", mode, 2, 128) for mode, file in files.items()}
    head = {mode: work.gemms & (work["n"] == 30522) & work.is_stage("FF") for mode, work in works.items()}
    assert not head["inf"].any()
    assert works["train"]["m"][head["train"]].tolist() == [256]


def test_every_network_without_a_variant_is_scored_but_for_experts():
    report = validate(names=["neusight_models_*"])
    assert [s.errors.points for s in report.sets] == [45, 26]
    assert [left.reason for left in report.left_out if "workload" in left.reason] == ["no workload 'switchxl4'"]


def test_an_unknown_mode_is_refused_with_its_place(write):
    row = {"device": "t4", "model": "bert_large", "mode": "trains", "seq": 128, "batch": 1, "e2e_ms": 1, "source": "-"}
    with pytest.raises(SpecError, match=r"neusight_e2e_model_latency.csv:2:1: mode: must be one of inf, train"):
        validate(write("neusight_e2e_model_latency.csv", [row]))
