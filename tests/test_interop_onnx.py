"""ONNX out and in: checker, reference evaluator and onnxruntime agree, ONNX's own node tests run."""

from __future__ import annotations

import importlib
import re

import numpy as np
import pytest

from l0ref import nn, prune
from l0ref.errors import ArgumentError, CheckpointError, DTypeError, L0RefError, ShapeError
from l0ref.interop.files import write_model
from l0ref.interop.forms import FORMS, formed, unpacked
from l0ref.interop.onnx_nodes import READERS
from l0ref.interop.onnx_read import from_onnx
from l0ref.interop.onnx_write import OPSET, to_onnx
from tests.house import registry_gaps
from tests.house_files import ROOT
from tests.test_pool_layers import POOLS, network

onnx = pytest.importorskip("onnx", reason="needs the extra `interop`")
ort = pytest.importorskip("onnxruntime", reason="needs the extra `interop`")
reference = pytest.importorskip("onnx.reference", reason="needs the extra `interop`")

SOME = nn.Conv2d("a", 2, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2, bias=False)
LAYERS: dict[str, tuple[nn.Layer, tuple[int, ...]]] = {
    "Linear": (nn.Linear("a", 6, 4, bias=False), (6,)),
    "Conv2d": (SOME, (2, 7, 6)),
    "MaxPool2d": (nn.MaxPool2d("a", (3, 2), stride=(2, 1), padding=(1, 0)), (3, 7, 4)),
    "AvgPool2d": (nn.AvgPool2d("a", (2, 3), stride=1, padding=(1, 0)), (3, 5, 4)),
    "GlobalAvgPool2d": (nn.GlobalAvgPool2d("a"), (3, 5, 4)),
    "BatchNorm1d": (nn.BatchNorm1d("a", 5, momentum=0.3, eps=2**-7), (5,)),
    "BatchNorm2d": (nn.BatchNorm2d("a", 3, momentum=0.25, eps=1e-5), (3, 5, 4)),
    "ReLU": (nn.ReLU("a"), (3, 5, 4)),
    "LeakyReLU": (nn.LeakyReLU("a", 0.25), (5,)),
    "Sigmoid": (nn.Sigmoid("a"), (5,)),
    "Tanh": (nn.Tanh("a"), (5,)),
    "Softplus": (nn.Softplus("a"), (5,)),
    "Clip": (nn.Clip("a", -0.3, 0.7), (5,)),
    "Dropout": (nn.Dropout("a", 0.3), (5,)),
    "Flatten": (nn.Flatten("a"), (3, 5, 4)),
    "Residual": (nn.Residual("a", (nn.Linear("b", 5, 5), nn.Residual("c", (nn.Tanh("d"),), (nn.ReLU("e"),)))), (5,)),
}


def drawn(model, rng):
    """The model with statistics, biases and norms that are not those it began with."""
    params = {k: v + 0.3 * rng.standard_normal(v.shape).astype(v.dtype) for k, v in model.params.items()}
    buffers = {k: v + rng.random(v.shape).astype(v.dtype) for k, v in model.buffers.items()}
    return model.replace(params=params, buffers=buffers)


def evaluated(proto, x):
    return reference.ReferenceEvaluator(proto).run(None, {"x": x})[0]


def timed(proto, x):
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def close(a, b, dtype):
    np.testing.assert_allclose(a, b, rtol=0, atol={4: 2e-6, 8: 1e-11}[np.dtype(dtype).itemsize] * np.abs(b).max())


def test_every_layer_has_a_case():
    own = {kind for kind, cls in nn.LAYERS.items() if cls.__module__.startswith("l0ref.nn") and kind[0] != "_"}
    assert registry_gaps(own - {"SparseLinear", "SparseConv2d"}, LAYERS) == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", LAYERS)
def test_each_layer_goes_out_and_back(kind, dtype, rng):
    layer, shape = LAYERS[kind]
    size = int(np.prod(layer.output_shape(shape)))
    layers = (layer, nn.Flatten("end"), nn.Linear("fc", size, 3))
    model = drawn(nn.Model.init(layers, input_shape=shape, seed=0, dtype=dtype), rng)
    proto = to_onnx(model)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", OPSET)]
    back = from_onnx(proto)
    assert back.architecture_json() == model.architecture_json()
    for side in ("params", "buffers"):
        ours, theirs = getattr(model, side), getattr(back, side)
        assert set(ours) == set(theirs)
        assert all(ours[k].dtype == theirs[k].dtype and (ours[k] == theirs[k]).all() for k in ours)
    x = 3 * rng.standard_normal((4, *shape)).astype(dtype)
    close(evaluated(proto, x), model.logits(x), dtype)
    if dtype == np.float32:
        close(timed(proto, x), model.logits(x), dtype)


@pytest.mark.parametrize("name", sorted(POOLS))
def test_each_pooling_goes_out_and_back(name, rng):
    model = network(POOLS[name][0], dtype=np.float32)
    proto, x = to_onnx(model), rng.standard_normal((3, 1, 8, 7)).astype(np.float32)
    back = from_onnx(proto)
    close(back.logits(x), model.logits(x), np.float32)
    if name != "mean, uneven and ceil":  # whose last window ONNX would count: written as padding
        assert back.architecture == model.architecture
    close(timed(proto, x), model.logits(x), np.float32)
    close(evaluated(proto, x), model.logits(x), np.float32)


BEYOND = {"kernel_size": (2, 1), "stride": (2, 4), "ceil_mode": True}  # over (7, 6): a row more, and no column more


@pytest.mark.parametrize(
    "layer", [nn.MaxPool2d("p", **BEYOND), nn.AvgPool2d("p", **BEYOND), nn.AvgPool2d("p", **BEYOND, padding=(1, 0))]
)
def test_windows_that_onnx_would_count_are_written_as_padding(layer, rng):
    model = network(layer, dtype=np.float32)
    proto, x = to_onnx(model), rng.standard_normal((3, 1, 8, 7)).astype(np.float32)
    wanted = model.logits(x)
    for found in (timed(proto, x), evaluated(proto, x), from_onnx(proto).logits(x)):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6 * np.abs(wanted).max())


def test_counted_padding_beside_them_is_refused():
    layer = nn.AvgPool2d("p", (3, 1), stride=(7, 4), padding=(1, 0), ceil_mode=True)
    with pytest.raises(
        ArgumentError, match=r"^architecture has 'p', with ceil_mode beside padding that is counted, .*;"
    ):
        to_onnx(network(layer))


@pytest.mark.parametrize(("low", "high"), [(None, 0.5), (-0.1, None), (0.0, 6.0)])
def test_bounds_of_one_side_go_out_and_back(low, high, rng):
    model = nn.Model.init((nn.Clip("a", low, high), nn.Linear("fc", 5, 2)), input_shape=(5,), seed=0)
    proto, x = to_onnx(model), 3 * rng.standard_normal((4, 5)).astype(np.float32)
    assert from_onnx(proto).architecture == model.architecture
    close(timed(proto, x), model.logits(x), np.float32)


def test_attributes_are_the_decimal_numbers_they_were():
    """They are float32 in ONNX; 0.2 comes back, not 0.200000003."""
    layers = nn.LeakyReLU("a", 0.2), nn.BatchNorm1d("b", 4, momentum=0.15, eps=3e-3), nn.Dropout("c", 0.35)
    model = nn.Model.init(layers, input_shape=(4,), seed=0, dtype=np.float64)
    assert from_onnx(to_onnx(model)).architecture == layers


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", nn.MODELS)
def test_zoo_in_every_form(name, form, rng):
    model = prune(drawn(nn.MODELS[name](seed=1), rng), amount=0.9)
    ready = formed(model, form)
    proto = to_onnx(ready)
    assert len(proto.graph.sparse_initializer) == (len(model.weights) if form == "sparse" else 0)
    x = rng.standard_normal((2, *model.input_shape)).astype(np.float32)
    close(timed(proto, x), model.logits(x), np.float32)
    if form == "shrunk":
        close(evaluated(proto, x), model.logits(x), np.float32)
    back = from_onnx(proto)
    close(back.logits(x), model.logits(x), np.float32)
    if form == "sparse":  # onnx.reference 1.23 fails on sparse initialisers
        assert all((back.masks[k] == model.masks[k]).all() for k in model.weights)
        assert len(proto.SerializeToString()) < 0.5 * len(to_onnx(model).SerializeToString())


def test_compact_models_unpack_to_what_they_were(rng):
    model = prune(drawn(nn.resnet_small(seed=0), rng), amount=0.8)
    again = unpacked(formed(model, "sparse"))
    assert again.architecture_json() == model.architecture_json()
    assert all((again.params[k] == model.params[k]).all() for k in model.params)
    assert all((again.masks[k] == model.masks[k]).all() for k in model.weights)
    assert dict(formed(again, "dense").masks) == {}


# --- ONNX's own tests -------------------------------------------------------------------------------------------------

FILES = [
    "relu",
    "leakyrelu",
    "sigmoid",
    "tanh",
    "softplus",
    "add",
    "conv",
    "gemm",
    "matmul",
    "globalaveragepool",
    "flatten",
    "batch_normalization",
    "dropout",
    "identity",
    "reshape",
    "constant",
    "maxpool",
    "averagepool",
    "clip",
]
OPERATORS = {*READERS, "Add", "Identity", "Constant"}


def node_cases():
    """ONNX's own node tests of the operators that are read, by name; ONNX computes their numbers at import."""
    node = importlib.import_module("onnx.backend.test.case.node")
    with np.errstate(all="ignore"):
        for name in FILES:
            importlib.import_module(f"onnx.backend.test.case.node.{name}")
    single = [c for c in node._NodeTestCases if len(c.model.graph.node) == 1]
    return {c.name: c for c in single if c.model.graph.node[0].op_type in OPERATORS}


def imported(case):
    """The model of a node test, whose inputs but the first are constants here; the sentence where it is refused."""
    inputs, outputs = case.data_sets[0]
    proto = onnx.ModelProto()
    proto.CopyFrom(case.model)
    for value, array in list(zip(proto.graph.input, inputs, strict=True))[1:]:
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), value.name))
    try:
        model = from_onnx(proto)
    except L0RefError as error:
        return str(error)
    np.testing.assert_allclose(model.logits(inputs[0]), outputs[0], rtol=case.rtol, atol=case.atol, err_msg=case.name)
    return model


@pytest.mark.filterwarnings("ignore")
def test_backend_node_tests_run_through_the_importer_and_their_count_is_in_the_docs():
    cases = node_cases()
    found = {name: imported(case) for name, case in cases.items()}
    refused = {name: said for name, said in found.items() if isinstance(said, str)}
    sentence = re.compile(r"ONNX (node|graph|input) [^\n]*[;,] [^\n]*")
    assert [said for said in refused.values() if not sentence.fullmatch(said)] == []
    ran = cases.keys() - refused.keys()
    kinds = {cases[name].model.graph.node[0].op_type for name in ran}
    assert kinds == OPERATORS - {"Add", "Constant", "Reshape"}  # these need a second node: below
    page = (ROOT / "docs" / "exchange.md").read_text(encoding="utf-8")
    stated = re.search(r"(\d+) of (\d+) node tests of ONNX ([\d.]+[\d])", page)
    assert stated
    if stated[3] == onnx.__version__:
        assert (int(stated[1]), int(stated[2])) == (len(ran), len(cases))


# --- graphs of others -------------------------------------------------------------------------------------------------

H = onnx.helper


def graph(nodes, arrays, *, shape=("N", 4), kind=onnx.TensorProto.FLOAT, outputs=("y",), sparse=()):
    ends = [H.make_tensor_value_info(name, kind, None) for name in outputs]
    held = [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in arrays.items()]
    made = H.make_graph(
        nodes, "g", [H.make_tensor_value_info("x", kind, shape)], ends, held, sparse_initializer=list(sparse)
    )
    return H.make_model(made, opset_imports=[H.make_opsetid("", 17)])


W, B = np.arange(12, dtype=np.float32).reshape(4, 3) / 7, np.array([1, -2, 3], np.float32)


def node(kind, inputs, output="y", **attributes):
    return H.make_node(kind, inputs, [output], **attributes)


def test_product_and_sum_are_one_layer_and_reshape_is_flatten(rng):
    nodes = [
        H.make_node("Constant", [], ["to"], value=onnx.numpy_helper.from_array(np.array([0, -1]))),
        node("Reshape", ["x", "to"], "f"), node("MatMul", ["f", "w"], "p"), node("Identity", ["p"], "q"),
        node("Add", ["b", "q"]),
    ]  # fmt: skip
    model = from_onnx(graph(nodes, {"w": W, "b": B}, shape=("N", 2, 2)))
    assert [type(layer).__name__ for layer in model.architecture] == ["Flatten", "Linear"]
    x = rng.standard_normal((5, 2, 2)).astype(np.float32)
    np.testing.assert_allclose(model.logits(x), x.reshape(5, 4) @ W + B, rtol=1e-5, atol=1e-5)


def test_sparse_initialisers_with_coordinates_and_a_transposed_weight(rng):
    values = onnx.numpy_helper.from_array(np.array([2, 3], np.float32), "w")
    at = onnx.numpy_helper.from_array(np.array([[0, 1], [3, 3]]), "at")
    sparse = H.make_sparse_tensor(values, at, (4, 4))
    model = from_onnx(graph([node("MatMul", ["x", "w"])], {}, sparse=[sparse]))
    dense = np.zeros((4, 4), np.float32)
    dense[0, 1], dense[3, 3] = 2, 3
    x = rng.standard_normal((3, 4)).astype(np.float32)
    np.testing.assert_allclose(model.logits(x), x @ dense, rtol=1e-6)
    assert (model.masks["matmul.weight"] == (dense != 0).T).all()


def sparse_of(at, dims):
    values = onnx.numpy_helper.from_array(np.ones(len(at), np.float32), "w")
    return H.make_sparse_tensor(values, onnx.numpy_helper.from_array(np.array(at, np.int64), "at"), dims)


RELU = node("Relu", ["x"])
OVERLAP = [
    node("Relu", ["x"], "a"), node("Tanh", ["a"], "b"), node("Add", ["a", "b"], "c"), node("Sigmoid", ["b"], "d"),
    node("Add", ["c", "d"]),
]  # fmt: skip
BOTH = [  # the product is read before and after its bias is added
    node("MatMul", ["x", "w"], "p"), node("Add", ["p", "b"], "q"), node("Relu", ["p"], "r"), node("Add", ["q", "r"]),
]  # fmt: skip
ELSEWHERE = graph([node("MatMul", ["x", "w"])], {"w": W})
ELSEWHERE.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
HUGE = graph([node("MatMul", ["x", "w"])], {"w": W})
HUGE.graph.initializer[0].dims[0] = 2**40
REFUSED = {
    "unknown": (graph([node("Gelu", ["x"])], {}), ArgumentError, r"^ONNX node '' \(Gelu\) is an operator that l0"),
    "two inputs": (graph([node("MatMul", ["x", "x"])], {}), ArgumentError, r"computes from 2 values; give it one val"),
    "sorted": (graph([node("Relu", ["z"]), node("Relu", ["x"], "z")], {}), ArgumentError, r"reads 'z', which no node"),
    "no shape": (graph([RELU], {}, shape=("N", "M")), ArgumentError, r"has sizes \('\?', '\?'\); state all but the"),
    "integers": (graph([RELU], {}, kind=onnx.TensorProto.INT64), DTypeError, r"^ONNX input 'x' is in INT64; export it"),
    "two outputs": (graph([RELU], {}, outputs=("y", "x")), ArgumentError, r"has 1 inputs and 2 outputs, expected one"),
    "product read twice": (graph(BOTH, {"w": W, "b": B}), ArgumentError, r"adds a constant to a value that is not a"),
    "overlap": (graph(OVERLAP, {}), ArgumentError, r"uses the result of 'tanh' in two sums that overlap; "),
    "twice": (graph([node("Add", ["x", "x"])], {}), ArgumentError, r"adds 'x' to itself at 'add'; scale a weight by 2"),
    "unused": (graph([node("Tanh", ["x"], "z"), RELU], {}), ArgumentError, r"computes 'tanh', which its result does n"),
    "elsewhere": (ELSEWHERE, ArgumentError, r"^ONNX initialiser 'w' is kept in another file; save the model as one"),
    "huge": (HUGE, ShapeError, r"^ONNX initialiser 'w' has sizes \(1099511627776, 3\); up to"),
    "huge sparse": (
        graph([node("MatMul", ["x", "w"])], {}, sparse=[sparse_of([0], (2**40, 3))]), ShapeError, r"has sizes \(1099511"
    ),
    "repeated": (
        graph([node("MatMul", ["x", "w"])], {}, sparse=[sparse_of([1, 1], (4, 3))]), ArgumentError, r"indices that repe"
    ),
    "outside": (
        graph([node("MatMul", ["x", "w"])], {}, sparse=[sparse_of([12], (4, 3))]), ArgumentError, r"repeat or lie outsi"
    ),
    "half": (graph([node("MatMul", ["x", "w"])], {"w": W.astype(np.float16)}), DTypeError, r"'weight' in float16; exp"),
    "domain": (graph([node("Relu", ["x"], domain="com.x")], {}), ArgumentError, r"is of the domain 'com.x'; use op"),
    "constant": (graph([node("Identity", ["w"])], {"w": W}), ArgumentError, r"'w' does not depend on the input; expo"),
    "shapes": (
        graph([node("MatMul", ["x", "w"], "z"), node("Add", ["x", "z"])], {"w": W}), ArgumentError,
        r"adds \(4,\) to \(3,\); give both one shape",
    ),
    "no model": (3, ArgumentError, r"^source is a int, expected a path or an onnx.ModelProto"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_in_one_sentence(case):
    source, error, said = REFUSED[case]
    with pytest.raises(error, match=said) as caught:
        from_onnx(source)
    assert "\n" not in str(caught.value)


def test_damaged_files_are_refused(tmp_path, rng):
    file = tmp_path / "a.onnx"
    write_model(file, nn.mlp((4, 3, 2), seed=0))
    good = file.read_bytes()
    for data in (b"", b"junk" * 9, good[: len(good) // 2]):
        file.write_bytes(data)
        with pytest.raises((CheckpointError, ArgumentError), match=r"^(path=.*a.onnx' is not a sound|ONNX )"):
            from_onnx(file)
    said = []
    for _ in range(100):  # a changed byte is refused or changes numbers and names only
        data = bytearray(good)
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        file.write_bytes(data)
        try:
            from_onnx(str(file))
        except L0RefError as error:
            said.append(str(error))
    assert said
    assert not any("\n" in text for text in said)


def test_own_layers_are_refused():
    class Mine(nn.ReLU):
        pass

    try:
        model = nn.Model.init((Mine("m"),), input_shape=(2,), seed=0)
        with pytest.raises(ArgumentError, match=r"^architecture has 'm', a Mine, which ONNX export lacks; replace it"):
            to_onnx(model)
    finally:
        nn.LAYERS.pop("Mine")
