"""The models of the library against published counts and against a second count of their files."""

from fnmatch import fnmatch
from functools import cache
from math import prod
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from nmsim.workloads.load import load_workload

FOLDER = Path(__file__).parents[2] / "workloads"
MODELS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
CNNS = [name for name in MODELS if name.startswith(("resnet", "vgg", "mobilenet"))]

every_model = pytest.mark.parametrize("name", MODELS)


@cache
def model_file(name):
    return YAML(typ="safe", pure=True).load(FOLDER / f"{name}.yaml")


@cache
def workload(name):
    return load_workload(name, batch=1)


# The second count: plain arithmetic on the file, nothing of nmsim in it.


def flat(entries, prefix=""):
    """Every layer with its full name, the layers of a repeat as often as it says."""
    for entry in entries:
        name = prefix + entry["name"]
        if entry["type"] == "repeat":
            for i in range(entry["count"]):
                yield from flat(entry["layers"], f"{name}.{i}.")
        else:
            yield name, entry


def layers(name):
    return [layer for _, layer in flat(model_file(name)["layers"])]


def pair(size):
    return size if isinstance(size, list) else [size, size]


def output(layer):
    """[height, width] after a convolution or a pool, rounded down."""
    if layer["kernel"] == "global":
        return [1, 1]
    stride = layer.get("stride", 1 if layer["type"] == "conv" else layer["kernel"])
    sizes = zip(*(pair(x) for x in (layer["input"], layer["kernel"], stride, layer.get("padding", 0))), strict=True)
    assert "dilation" not in layer
    return [(size + 2 * padding - kernel) // step + 1 for size, kernel, step, padding in sizes]


def weights(layer):
    """Elements of the weights of products, without biases."""
    if layer["type"] == "conv":
        return layer["out"] * layer["in"] // layer.get("groups", 1) * prod(pair(layer["kernel"]))
    if layer["type"] == "linear":
        return layer["out"] * layer["in"] * layer.get("experts", 1)
    return 0


def parameters(layer):
    own = {
        "embedding": lambda: layer["vocabulary"] * layer["dim"],
        "layernorm": lambda: layer["dim"] * (2 if layer.get("bias", True) else 1),
        "rmsnorm": lambda: layer["dim"],
        "parameter": lambda: layer["elements"],
        "conv": lambda: weights(layer) + layer["out"] * layer.get("bias", False),
        "linear": lambda: weights(layer) + layer["out"] * layer.get("experts", 1) * layer.get("bias", True),
    }.get(layer["type"], lambda: 0)
    return (not layer.get("tied", False)) * own() + 2 * layer.get("out", 0) * layer.get("then", []).count("batchnorm")


def macs(layer, lengths):
    """Multiply-accumulates of one sample whose streams have these lengths."""
    lengths = {"sample": 1, **lengths}
    if layer["type"] == "conv":
        return weights(layer) * prod(output(layer))
    if layer["type"] == "linear":
        return lengths[layer.get("tokens", "tokens")] * layer["in"] * layer["out"] * layer.get("active", 1)
    if layer["type"] == "attention":
        queries = layer.get("tokens", "tokens")
        return 2 * layer["heads"] * layer["head_dim"] * lengths[queries] * lengths[layer.get("keys", queries)]
    return 0


def total_macs(name, **lengths):
    defaults = {stream: entry["length"] for stream, entry in model_file(name).get("sequence", {}).items()}
    return sum(macs(layer, defaults | lengths) for layer in layers(name))


@every_model
def test_the_workload_counts_what_a_second_count_of_the_file_does(name):
    assert workload(name).macs_dense == total_macs(name)
    assert workload(name).parameters == sum(map(parameters, layers(name)))


@pytest.mark.parametrize(
    ("name", "published"),
    [(name, entry) for name in MODELS for entry in model_file(name).get("published", [])],
    ids=lambda x: x if isinstance(x, str) else "parameters" if "parameters" in x else "macs",
)
def test_counts_are_the_published_ones(name, published):
    tolerance = published.get("tolerance", 0)
    if "parameters" in published:
        assert workload(name).parameters == pytest.approx(published["parameters"], rel=tolerance, abs=0)
    if "macs" in published:
        assert workload(name).macs_dense == pytest.approx(published["macs"], rel=tolerance, abs=0)


# Counted from the shapes when the models trained by SAT were collected, before these files existed and by other
# code; not a publication. Weights are those of convolutions and linear layers, without biases and batchnorm.
@pytest.mark.parametrize(
    ("name", "gmacs", "million_weights"),
    [
        ("resnet9", 1.1617, 9.083),
        ("vgg19", 0.3982, 20.070),
        ("vit_cifar", 0.6410, 9.513),
        ("vit_cifar_384", 0.4265, 6.250),
        ("resnet18_64_s3", 2.2218, 11.262),
        ("resnet18_64_s7", 0.1481, 11.269),
        ("resnet50", 4.0892, 25.503),
    ],
)
def test_models_trained_by_sat_have_the_counts_found_before(name, gmacs, million_weights):
    assert round(workload(name).macs_dense / 1e9, 4) == gmacs
    assert round(sum(map(weights, layers(name))) / 1e6, 3) == million_weights


@pytest.mark.parametrize(("name", "gmacs"), [("bert_base", 11.17), ("llama2_7b", 850.00)])
def test_macs_of_128_tokens_are_those_of_calflops(name, gmacs):
    """The README of MrYxJ/calculate-flops.pytorch at batch 1 and 128 tokens, two decimals printed.

    Its BERT is chinese-roberta-wwm-ext, which differs from bert-base-uncased in the size of its embeddings alone.
    """
    macs_dense = load_workload(name, batch=1, seq_len=128).macs_dense
    assert macs_dense == total_macs(name, tokens=128)
    assert round(macs_dense / 1e9, 2) == gmacs


def test_transformer_base_has_the_parameters_of_the_shapes_in_its_paper():
    """Counted by hand, for the 65e6 of the paper's table 3 are not those of its shapes.

    Embedding, once: 37000·512 = 18944000. Feed-forward: 2·512·2048 + 2048 + 512 = 2099712. A norm: 2·512 = 1024.
    Encoder layer: 4·512² + 2099712 + 2·1024 = 3150336. Decoder layer: 8·512² + 2099712 + 3·1024 = 4199936.
    """
    assert workload("transformer_base").parameters == 18944000 + 6 * 3150336 + 6 * 4199936


@every_model
def test_a_file_is_named_after_its_model_and_its_layers_have_names_of_their_own(name):
    names = [layer for layer, _ in flat(model_file(name)["layers"])]
    assert model_file(name)["name"] == name
    assert len(set(names)) == len(names)


@every_model
def test_each_layer_kept_dense_exists_and_has_a_product(name):
    for pattern in model_file(name).get("keep_dense", {}):
        named = flat(model_file(name)["layers"])
        types = {layer["type"] for layer_name, layer in named if fnmatch(layer_name, pattern)}
        assert types in ({"conv"}, {"linear"}), pattern


@pytest.mark.parametrize("name", CNNS)
def test_each_layer_of_a_convolutional_network_takes_what_an_earlier_one_gave(name):
    """Channels and size of every input are those of the image or of some output before it."""
    first = layers(name)[0]
    made = {(3, *pair(first["input"]))}
    for layer in layers(name):
        channels = layer.get("in", layer.get("channels"))
        assert (channels, *pair(layer.get("input", 1))) in made, layer["name"]
        size = [1, 1] if layer["type"] == "linear" else output(layer)
        made.add((layer.get("out", channels), *size))


@every_model
def test_the_widths_of_an_attention_are_those_of_its_projections(name):
    """The output projection takes heads x head_dim; the ones before give queries, keys and values of their heads."""
    sequence = layers(name)
    for i, layer in enumerate(sequence):
        if layer["type"] != "attention":
            continue
        query, kv = layer["heads"] * layer["head_dim"], layer.get("kv_heads", layer["heads"]) * layer["head_dim"]
        before = [previous["out"] for previous in sequence[i - 3 : i] if previous["type"] == "linear"]
        assert before[-1:] == [query + 2 * kv] or before == [query, kv, kv]
        assert sequence[i + 1]["in"] == query
