"""Wrong inputs of the operations: each gives one sentence that begins with what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from l0ref import Tensor, data, fit, grad, nn, ops, sparse
from l0ref.data import Dataset
from l0ref.data.augment import AffineElastic, by_name
from l0ref.deploy.single import Single
from l0ref.errors import ArgumentError, DTypeError, L0RefError, ShapeError
from l0ref.masks import keep_mask
from l0ref.optim import SGD, State
from l0ref.testing import check_gradient
from l0ref.validate import choose

A = np.ones((2, 3))
V = np.ones(3)
SINGLE = np.ones((2, 3), dtype=np.float32)
INTEGERS = np.ones((2, 3), dtype=np.int64)
RAGGED = [[1.0, 2.0], [3.0]]
MASKED = np.ma.masked_greater(A, 0.5)
MATRIX = A.view(np.matrix)
NET = nn.mlp((3, 2), seed=0).astype(np.float64)
KEY = "fc1.weight"
DATA = Dataset(A, [0, 1], 2, "a")
W = sparse.CSR.from_dense(np.eye(3))
FLAGS: dict[str, Callable[[Any], Any]] = {
    "keepdims": lambda v: [f(A, keepdims=v) for f in (ops.sum, ops.mean, ops.max, ops.logsumexp)],
    "training": lambda v: (NET.forward(A, training=v), ops.dropout(A, p=0.5, training=v, rng=None)),
    "count_include_pad": lambda v: ops.avg_pool2d(np.ones((1, 1, 3, 3)), 2, count_include_pad=v),
    "transposed": lambda v: sparse.spmv(W.values, A[0], pattern=W.pattern, transposed=v),
    "nesterov": lambda v: SGD(momentum=0.5, nesterov=v),
    "shuffle": lambda v: data.batches(DATA, batch_size=1, seed=0, epoch=1, shuffle=v),
    "drop_last": lambda v: data.batches(DATA, batch_size=1, seed=0, epoch=1, drop_last=v),
    "flatten": lambda v: data.load("digits", flatten=v),
    "elementwise": lambda v: check_gradient(np.square, lambda x: 2 * x, A, elementwise=v),
}
TYPED: dict[str, Callable[[Any], Any]] = {
    "init": lambda v: nn.mlp((3, 2), seed=0, dtype=v),
    "astype": NET.astype,
    "load": lambda v: data.load("digits", dtype=v),
    "from_arrays": lambda v: data.from_arrays(np.ones((20, 2)), [0, 1] * 10, dtype=v, normalise=False),
    "targets": lambda v: data.from_arrays(np.ones((20, 2)), [0, 1] * 10, dtype=v, task="values"),
}

WRONG: list[tuple[str, Callable[[], Any], type[L0RefError], str]] = [
    ("ragged list", lambda: ops.relu(RAGGED), ShapeError, "data is a ragged list: its rows differ in length"),
    ("ragged second", lambda: ops.add(A, RAGGED), ShapeError, "data is a ragged list"),
    (
        "masked",
        lambda: ops.sum(MASKED),
        DTypeError,
        r"data is a masked array, .*; fill its gaps with \.filled\(value\)",
    ),
    ("masked label", lambda: ops.cross_entropy(A, MASKED[:, 0]), DTypeError, "target is a masked array"),
    ("masked condition", lambda: ops.where(MASKED > 0, A, A), DTypeError, "condition is a masked array"),
    ("masked cotangent", lambda: grad(Tensor(A) * 2.0, [], y_bar=MASKED), DTypeError, "y_bar is a masked array"),
    ("masked sample", lambda: Single(NET)(MASKED[0]), DTypeError, "x is a masked array"),
    ("masked batch", lambda: NET.logits(MASKED), DTypeError, "x is a masked array"),
    (
        "masked weight",
        lambda: NET.replace(params=NET.params | {KEY: MASKED}),
        DTypeError,
        r"params\['fc1.weight'\] is a",
    ),
    (
        "masked mask",
        lambda: NET.replace(masks={KEY: MASKED > 0}),
        DTypeError,
        r"masks\['fc1.weight'\] is a masked array",
    ),
    (
        "list of masks",
        lambda: NET.replace(masks={KEY: (A > 0).tolist()}),
        DTypeError,
        r"masks\['fc1.weight'\] is a list",
    ),
    (
        "matrix weight",
        lambda: NET.replace(params=NET.params | {KEY: MATRIX}),
        DTypeError,
        r"params\['fc1.weight'\] is a",
    ),
    ("masked data", lambda: Dataset(MASKED, [0, 1], 2, "a"), DTypeError, "x is a masked array"),
    ("masked labels", lambda: Dataset(A, MASKED[:, 0].astype(int), 2, "a"), DTypeError, "y is a masked array"),
    ("masked targets", lambda: Dataset(A, MASKED, 0, "a"), DTypeError, "y is a masked array"),
    ("ragged targets", lambda: Dataset(A, RAGGED, 0, "a"), ShapeError, "y is a ragged list"),
    (
        "huge",
        lambda: ops.relu(10**400),
        ArgumentError,
        "Relu: a whole number must be finite as float64; it is too large",
    ),
    ("huge slope", lambda: ops.leaky_relu(A, 10**400), ArgumentError, "negative_slope=10{99} ... 0{60} must be finite"),
    (
        "huger",
        lambda: ops.leaky_relu(A, 10**5000),
        ArgumentError,
        "negative_slope=a number of thousands of digits must",
    ),
    ("huge rate", lambda: SGD(lr=10**400), ArgumentError, "lr=10{99} ... 0{60} must be finite"),
    ("huge padding", lambda: ops.conv2d(A, A, padding=10**400), L0RefError, ".{,1300}$"),
    (
        "word of arrays",
        lambda: choose("a", np.arange(2), ("x",)),
        ArgumentError,
        r"a=array\(\[0, 1\]\) is not one of 'x'",
    ),
    ("word of many", lambda: choose("a", "y" * 5000, ("x",)), ArgumentError, "a='y{99} ... y{59}' is not one of 'x'$"),
    ("long name", lambda: by_name("y" * 5000), ArgumentError, "augment='y{591} ... .{600}$"),
    ("no word", lambda: SGD(nesterov="no"), ArgumentError, "nesterov='no' must be True or False"),
    *(
        (f"{what} of no flag", lambda f=f, v=v: f(v), ArgumentError, f"{what}=.* must be True or False")
        for v in ("no", np.ones(2), 1, None)
        for what, f in FLAGS.items()
    ),
    ("no scores", lambda: keep_mask(None, amount=1), ArgumentError, "scores is NoneType, expected a dict of arrays"),
    (
        "no current",
        lambda: keep_mask({"a": A}, amount=1, current=[A]),
        ArgumentError,
        "current is list, expected a dict",
    ),
    ("no params", lambda: nn.Model((), (3,), None), ArgumentError, "params is NoneType, expected a dict of arrays"),
    ("no masks", lambda: nn.Model((), (3,), {}, None), ArgumentError, "masks is NoneType, expected a dict of arrays"),
    ("replaced masks", lambda: NET.replace(masks=None), ArgumentError, "masks is NoneType, expected a dict of arrays"),
    (
        "replaced params",
        lambda: NET.replace(params=None),
        ArgumentError,
        "params is NoneType, expected a dict of arrays",
    ),
    ("stepped list", lambda: SGD().step([A], [A], State()), ArgumentError, "params is list, expected a dict of arrays"),
    (
        "no gradient",
        lambda: SGD().step({"a": A}, None, State()),
        ArgumentError,
        "grads is NoneType, expected a dict of",
    ),
    ("stepped masks", lambda: SGD().step({"a": A}, {"a": A}, State(), masks=A), ArgumentError, "masks is ndarray"),
    ("classes", lambda: Dataset(A, [0, 1], V, "a"), ArgumentError, r"classes=array.* must be a whole number"),
    ("thresholds", lambda: ops.softplus(A, threshold=V), ArgumentError, r"threshold=array.* must be a real number"),
    ("permute none", lambda: ops.permute(A, None), ArgumentError, "dims=None must be a tuple or a list"),
    ("pad none", lambda: ops.pad(A, None), ArgumentError, "pad=None must be a tuple or a list"),
    (
        "no surrogate",
        lambda: ops.surrogate(A, None),
        ArgumentError,
        r"surrogate=None must have value\(w\) and grad\(w\)",
    ),
    ("no shares", lambda: data.split(DATA, None, seed=0), ArgumentError, "split=None must be a tuple or a list"),
    (
        "validation",
        lambda: fit(NET, DATA, epochs=1, seed=0, validation=True),
        ArgumentError,
        "validation is bool, expect",
    ),
    *(
        (f"{name} of dtype {value!r}", lambda f=f, v=value: f(v), DTypeError, "dtype=.* is not ")
        for value in (True, "\udcff", [], "float16")
        for name, f in TYPED.items()
    ),
    *(
        (f"take {rows!r}"[:40], lambda r=rows: DATA.take(r), ArgumentError, said)
        for rows, said in (
            (99, "indices=99 must be a row of whole numbers"),
            (0, "indices=0 must be a row"),
            (2**63, "indices=9.* must be a"),
            ([2], r"indices holds 2, outside \[0, 2\)"),
            ([0, -1], r"indices holds -1, outside \[0, 2\)"),
            ([0.5], r"indices=\[0.5\] must be a row"),
            ([True], r"indices=\[True\] must be a row"),
            ([[0]], "indices=.* must"),
        )
    ),
    (
        "half images",
        lambda: AffineElastic()(np.ones((1, 1, 3, 3), np.float16), seed=0, epoch=1, index=np.arange(1)),
        DTypeError,
        "x has dtype float16, expected float32 or float64",
    ),
    ("integers", lambda: ops.exp(INTEGERS), DTypeError, "data has dtype int64, expected float32 or float64; convert"),
    ("booleans", lambda: ops.sum(A > 0), DTypeError, "data has dtype bool, expected float32 or float64"),
    ("complex", lambda: ops.sum(1j * A), DTypeError, "data has dtype complex128, expected float32 or float64"),
    ("half", lambda: ops.sum(A.astype(np.float16)), DTypeError, "data has dtype float16, expected"),
    ("strings", lambda: ops.relu(["a"]), DTypeError, "data has dtype <U1, which is not numeric"),
    ("None", lambda: ops.relu(None), DTypeError, "data has dtype object, which is not numeric"),
    ("mixed add", lambda: ops.add(A, SINGLE), DTypeError, "Add: mixed dtypes float64, float32; convert all inputs"),
    ("mixed linear", lambda: ops.linear(A, SINGLE), DTypeError, "Linear: mixed dtypes float64, float32"),
    ("mixed list", lambda: ops.concatenate([A, SINGLE]), DTypeError, "Concatenate: mixed dtypes"),
    ("strong scalar", lambda: ops.mul(SINGLE, np.float64(2)), DTypeError, "Mul: mixed dtypes float32, float64"),
    ("no broadcast", lambda: ops.add(A, np.ones(2)), ShapeError, r"Add: shapes \(2, 3\) and \(2,\) do not broadcast"),
    ("no broadcast pow", lambda: ops.pow(A, np.ones((4, 3))), ShapeError, r"Pow: shapes \(2, 3\) and \(4, 3\) do not"),
    ("where condition", lambda: ops.where(A, A, A), ArgumentError, "condition has dtype float64, expected bool; comp"),
    (
        "where shape",
        lambda: ops.where(np.ones(2, dtype=bool), A, A),
        ShapeError,
        r"condition has shape \(2,\), which does not broadcast with the inputs \(2, 3\) and \(2, 3\); from the right",
    ),
    ("where inputs", lambda: ops.where(V > 0, A, np.ones(2)), ShapeError, r"Where: shapes \(2, 3\) and \(2,\) do not"),
    ("clip order", lambda: ops.clip(A, 2.0, 1.0), ArgumentError, "min=2.0 must not exceed max=1.0; swap them"),
    ("clip nan", lambda: ops.clip(A, np.nan, 1.0), ArgumentError, "min=nan must be finite"),
    ("slope", lambda: ops.leaky_relu(A, np.inf), ArgumentError, "negative_slope=inf must be finite"),
    ("beta", lambda: ops.softplus(A, beta=0.0), ArgumentError, "beta=0.0 must be greater than 0"),
    ("threshold", lambda: ops.softplus(A, threshold=np.nan), ArgumentError, "threshold=nan must be finite"),
    (
        "axis",
        lambda: ops.sum(A, 2),
        ArgumentError,
        "axis=2 does not exist in an array of 2 axes; choose one of -2 to 1",
    ),
    ("axis below", lambda: ops.max(A, -3), ArgumentError, "axis=-3 does not exist in an array of 2 axes"),
    ("axis of scalar", lambda: ops.mean(1.0, 0), ArgumentError, "axis=0 does not exist in an array of 0 axes; give"),
    ("axis twice", lambda: ops.sum(A, (0, -2)), ArgumentError, r"axis=\(0, -2\) names an axis twice in an array of 2"),
    ("no axis", lambda: ops.sum(A, ()), ArgumentError, r"axis=\(\) names no axis; pass None to reduce all of them"),
    ("axis type", lambda: ops.sum(A, 1.0), ArgumentError, "axis=1.0 must be a whole number, not float"),  # type: ignore[arg-type]
    ("axis bool", lambda: ops.sum(A, True), ArgumentError, "axis=True must be a whole number, not bool"),
    ("empty mean", lambda: ops.mean(A[:0]), ShapeError, r"input has shape \(0, 3\): there is no mean of 0 entries"),
    ("empty max", lambda: ops.max(A[:0], 0), ShapeError, r"input has shape \(0, 3\): there is no maximum of 0 entries"),
    ("empty logsumexp", lambda: ops.logsumexp(A[:, :0], 1), ShapeError, r"input has shape \(2, 0\): there is no logsu"),
    ("empty softmax", lambda: ops.softmax(A[:, :0], 1), ShapeError, r"input has shape \(2, 0\): there is no softmax"),
    ("empty log_softmax", lambda: ops.log_softmax(A[:0], 0), ShapeError, "input has shape .* there is no log_softmax"),
    ("softmax axis", lambda: ops.softmax(A, None), ArgumentError, "axis=None must be a whole number"),  # type: ignore[arg-type]
    (
        "reshape",
        lambda: ops.reshape(A, (4, 2)),
        ShapeError,
        r"shape=\(4, 2\) does not hold the 6 entries of an input of",
    ),
    ("two rests", lambda: ops.reshape(A, (-1, -1)), ShapeError, r"shape=\(-1, -1\) does not hold the 6 entries"),
    ("negative size", lambda: ops.reshape(A, (-2, 3)), ArgumentError, "shape=-2 must be at least -1"),
    ("flatten order", lambda: ops.flatten(A, 1, 0), ArgumentError, "start_dim=1 comes after end_dim=0 in shape"),
    ("flatten range", lambda: ops.flatten(A, 0, 2), ArgumentError, "end_dim=2 does not exist in an array of 2 axes"),
    ("transpose", lambda: ops.transpose(A, 0, 2), ArgumentError, "dim1=2 does not exist in an array of 2 axes"),
    ("permute twice", lambda: ops.permute(A, (0, 0)), ArgumentError, r"dims=\(0, 0\) must name each of the 2 axes of"),
    ("permute short", lambda: ops.permute(A, (0,)), ArgumentError, r"dims=\(0,\) must name each of the 2 axes"),
    ("concatenate nothing", lambda: ops.concatenate([]), ArgumentError, "tensors is empty; pass a list with"),
    ("concatenate array", lambda: ops.concatenate(A), ArgumentError, "tensors is ndarray; pass a list with"),
    (
        "concatenate sizes",
        lambda: ops.concatenate([A, np.ones((2, 4))]),
        ShapeError,
        r"tensors have shapes \(2, 3\), \(2, 4\); they must be equal but for the size along axis 0",
    ),
    ("concatenate axes", lambda: ops.concatenate([A, V], 1), ShapeError, r"tensors have shapes \(2, 3\), \(3,\); they"),
    (
        "concatenate scalars",
        lambda: ops.concatenate([1.0, 2.0]),
        ArgumentError,
        "axis=0 does not exist in an array of 0",
    ),
    ("pad odd", lambda: ops.pad(A, (1, 2, 3)), ArgumentError, r"pad=\(1, 2, 3\) must hold two counts for each padded"),
    ("pad long", lambda: ops.pad(V, (1, 2, 3, 4)), ArgumentError, r"pad=\(1, 2, 3, 4\) must hold .* at most 2 for"),
    ("pad negative", lambda: ops.pad(V, (0, -1)), ArgumentError, r"pad\[1\]=-1 must be at least 0"),
    ("pad value", lambda: ops.pad(V, (1, 1), value=np.inf), ArgumentError, "value=inf must be finite"),
    ("matmul", lambda: ops.matmul(A, A), ShapeError, r"matmul: shapes \(2, 3\) and \(2, 3\): 3 columns meet 2 rows"),
    ("matmul vector", lambda: ops.matmul(A, np.ones(2)), ShapeError, "matmul: .*: 3 columns meet 2 rows; transpose"),
    (
        "matmul number",
        lambda: ops.matmul(A, 2.0),
        ShapeError,
        r"matmul: shapes \(2, 3\) and \(\): a number has no rows",
    ),
    (
        "matmul stacks",
        lambda: ops.matmul(np.ones((2, 1, 3)), np.ones((4, 3, 1))),
        ShapeError,
        r"matmul: shapes \(2, 1, 3\) and \(4, 3, 1\): the leading axes \(2,\) and \(4,\) do not broadcast",
    ),
    (
        "weight",
        lambda: ops.linear(A, V),
        ShapeError,
        r"weight has shape \(3,\), expected \(out, in\); give it two axes",
    ),
    (
        "features",
        lambda: ops.linear(A, A.T),
        ShapeError,
        r"input has shape \(2, 3\), expected \(\.\.\., 2\): a weight of",
    ),
    ("input number", lambda: ops.linear(1.0, A), ShapeError, r"input has shape \(\), expected \(\.\.\., 3\)"),
    (
        "bias",
        lambda: ops.linear(A, A, V),
        ShapeError,
        r"bias has shape \(3,\), expected \(2,\): one number for each row",
    ),
    (
        "scores",
        lambda: ops.cross_entropy(V, [0, 1, 2]),
        ShapeError,
        r"input has shape \(3,\), expected \(N, C\): a row",
    ),
    (
        "no class",
        lambda: ops.cross_entropy(A[:, :0], [0, 0]),
        ShapeError,
        r"input has shape \(2, 0\), expected \(N, C\)",
    ),
    (
        "label high",
        lambda: ops.cross_entropy(A, [0, 3]),
        ArgumentError,
        r"target holds the class index 3, outside \[0, 3\)",
    ),
    (
        "label low",
        lambda: ops.cross_entropy(A, [-1, 0]),
        ArgumentError,
        r"target holds the class index -1, outside \[0",
    ),
    ("label nan", lambda: ops.cross_entropy(A, [0.0, np.nan]), ArgumentError, "target has 1 NaN; drop those samples"),
    ("label float", lambda: ops.cross_entropy(A, [0.0, 1.0]), DTypeError, "target has dtype float64, expected whole"),
    ("label ragged", lambda: ops.cross_entropy(A, [[0], [1, 2]]), ShapeError, "target is a ragged list"),
    (
        "label count",
        lambda: ops.cross_entropy(A, [0]),
        ShapeError,
        r"target has shape \(1,\), expected \(2,\): one label",
    ),
    (
        "class weights, one missing",
        lambda: ops.cross_entropy(A, [0, 1], weight=np.ones(2)),
        ShapeError,
        r"weight has shape \(2,\), expected \(3,\): one number for each class",
    ),
    (
        "class weight negative",
        lambda: ops.cross_entropy(A, [0, 1], weight=np.array([1.0, -1, 1])),
        ArgumentError,
        "weight holds negative, NaN or infinite entries; its numbers must be finite, 0 or above",
    ),
    (
        "class weights of another type",
        lambda: ops.cross_entropy(A, [0, 1], weight=np.ones(3, np.float32)),
        DTypeError,
        "mixed dtypes: input float64, weight float32",
    ),
    (
        "probability nan",
        lambda: ops.cross_entropy(A, np.full((2, 3), np.nan)),
        ArgumentError,
        "target holds negative, NaN or infinite entries",
    ),
    (
        "probabilities of two classes",
        lambda: ops.cross_entropy(A, np.ones((2, 2)) / 2),
        ShapeError,
        r"target has shape \(2, 2\), expected \(2, 3\)",
    ),
    (
        "ignored probability",
        lambda: ops.cross_entropy(A, np.ones((2, 3)), ignore_index=1),
        ArgumentError,
        "ignore_index=1 is for labels; give a row to leave out the target 0",
    ),
    (
        "ignored label",
        lambda: ops.cross_entropy(A, [0, -1], ignore_index=-100),
        ArgumentError,
        r"target holds the class index -1, outside \[0, 3\)",
    ),
    (
        "ignored word",
        lambda: ops.cross_entropy(A, [0, -1], ignore_index="-1"),  # type: ignore[arg-type]
        ArgumentError,
        "ignore_index='-1' must be a whole number, not str",
    ),
    (
        "all ignored",
        lambda: ops.cross_entropy(A, [1, 1], ignore_index=1),
        ArgumentError,
        "target leaves no sample of weight above 0: there is no mean; pass reduction='sum'",
    ),
    (
        "all without weight",
        lambda: ops.cross_entropy(A, [1, 1], weight=np.array([1.0, 0, 1])),
        ArgumentError,
        "target leaves no sample of weight above 0",
    ),
    ("smoothing", lambda: ops.cross_entropy(A, [0, 1], label_smoothing=1.5), ArgumentError, "label_smoothing=1.5 must"),
    (
        "reduction",
        lambda: ops.cross_entropy(A, [0, 1], reduction="avg"),
        ArgumentError,
        "reduction='avg' is not one of",
    ),
    (
        "empty batch",
        lambda: ops.cross_entropy(A[:0], np.zeros(0, dtype=int)),
        ShapeError,
        "input is empty: there is no m",
    ),
    (
        "mse shapes",
        lambda: ops.mse_loss(A, V),
        ShapeError,
        r"target has shape \(3,\), expected that of the input, \(2, 3\)",
    ),
    (
        "mse rows",
        lambda: ops.mse_loss(A, A.ravel()),
        ShapeError,
        r"target has shape \(6,\), expected that of the input",
    ),
    (
        "mse column",
        lambda: ops.mse_loss(V, V[:, None]),
        ShapeError,
        r"target has shape \(3, 1\), expected that of the inp",
    ),
    ("mse empty", lambda: ops.mse_loss(A[:0], A[:0]), ShapeError, "input is empty: there is no mean of 0 losses; pass"),
    (
        "mse reduction",
        lambda: ops.mse_loss(A, A, reduction="Mean"),
        ArgumentError,
        "reduction='Mean' .* did you mean 'mean'",
    ),
]


@pytest.mark.parametrize(("call", "error", "said"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_wrong_input_gets_one_sentence(call: Callable[[], Any], error: type[L0RefError], said: str) -> None:
    with pytest.raises(error, match=f"^{said}") as caught:
        call()
    assert type(caught.value) is error or error is L0RefError
    (message,) = caught.value.args
    assert "\n" not in message
