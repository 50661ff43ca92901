"""Inputs of operations for the fault corpus; what is not here is taken from `l0ref.testing.samples`.

SMALL    few entries, because thousands of checks are made; axes of different sizes where there is a choice
SQUARE   two axes of one size, so that a transposed gradient keeps its shape
"""

from __future__ import annotations

import numpy as np

from l0ref.sparse import Pattern
from l0ref.testing.samples import (
    CONV,
    LABELS,
    MULTIPLIER,
    SAMPLES,
    SPARSE,
    TILED,
    WINDOW,
    Sample,
    after,
    apart,
    normal,
    off,
    positive,
)
from l0ref.validate import Array


def both_win(rng: np.random.Generator) -> list[Array]:
    """Two inputs of which each is the larger one in half of the entries."""
    a, b = apart((2, 3), (2, 3))(rng)
    first = rng.permutation(a.size).reshape(a.shape) % 2 == 0
    low, high = np.minimum(a, b), np.maximum(a, b)
    return [np.where(first, high, low), np.where(first, low, high)]


KERNEL = Pattern.from_mask(np.arange(8).reshape(2, 4) % 3 != 1)  # 2 filters of 1 channel, 2 x 2
POOL = {**WINDOW, "count_include_pad": False}
STATISTICS = {"mean": np.array([0.3, -1.0]), "var": np.array([0.5, 1.5]), "eps": 1e-5}
REPEATED = normal((2, 2, 1), (2, 3))

SMALL: dict[str, Sample] = {
    "Abs": Sample(off(0.0, shape=(2, 3))),
    "Add": Sample(REPEATED),
    "AvgPool2d": Sample(normal((2, 1, 3, 2)), POOL),
    "BatchNormEvaluation": Sample(normal((2, 2, 1, 2), (2,), (2,)), STATISTICS),
    "BatchNormTraining": Sample(normal((2, 2, 1, 2), (2,), (2,)), {"eps": 1e-5}),
    "BlockSparseLinear": Sample(normal((2, 4), TILED.values_shape, (3,)), {"pattern": TILED}),
    "Clip": Sample(off(-0.5, 0.75, shape=(2, 3)), SAMPLES["Clip"].options),
    "Concatenate": Sample(normal((2, 3), (2, 1)), {"axis": 1}),
    "Conv2d": Sample(normal((2, 2, 3, 2), (2, 1, 2, 2), (2,)), CONV),
    "CrossEntropy": Sample(normal((2, 4)), {"target": LABELS[::2], "label_smoothing": 0.1, "reduction": "mean"}),
    "Div": Sample(after(normal((3, 1)), positive((1, 2)))),
    "Dropout": Sample(normal((2, 3)), {"multiplier": MULTIPLIER[:2, :3]}),
    "Exp": Sample(normal((2, 3))),
    "Flatten": Sample(normal((1, 3, 2)), SAMPLES["Flatten"].options),
    "LeakyRelu": Sample(off(0.0, shape=(2, 3)), {"negative_slope": 0.01}),
    "Linear": Sample(normal((4, 2), (3, 2), (3,))),
    "Log": Sample(positive((2, 3))),
    "LogSoftmax": Sample(normal((2, 3)), {"axis": 1}),
    "Logsumexp": Sample(normal((3, 2)), {"axis": 1, "keepdims": False}),
    "Matmul": Sample(normal((3, 1, 1, 2), (1, 2, 2))),
    "Max": Sample(apart((2, 3)), {"axis": 0, "keepdims": False}),
    "MaxPool2d": Sample(apart((2, 1, 3, 2)), WINDOW),
    "Maximum": Sample(both_win),
    "Mean": Sample(normal((2, 3, 1)), {"axis": (0, 2), "keepdims": True}),
    "Minimum": Sample(both_win),
    "MseLoss": Sample(normal((1, 3), (1, 3)), {"reduction": "mean"}),
    "Mul": Sample(REPEATED),
    "Neg": Sample(normal((2, 3))),
    "Permute": Sample(normal((2, 3, 1)), {"dims": (1, 2, 0)}),
    "Pow": Sample(after(positive((3, 1)), normal((1, 2)))),
    "Relu": Sample(off(0.0, shape=(2, 3))),
    "Reshape": Sample(normal((2, 3)), {"shape": (3, 2)}),
    "SDDMM": Sample(normal((3, 1), (4, 1)), {"pattern": SPARSE}),
    "Sigmoid": Sample(normal((2, 3))),
    "Softmax": Sample(normal((2, 3)), {"axis": 1}),
    "Softplus": Sample(normal((2, 3)), {"beta": 1.5, "threshold": 20.0}),
    "SpMM": Sample(normal(SPARSE.values_shape, (4, 1)), SAMPLES["SpMM"].options),
    "SparseConv2d": Sample(
        normal((2, 2, 3, 2), KERNEL.values_shape, (2,)), {**CONV, "pattern": KERNEL, "kernel_shape": (2, 1, 2, 2)}
    ),
    "SparseLinear": Sample(normal((2, 4), SPARSE.values_shape, (3,)), {"pattern": SPARSE}),
    "Sqrt": Sample(positive((2, 3))),
    "Sub": Sample(REPEATED),
    "Sum": Sample(normal((2, 3, 1)), {"axis": (0, 2), "keepdims": True}),
    "Surrogate": Sample(off(0.0, shape=(2, 3)), SAMPLES["Surrogate"].options),
    "Tanh": Sample(normal((2, 3))),
    "Transpose": Sample(normal((2, 3, 1)), {"dim0": 0, "dim1": -1}),
    "Where": Sample(normal((2, 3), (2, 1)), {"condition": MULTIPLIER[:2, :3] > 0}),
}

MATRIX, MATRICES = normal((3, 3)), normal((3, 3), (3, 3))
ALONG_FIRST = {"axis": (0,), "keepdims": True}

SQUARE: dict[str, Sample] = {
    "Abs": Sample(off(0.0, shape=(3, 3))),
    "Add": Sample(MATRICES),
    "AvgPool2d": Sample(normal((1, 2, 4, 4)), POOL),
    "BatchNormEvaluation": Sample(normal((2, 2), (2,), (2,)), STATISTICS),
    "BatchNormTraining": Sample(normal((3, 3), (3,), (3,)), {"eps": 1e-5}),
    "Clip": Sample(off(-0.5, 0.75, shape=(3, 3)), SAMPLES["Clip"].options),
    "Concatenate": Sample(MATRICES, {"axis": 1}),
    "Conv2d": Sample(
        normal((1, 2, 3, 3), (2, 2, 2, 2), (2,)),
        {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1},
    ),
    "CrossEntropy": Sample(MATRIX, {"target": LABELS % 3, "label_smoothing": 0.1, "reduction": "mean"}),
    "Div": Sample(after(MATRIX, positive((3, 3)))),
    "Dropout": Sample(MATRIX, {"multiplier": MULTIPLIER[:, :3]}),
    "Exp": Sample(MATRIX),
    "Flatten": Sample(normal((2, 3, 3)), SAMPLES["Flatten"].options),
    "LeakyRelu": Sample(off(0.0, shape=(3, 3)), {"negative_slope": 0.01}),
    "Linear": Sample(normal((3, 3), (3, 3), (3,))),
    "Log": Sample(positive((3, 3))),
    "LogSoftmax": Sample(MATRIX, {"axis": 1}),
    "Logsumexp": Sample(MATRIX, {"axis": 1, "keepdims": False}),
    "Matmul": Sample(MATRICES),
    "Max": Sample(apart((3, 3)), {"axis": 0, "keepdims": False}),
    "MaxPool2d": Sample(apart((1, 2, 4, 4)), WINDOW),
    "Maximum": Sample(apart((3, 3), (3, 3))),
    "Mean": Sample(normal((2, 3, 3)), ALONG_FIRST),
    "Minimum": Sample(apart((3, 3), (3, 3))),
    "MseLoss": Sample(MATRICES, {"reduction": "mean"}),
    "Mul": Sample(MATRICES),
    "Neg": Sample(MATRIX),
    "Pad": Sample(MATRIX, SAMPLES["Pad"].options),
    "Permute": Sample(normal((2, 3, 3)), {"dims": (1, 2, 0)}),
    "Pow": Sample(after(positive((3, 3)), MATRIX)),
    "Relu": Sample(off(0.0, shape=(3, 3))),
    "Reshape": Sample(MATRIX, {"shape": (9,)}),
    "Sigmoid": Sample(MATRIX),
    "Softmax": Sample(MATRIX, {"axis": 1}),
    "Softplus": Sample(MATRIX, {"beta": 1.5, "threshold": 20.0}),
    "SDDMM": Sample(normal((3, 3), (4, 3)), {"pattern": SPARSE}),
    "Sqrt": Sample(positive((3, 3))),
    "Sub": Sample(MATRICES),
    "Sum": Sample(normal((2, 3, 3)), ALONG_FIRST),
    "Surrogate": Sample(off(0.0, shape=(3, 3)), SAMPLES["Surrogate"].options),
    "Tanh": Sample(MATRIX),
    "Transpose": Sample(MATRIX, {"dim0": 0, "dim1": 1}),
    "Where": Sample(MATRICES, {"condition": MULTIPLIER[:, :3] > 0}),
}
