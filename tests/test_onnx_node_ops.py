"""ONNX's own node tests, run through the operations of l0ref: numbers that others wrote down, for every operation."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from l0ref import backend, ops
from l0ref.errors import L0RefError
from tests.house_files import ROOT

onnx = pytest.importorskip("onnx", reason="needs the extra `interop`")

PAGE = (ROOT / "docs" / "exchange.md").read_text(encoding="utf-8")
FILES = [
    "abs",
    "add",
    "averagepool",
    "batch_normalization",
    "clip",
    "concat",
    "conv",
    "div",
    "dropout",
    "exp",
    "flatten",
    "gemm",
    "globalaveragepool",
    "leakyrelu",
    "log",
    "logsoftmax",
    "matmul",
    "max",
    "maxpool",
    "min",
    "mul",
    "neg",
    "pad",
    "pow",
    "reduce_log_sum_exp",
    "reducemax",
    "reducemean",
    "reducesum",
    "relu",
    "reshape",
    "sigmoid",
    "softmax",
    "softmax_cross_entropy_loss",
    "softplus",
    "sqrt",
    "sub",
    "tanh",
    "transpose",
    "where",
]


class Lacking(Exception):
    """What a node test asks for is no option of the operation of l0ref."""


def need(condition: Any) -> None:
    if not condition:
        raise Lacking


def axes_of(x: list[Any], a: dict[str, Any]) -> Any:
    """Axes of a reduction: an input since opset 13 or 18, an attribute before; none given means all."""
    axes = x[1] if len(x) > 1 else a.get("axes")
    need(axes is None or np.size(axes) or not a.get("noop_with_empty_axes"))
    return None if axes is None or not np.size(axes) else tuple(int(i) for i in axes)


def reduced(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, a: f(x[0], axes_of(x, a), keepdims=bool(a.get("keepdims", 1)))


def edges(x: Any, a: dict[str, Any], kernel: Any) -> list[tuple[int, int]]:
    """Padding before and after of height and width; SAME_UPPER pads more below and on the right."""
    how, pads = a.get("auto_pad", b"NOTSET"), list(a.get("pads", [0, 0, 0, 0]))
    if how in (b"SAME_UPPER", b"SAME_LOWER"):
        gaps, strides = a.get("dilations", (1, 1)), a.get("strides", (1, 1))
        sizes = zip(x.shape[2:], kernel, strides, gaps, strict=True)
        whole = [max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0) for n, k, s, d in sizes]
        less, more = [t // 2 for t in whole], [t - t // 2 for t in whole]
        pads = less + more if how == b"SAME_UPPER" else more + less
    return [(pads[0], pads[2]), (pads[1], pads[3])]


def pooled(f: Callable[..., Any]) -> Callable[..., Any]:
    def run(x: list[Any], a: dict[str, Any]) -> Any:
        kernel, gaps = a["kernel_shape"], tuple(a.get("dilations", (1, 1)))
        need(len(kernel) == 2 and not a.get("storage_order"))
        options = {"stride": tuple(a.get("strides", (1, 1))), "ceil_mode": bool(a.get("ceil_mode"))}
        if f is ops.max_pool2d:
            options |= {"dilation": gaps}
        else:
            need(gaps == (1, 1))
            options |= {"count_include_pad": bool(a.get("count_include_pad"))}
        four = edges(x[0], a, kernel)
        even = all(before == after for before, after in four)
        return f(x[0], tuple(kernel), padding=tuple(e[0] for e in four) if even else tuple(four), **options)

    return run


def convolved(x: list[Any], a: dict[str, Any]) -> Any:
    need(x[0].ndim == 4)
    four = edges(x[0], a, x[1].shape[2:])
    need(all(before == after for before, after in four))
    padding = [before for before, _ in four]
    options = {"stride": a.get("strides", (1, 1)), "padding": padding, "dilation": a.get("dilations", (1, 1))}
    pairs = {key: tuple(value) for key, value in options.items()}
    return ops.conv2d(*x, **pairs, groups=a.get("group", 1))


def normalized(x: list[Any], a: dict[str, Any]) -> Any:
    values, scale, bias, mean, var = x
    training, eps = bool(a.get("training_mode", 0)), a.get("epsilon", 1e-5)
    return ops.batch_norm(values, mean, var, scale, bias, training=training, eps=eps)[0]


def product(x: list[Any], a: dict[str, Any]) -> Any:
    """Gemm: alpha A' B' + beta C."""
    left, right = (v.T if a.get(name) else v for v, name in zip(x, ("transA", "transB"), strict=False))
    y = ops.mul(ops.linear(left, right.T), a.get("alpha", 1.0))
    return ops.add(y, a.get("beta", 1.0) * x[2]) if len(x) > 2 else y


def folded(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function of two as ONNX has it, of any number."""

    def run(x: list[Any], _a: dict[str, Any]) -> Any:
        need(len(x) > 1)
        y = x[0]
        for other in x[1:]:
            y = f(y, other)
        return y

    return run


def loss(x: list[Any], a: dict[str, Any]) -> Any:
    need(len(x) == 2 and x[0].ndim == 2 and "ignore_index" not in a)
    return ops.cross_entropy(x[0], x[1].astype(np.int64), reduction=a.get("reduction", b"mean").decode())


def padded(x: list[Any], a: dict[str, Any]) -> Any:
    """(before..., after...) of all axes, as PyTorch's list from the last axis on."""
    need(a.get("mode", b"constant") == b"constant" and len(x) < 4 and (x[1] >= 0).all())
    pairs = x[1].reshape(2, -1).T[::-1]
    return ops.pad(x[0], tuple(int(i) for i in pairs.ravel()), value=float(x[2]) if len(x) > 2 else 0.0)


def flat(x: list[Any], a: dict[str, Any]) -> Any:
    axis = a.get("axis", 1) % x[0].ndim
    need(axis)
    rows = ops.flatten(x[0], 0, axis - 1)
    return ops.flatten(rows, 1)


def reshaped(x: list[Any], a: dict[str, Any]) -> Any:
    need(not a.get("allowzero"))
    return ops.reshape(x[0], tuple(x[0].shape[i] if n == 0 else int(n) for i, n in enumerate(x[1])))


def clipped(x: list[Any], _a: dict[str, Any]) -> Any:
    low, high = (float(x[i]) if len(x) > i and x[i] is not None else None for i in (1, 2))
    return ops.clip(x[0], low, high)


def dropped(x: list[Any], a: dict[str, Any]) -> Any:
    need(not (len(x) > 2 and x[2]))
    return ops.dropout(x[0], p=float(x[1]) if len(x) > 1 else a.get("ratio", 0.5), training=False, rng=None)


def powered(x: list[Any], _a: dict[str, Any]) -> Any:
    need(np.ndim(x[1]) == 0)
    return ops.pow(x[0], float(x[1]))


def plain(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, _a: f(*x)


RUN: dict[str, tuple[str, Callable[..., Any]]] = {  # ONNX's operator: our operation, and how it is called
    "Abs": ("abs", plain(ops.abs)),
    "Add": ("add", plain(ops.add)),
    "Sub": ("sub", plain(ops.sub)),
    "Mul": ("mul", plain(ops.mul)),
    "Div": ("div", plain(ops.div)),
    "Neg": ("neg", plain(ops.neg)),
    "Exp": ("exp", plain(ops.exp)),
    "Log": ("log", plain(ops.log)),
    "Sqrt": ("sqrt", plain(ops.sqrt)),
    "Pow": ("pow", powered),
    "MatMul": ("matmul", plain(ops.matmul)),
    "Gemm": ("linear", product),
    "Conv": ("conv2d", convolved),
    "MaxPool": ("max_pool2d", pooled(ops.max_pool2d)),
    "AveragePool": ("avg_pool2d", pooled(ops.avg_pool2d)),
    "GlobalAveragePool": ("adaptive_avg_pool2d", plain(ops.adaptive_avg_pool2d)),
    "BatchNormalization": ("batch_norm", normalized),
    "Relu": ("relu", plain(ops.relu)),
    "LeakyRelu": ("leaky_relu", lambda x, a: ops.leaky_relu(x[0], a.get("alpha", 0.01))),
    "Sigmoid": ("sigmoid", plain(ops.sigmoid)),
    "Tanh": ("tanh", plain(ops.tanh)),
    "Softplus": ("softplus", plain(ops.softplus)),
    "Softmax": ("softmax", lambda x, a: ops.softmax(x[0], a.get("axis", -1))),
    "LogSoftmax": ("log_softmax", lambda x, a: ops.log_softmax(x[0], a.get("axis", -1))),
    "ReduceLogSumExp": ("logsumexp", reduced(ops.logsumexp)),
    "ReduceSum": ("sum", reduced(ops.sum)),
    "ReduceMean": ("mean", reduced(ops.mean)),
    "ReduceMax": ("max", reduced(ops.max)),
    "Max": ("maximum", folded(ops.maximum)),
    "Min": ("minimum", folded(ops.minimum)),
    "Where": ("where", plain(ops.where)),
    "Clip": ("clip", clipped),
    "Concat": ("concatenate", lambda x, a: ops.concatenate(x, a["axis"])),
    "Flatten": ("flatten", flat),
    "Reshape": ("reshape", reshaped),
    "Transpose": ("permute", lambda x, a: ops.permute(x[0], tuple(a.get("perm", range(x[0].ndim)[::-1])))),
    "Pad": ("pad", padded),
    "Dropout": ("dropout", dropped),
    "SoftmaxCrossEntropyLoss": ("cross_entropy", loss),
}
WITHOUT = {"mse_loss", "surrogate", "transpose"}  # ONNX has neither of the first two; permute runs its Transpose


def cases() -> dict[str, Any]:
    """ONNX's node tests with one node of these operators on floats, by name."""
    node = importlib.import_module("onnx.backend.test.case.node")
    with np.errstate(all="ignore"):
        for name in FILES:
            importlib.import_module(f"onnx.backend.test.case.node.{name}")
    one = [c for c in node._NodeTestCases if len(c.model.graph.node) == 1 and c.model.graph.node[0].op_type in RUN]
    floats = (np.float32, np.float64)
    return {c.name: c for c in one if any(np.asarray(array).dtype in floats for array in c.data_sets[0][0])}


def ran(case: Any) -> bool:
    """Run a test and compare; False if it asks for what the operation does not have."""
    node = case.model.graph.node[0]
    given, (wanted, *_) = case.data_sets[0]
    arrays = iter(given)
    inputs = [np.asarray(next(arrays)) if name else None for name in node.input]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    try:
        found = RUN[node.op_type][1](inputs, attributes).data
    except (Lacking, L0RefError):
        return False
    assert found.shape == np.shape(wanted), case.name
    np.testing.assert_allclose(found, wanted, rtol=case.rtol, atol=case.atol, err_msg=case.name)
    return True


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("room", ["numpy", "numba"])
def test_onnx_node_tests_run_through_every_operation_and_their_count_is_in_the_docs(room: str) -> None:
    with backend(room):
        counts = Counter(case.model.graph.node[0].op_type for case in cases().values() if ran(case))
    assert set(counts) == set(RUN)
    stated = re.search(r"(\d+) of the (\d+) node tests that ONNX ([\d.]+\d) has for (\d+)\soperators", PAGE)
    assert stated, "docs/exchange.md states the count"
    if stated[3] == onnx.__version__:
        assert [int(stated[i]) for i in (1, 2, 4)] == [sum(counts.values()), len(cases()), len(RUN)]


def test_every_operation_has_an_operator_of_onnx() -> None:
    assert {name for name, _ in RUN.values()} | WITHOUT == set(ops.__all__)
    assert not {name for name, _ in RUN.values()} & WITHOUT
