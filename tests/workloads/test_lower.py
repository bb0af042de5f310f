"""Layers to ops, each type counted by hand."""

from itertools import product as every

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nmsim.errors import ShapeError, UnsupportedError
from nmsim.specfile import read_text, validate
from nmsim.workloads.model import Model
from nmsim.workloads.modelfile import ModelFile
from nmsim.workloads.optable import Workload

STREAMS = """
sequence:
  tokens: {length: 10, autoregressive: true}
  source: {length: 7}
"""


def model(layers: str, **options) -> Model:
    text = f"kind: workload\nname: net\nsource: test\n{STREAMS}layers:\n{layers}"
    return Model.build(validate(ModelFile, read_text(text)), **options)


def ops(work: Workload, *columns: str) -> list[tuple]:
    return list(work.to_frame()[list(columns)].itertuples(index=False, name=None))


def products(work: Workload) -> list[tuple]:
    frame = work.to_frame()
    return list(frame[frame["kind"] == "gemm"][["layer", "stage", "m", "n", "k", "count"]].itertuples(False, None))


def test_linear():
    """3 samples of 10 tokens make 30 rows; FF (T, out, in), BP (T, in, out), WU (in, out, T); 4·6 + 6 parameters."""
    net = model("  - {type: linear, name: a, in: 4, out: 6}", batch=3)
    step = net.forward().training(first_input_gradient=True)
    assert products(step) == [("a", "FF", 30, 6, 4, 1), ("a", "BP", 30, 4, 6, 1), ("a", "WU", 4, 6, 30, 1)]
    assert net.parameters == 30
    assert ops(step, "a_role", "b_role", "c_role", "a_elements", "b_elements", "c_elements")[:3] == [
        ("activation", "weight", "activation", 120, 24, 180),
        ("gradient", "weight", "gradient", 180, 24, 120),
        ("activation", "gradient", "weight_gradient", 120, 180, 24),
    ]


def test_sample_stream_runs_once_per_sample():
    """A classifier sees one row per sample, not one per token."""
    net = model("  - {type: linear, name: a, in: 4, out: 6, tokens: sample}", batch=3)
    assert products(net.forward()) == [("a", "FF", 3, 6, 4, 1)]


def test_experts():
    """10 tokens go to 2 of 8 experts each: 20 assignments over 8 experts, at most ceil(20/8) = 3 for one.

    Weights of all 8 experts are read: 8·4·6 elements; parameters 8·(4 + 1)·6. Of 2 tokens, 4 assignments reach 4
    experts with one token each.
    """
    layer = "  - {type: linear, name: a, in: 4, out: 6, experts: 8, active: 2, then: [relu]}"
    net = model(layer)
    work = net.forward()
    assert products(work) == [("a", "FF", 3, 6, 4, 8)]
    assert ops(work, "a_elements", "b_elements", "c_elements")[0] == (20 * 4, 8 * 4 * 6, 20 * 6)
    assert ops(work, "m", "n")[1] == (20, 6)
    assert net.parameters == 240
    assert products(model(layer, seq_len={"tokens": 2}).forward()) == [("a", "FF", 1, 6, 4, 4)]


def test_more_active_experts_than_experts():
    with pytest.raises(ShapeError, match="2 active experts, but it has 1"):
        model("  - {type: linear, name: a, in: 4, out: 6, active: 2}").forward()


def test_tied_weights_are_not_counted_again():
    """The embedding owns 9·4 parameters; the head that shares them multiplies but owns none."""
    net = model("""
  - {type: embedding, name: e, vocabulary: 9, dim: 4}
  - {type: linear, name: head, in: 4, out: 9, bias: false, tied: true}""")
    assert net.parameters == 36
    assert products(net.forward()) == [("head", "FF", 10, 9, 4, 1)]


def test_conv_by_hand():
    """8 -> 12 channels in 2 groups, 3x3, stride 2, padding 1, on 8x6: Ho = (8 + 2 - 3)//2 + 1 = 4, Wo = 3.

    Batch 2: m = 2·12 = 24, n = 12/2, k = 4·9; parameters 12·4·9 + 12. BP inserts zeros up to 2·48 = 96 rows.
    """
    sizes = "in: 8, out: 12, kernel: 3, stride: 2, padding: 1, groups: 2, input: [8, 6], bias: true"
    net = model(f"  - {{type: conv, name: c, {sizes}}}", batch=2)
    step = net.forward().training(first_input_gradient=True)
    assert products(step) == [("c", "FF", 24, 6, 36, 2), ("c", "BP", 24, 4, 54, 2), ("c", "WU", 36, 6, 24, 2)]
    assert net.parameters == 444
    image, output, weight = 2 * 8 * 48, 2 * 12 * 12, 12 * 4 * 9
    assert ops(step, "m_inserted", "a_elements", "b_elements", "c_elements")[:3] == [
        (24, image, weight, output),
        (96, output, weight, image),
        (36, image, output, weight),
    ]


def test_unpadded_stride_1_backward_inserts_no_zeros():
    """5x5 -> 3x3 by a 3x3 kernel: 9 positions, and as many in BP; without a stride nothing is inserted."""
    net = model("  - {type: conv, name: c, in: 2, out: 2, kernel: 3, input: 5}")
    step = net.forward().training(first_input_gradient=True)
    assert ops(step, "m", "m_inserted")[:3] == [(9, 9), (9, 9), (18, 18)]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ("kernel: 3, padding: 2", (9, 10, 8, 0)),
        ("kernel: 1, padding: 1", (1, 10, 8, 1)),
        ("kernel: 3, padding: 2, stride: 2", (9, 0, 0, 0)),
        ("kernel: 3, padding: 2, dilation: 2", (9, 0, 0, 0)),
        ("kernel: [3, 1], padding: [2, 1]", (3, 0, 0, 1)),
    ],
)
def test_ops_of_a_convolution_know_its_maps(sizes, expected):
    """8 x 6 by 3 x 3: 8 + 2·2 - 2 = 10 by 6 + 2·2 - 2 = 8, of square kernels that slide over every position. Padding of
    2 shows the 3 rows of a kernel one row of the map at least, padding of 1 its one column none."""
    step = model(f"  - {{type: conv, name: c, in: 2, out: 2, input: [8, 6], {sizes}}}").forward()
    found = ops(step.training(first_input_gradient=True), "taps", "map_h", "map_w", "overhang")
    assert found[:3] == [expected] * 3


def test_other_products_have_no_maps():
    work = model("  - {type: linear, name: l, in: 2, out: 2}").forward()
    assert ops(work, "taps", "map_h", "map_w", "overhang")[0] == (0, 0, 0, 0)


@settings(max_examples=60, deadline=None)
@given(
    inputs=st.integers(1, 2), outputs=st.integers(1, 2), groups=st.integers(1, 3), batch=st.integers(1, 2),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)), kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 2)), padding=st.tuples(st.integers(0, 2), st.integers(0, 1)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
)  # fmt: skip
def test_conv_against_loops(inputs, outputs, groups, batch, size, kernel, stride, padding, dilation):
    """Every multiply-add of a convolution counted in loops; FF, BP and WU do the same number of useful ones.

    The product counts the zeros of the border as the array computes them, so it counts more with padding.
    """
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    assume(all(s + 2 * p >= r for s, p, r in zip(size, padding, reach, strict=True)))
    starts = [range(-p, s + p - r + 1, step) for s, p, r, step in zip(size, padding, reach, stride, strict=True)]
    computed = inside = 0
    for y, x, i, j in every(*starts, range(kernel[0]), range(kernel[1])):
        at = y + i * dilation[0], x + j * dilation[1]
        computed += 1
        inside += 0 <= at[0] < size[0] and 0 <= at[1] < size[1]
    per_tap = batch * groups * inputs * outputs
    layer = {
        "in": inputs * groups, "out": outputs * groups, "groups": groups, "input": list(size), "kernel": list(kernel),
        "stride": list(stride), "padding": list(padding), "dilation": list(dilation),
    }  # fmt: skip
    text = ", ".join(f"{key}: {value}" for key, value in layer.items())
    step = model(f"  - {{type: conv, name: c, {text}}}", batch=batch).forward().training(first_input_gradient=True)
    macs = (step["m"] * step["n"] * step["k"] * step["count"])[step.gemms]
    assert macs.tolist() == [computed * per_tap] * 3
    assert computed == inside if padding == (0, 0) else computed >= inside
    assert (step["m_inserted"] >= step["m"]).all()


def test_attention():
    """2 samples, 6 heads of 5 in 3 key/value groups, 10 tokens: 2·3 products with 10·2 query rows and 10 keys.

    Backward has four such products: dP = dO·Vᵀ, dV = Pᵀ·dO, dQ = dS·K, dK = dSᵀ·Q, twice the forward work.
    """
    net = model("  - {type: attention, name: a, heads: 6, kv_heads: 3, head_dim: 5}", batch=2)
    step = net.forward().training(first_input_gradient=True)
    assert ops(step, "layer", "stage", "kind", "m", "n", "k", "count") == [
        ("a.qk", "FF", "gemm", 20, 10, 5, 6),
        ("a.softmax", "VECTOR", "softmax", 120, 10, 1, 1),
        ("a.pv", "FF", "gemm", 20, 5, 10, 6),
        ("a.pv", "BP", "gemm", 20, 10, 5, 6),
        ("a.pv", "BP", "gemm", 10, 5, 20, 6),
        ("a.softmax", "VECTOR", "softmax_backward", 120, 10, 1, 1),
        ("a.qk", "BP", "gemm", 20, 5, 10, 6),
        ("a.qk", "BP", "gemm", 10, 5, 20, 6),
    ]
    assert ops(step.select(step.gemms), "a_role", "b_role", "c_role") == [
        ("activation",) * 3,
        ("activation",) * 3,
        ("gradient", "activation", "gradient"),
        ("activation", "gradient", "gradient"),
        ("gradient", "activation", "gradient"),
        ("gradient", "activation", "gradient"),
    ]
    assert step.macs_dense == 3 * net.macs
    assert net.parameters == 0


def test_cross_attention():
    """Queries from 10 tokens, keys from the 7 of the source."""
    net = model("  - {type: attention, name: a, heads: 2, head_dim: 5, keys: source}")
    assert products(net.forward()) == [("a.qk", "FF", 10, 7, 5, 2), ("a.pv", "FF", 10, 5, 7, 2)]


def test_key_heads_that_do_not_divide():
    with pytest.raises(ShapeError, match="4 key/value heads do not divide 6 heads"):
        model("  - {type: attention, name: a, heads: 6, kv_heads: 4, head_dim: 5}").forward()


DECODER = """
  - {type: linear, name: encoder, in: 4, out: 4, tokens: source}
  - {type: linear, name: q, in: 4, out: 4}
  - {type: attention, name: self, heads: 2, head_dim: 2}
  - {type: attention, name: cross, heads: 2, head_dim: 2, keys: source}
  - {type: linear, name: head, in: 4, out: 9, tokens: sample}"""


def test_decode():
    """One token for each of 3 samples: it sees 50 cached tokens, and all 7 of the source; the encoder ran before."""
    work = model(DECODER, batch=3, decode=True, context=50).forward()
    assert products(work) == [
        ("q", "FF", 3, 4, 4, 1),
        ("self.qk", "FF", 1, 50, 2, 6),
        ("self.pv", "FF", 1, 2, 50, 6),
        ("cross.qk", "FF", 1, 7, 2, 6),
        ("cross.pv", "FF", 1, 2, 7, 6),
        ("head", "FF", 3, 9, 4, 1),
    ]
    assert work.info["context"] == 50


def test_decode_sees_the_whole_sequence_by_default():
    assert model(DECODER, decode=True, seq_len={"tokens": 20}).context == 20


def test_decode_cannot_train():
    with pytest.raises(UnsupportedError, match="decoding does not train"):
        model(DECODER, decode=True).forward().training()


def test_embedding():
    """10 tokens copy rows of 4; backward each gradient is read and added to a row."""
    net = model("  - {type: embedding, name: e, vocabulary: 9, dim: 4}")
    step = net.forward().training()
    assert ops(step, "kind", "a_elements", "a_role", "c_elements", "c_role")[:2] == [
        ("embedding", 40, "weight", 40, "activation"),
        ("embedding_backward", 40, "gradient", 40, "weight_gradient"),
    ]


def test_norms():
    """layernorm over 4 features has a scale and a shift, rmsnorm a scale; backward reads dy and x."""
    net = model("""
  - {type: layernorm, name: l, dim: 4}
  - {type: rmsnorm, name: r, dim: 4}""")
    step = net.forward().training()
    assert net.parameters == 12
    columns = ("layer", "kind", "m", "n", "a_elements", "b_elements", "c_elements")
    assert ops(step.select(step.is_stage("VECTOR")), *columns) == [
        ("l", "layernorm", 10, 4, 40, 0, 40),
        ("r", "rmsnorm", 10, 4, 40, 0, 40),
        ("r", "rmsnorm_backward", 10, 4, 40, 40, 40),
        ("l", "layernorm_backward", 10, 4, 40, 40, 40),
    ]


def test_pools():
    """6x6 by 2x2 windows: 9 outputs, 3 comparisons each; training also writes the place of each maximum.

    Global average of 3x3: 8 additions and a product.
    """
    net = model("""
  - {type: conv, name: c, in: 1, out: 2, kernel: 1, input: 6}
  - {type: maxpool, name: p, channels: 2, input: 6, kernel: 2}
  - {type: avgpool, name: g, channels: 2, input: 3, kernel: global}""")
    columns = ("kind", "m", "n", "ops_per_element", "a_elements", "b_elements", "c_elements")
    forward, step = net.forward(), net.forward().training()
    assert ops(forward, *columns)[1:] == [("maxpool", 9, 2, 3.0, 72, 0, 18), ("avgpool", 1, 2, 9.0, 18, 0, 2)]
    assert ops(step, *columns)[1:5] == [
        ("maxpool", 9, 2, 3.0, 72, 0, 36),
        ("avgpool", 1, 2, 9.0, 18, 0, 2),
        ("avgpool_backward", 1, 2, 10.0, 2, 0, 18),
        ("maxpool_backward", 9, 2, 1.0, 18, 18, 72),
    ]


def test_operations_on_the_output():
    """Batch normalisation: in training two passes over 60 elements, in inference one; dropout is free in inference.

    Backward runs from the last to the first. Batch normalisation of 6 features has 12 parameters.
    """
    net = model("  - {type: linear, name: a, in: 4, out: 6, bias: false, then: [batchnorm, add, dropout]}")
    forward, step = net.forward(), net.forward().training()
    columns = ("layer", "kind", "ops_per_element", "a_elements", "b_elements", "c_elements")
    assert net.parameters == 24 + 12
    assert ops(forward, *columns)[1:] == [
        ("a.batchnorm", "batchnorm", 2.0, 60, 0, 60),
        ("a.add", "add", 1.0, 60, 60, 60),
    ]
    assert ops(step.select(step.is_stage("VECTOR")), *columns) == [
        ("a.batchnorm", "batchnorm", 5.0, 120, 0, 60),
        ("a.add", "add", 1.0, 60, 60, 60),
        ("a.dropout", "dropout", 3.0, 60, 0, 60),
        ("a.dropout", "dropout_backward", 3.0, 60, 0, 60),
        ("a.add", "add_backward", 1.0, 120, 0, 60),
        ("a.batchnorm", "batchnorm_backward", 9.0, 120, 120, 60),
    ]


def test_parameter_layers_only_count():
    net = model("  - {type: parameter, name: p, elements: 40}")
    assert (net.parameters, len(net.forward())) == (40, 0)


def test_repeat():
    """Layers inside are numbered; nested repeats too."""
    net = model("""
  - type: repeat
    name: b
    count: 2
    layers:
      - {type: linear, name: a, in: 4, out: 4}
      - {type: repeat, name: c, count: 2, layers: [{type: rmsnorm, name: d, dim: 4}]}""")
    inside = ["a", "c.0.d", "c.1.d"]
    assert [layer.name for layer in net.layers] == [f"b.{i}.{name}" for i in range(2) for name in inside]


def test_kernel_larger_than_the_input():
    with pytest.raises(ShapeError, match=r"layer 'c': a kernel of 9 x 9 does not fit a padded input of 6 x 6"):
        model("  - {type: conv, name: c, in: 1, out: 1, kernel: 5, dilation: 2, padding: 1, input: 4}").forward()


def test_groups_that_do_not_divide():
    with pytest.raises(ShapeError, match="4 groups do not divide 6 output channels"):
        model("  - {type: conv, name: c, in: 8, out: 6, kernel: 1, groups: 4, input: 4}").forward()


def test_overflow():
    """2**60 samples are beyond a 64-bit count of multiply-accumulates, 2**70 beyond one of rows."""
    net = "  - {type: linear, name: a, in: 4096, out: 4096}"
    for batch in (2**60, 2**70):
        with pytest.raises(ShapeError, match="64-bit"):
            model(net, batch=batch).forward()


@settings(max_examples=30, deadline=None)
@given(batch=st.integers(1, 9), tokens=st.integers(1, 9), wide=st.integers(1, 9), out=st.integers(1, 9))
def test_work_is_proportional_to_the_batch(batch, tokens, wide, out):
    layer = f"  - {{type: linear, name: a, in: {wide}, out: {out}, then: [gelu]}}"
    one = model(layer, seq_len={"tokens": tokens}).forward()
    many = model(layer, seq_len={"tokens": tokens}, batch=batch).forward()
    assert many.macs_dense == batch * one.macs_dense == batch * tokens * wide * out
    assert np.array_equal(many["c_elements"], batch * one["c_elements"])
