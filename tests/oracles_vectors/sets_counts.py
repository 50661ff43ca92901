"""Sets that count: masks with ties, compressed sparse rows, metrics. Exact rational arithmetic throughout."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from tests.oracles_vectors.form import Case, draw, vector_set, whole
from tests.oracles_vectors.number import Num, nums, total
from tests.oracles_vectors.sets_layers import cross_entropy_rule, filled

# --- masks ------------------------------------------------------------------------------------------------------------


def to_drop(amount: float | int, n: int) -> int:
    """floor(amount n + 0.5), where float64 and exact arithmetic must agree on it."""
    if isinstance(amount, int):
        return amount
    exact = math.floor(Fraction(amount) * n + Fraction(1, 2))
    if exact != math.floor(amount * n + 0.5):
        raise ValueError(f"amount={amount} of {n} is a matter of rounding; choose another")
    return exact


def masks_of(scores: dict[str, Any], amount: float | int, scope: str, current: Any = None) -> dict[str, Any]:
    """True stays. Lowest scores go first, among equals the first in layer order and scan order; gone stays gone."""
    keep = {key: (current[key].copy() if current else np.ones(s.shape, bool)) for key, s in scores.items()}
    for layers in [list(scores)] if scope == "global" else [[key] for key in scores]:
        places = [(key, place) for key in layers for place in np.ndindex(*scores[key].shape)]
        alive = [(key, place) for key, place in places if keep[key][place]]
        more = to_drop(amount, len(places)) - (len(places) - len(alive))
        for key, place in sorted(alive, key=lambda at: float(scores[at[0]][at[1]]))[:more]:
            keep[key][place] = False
    return keep


def score_tables() -> dict[str, dict[str, Any]]:
    shapes = {"conv1.weight": (2, 1, 2, 2), "fc1.weight": (4, 3), "fc2.weight": (2, 4)}
    keys = list(enumerate(shapes.items()))
    return {
        "distinct": {key: abs(draw(5000 + i, *shape)) for i, (key, shape) in keys},
        "ties": {key: whole(5010 + i, *shape, below=3) / 4.0 for i, (key, shape) in keys},
        "all-equal": {key: np.full(shape, 0.5) for _, (key, shape) in keys},
        "negative": {key: draw(5020 + i, *shape) for i, (key, shape) in keys},
    }


def keep_mask() -> bytes:
    cases: list[Case] = []
    for name, scores in score_tables().items():
        for scope, amounts in (("global", [0.0, 0.5, 0.85, 3, 17, 0.375]), ("layer", [0.125, 0.5, 5, 0.8, 0.375])):
            for amount in amounts:  # 0.375 of 28 and of 12 end in .5 after an even number: half goes up
                label = f"{name}-{scope}-{amount}"
                inputs = {"scores": scores, "amount": amount, "scope": scope}
                cases.append((label, inputs, {"masks": masks_of(scores, amount, scope)}))
    kept = [(a, b, c) for a, b, c in cases if all(mask.any() for mask in c["masks"].values())]
    return vector_set(
        "keep_mask",
        "masks, true where an entry stays: floor(amount n + 0.5) go (a whole number is the count itself), lowest "
        "first, of equals the first; n over all layers or in each",
        arguments=["scores", "amount", "scope"], outputs=["masks"], tolerance=0, cases=kept,
    )  # fmt: skip


def keep_mask_again() -> bytes:
    cases: list[Case] = []
    for name, scores in score_tables().items():
        for scope, first, then in (("global", 0.3, 0.7), ("layer", 0.25, 0.625)):
            current = masks_of({key: -s for key, s in scores.items()}, first, scope)  # not those that would go now
            inputs = {"scores": scores, "amount": then, "scope": scope, "current": current}
            cases.append((f"{name}-{scope}-{then}", inputs, {"masks": masks_of(scores, then, scope, current)}))
    kept = [(a, b, c) for a, b, c in cases if all(mask.any() for mask in c["masks"].values())]
    return vector_set(
        "keep_mask_again", "as keep_mask, with masks to start from: what they removed stays removed and is counted",
        arguments=["scores", "amount", "scope", "current"], outputs=["masks"], tolerance=0, cases=kept,
    )  # fmt: skip


# --- compressed sparse rows -------------------------------------------------------------------------------------------


def pruned(seed: int, *shape: int, below: int = 4) -> Any:
    return np.where(whole(seed, *shape, below=below) == 0, draw(seed + 1, *shape), 0.0)


def matrices() -> dict[str, Any]:
    gaps = pruned(5110, 6, 5)
    gaps[0], gaps[3], gaps[:, 2] = 0.0, 0.0, 0.0
    gaps[5, 4] = 1e-300
    return {
        "quarter": pruned(5100, 5, 8), "empty-rows-and-column": gaps, "all-zero": np.zeros((3, 4)),
        "dense": draw(5120, 2, 3), "one-row": pruned(5130, 1, 9, below=2), "one-column": pruned(5140, 7, 1, below=2),
    }  # fmt: skip


def rows_of(dense: Any) -> dict[str, Any]:
    places = [tuple(map(int, place)) for place in np.argwhere(dense != 0)]
    counts = [sum(i < row for i, _ in places) for row in range(dense.shape[0] + 1)]
    return {
        "data": nums([dense[place] for place in places]),
        "indices": np.array([j for _, j in places], np.int64),
        "indptr": np.array(counts, np.int64),
    }


def csr() -> bytes:
    cases = [(name, {"dense": dense}, rows_of(dense)) for name, dense in matrices().items()]
    return vector_set(
        "csr", "compressed sparse rows of a pruned layer (out, in): values and columns by row, and where rows begin",
        arguments=["dense"], outputs=["data", "indices", "indptr"], tolerance=0, cases=cases,
    )  # fmt: skip


def csr_product() -> bytes:
    cases: list[Case] = []
    for i, (name, dense) in enumerate(matrices().items()):
        x, w = draw(5150 + i, dense.shape[1], 3), nums(dense)
        exact = nums(x)
        terms = filled((dense.shape[0], 3), lambda r, c, w=w, exact=exact: [
            w[r, j] * exact[j, c] for j in range(w.shape[1]) if w[r, j].value
        ])  # fmt: skip
        parts = rows_of(dense) | {"shape": list(dense.shape), "input": x}
        parts["data"] = np.array([dense[place] for place in np.ndindex(*dense.shape) if dense[place]], np.float64)
        output = filled(terms.shape, lambda *place, terms=terms: total(terms[place]))
        cases.append((name, parts, {"output": output}))
    return vector_set(
        "csr_product", "the matrix in compressed sparse rows times the columns of input",
        arguments=["data", "indices", "indptr", "shape", "input"], outputs=["output"], tolerance=4, cases=cases,
    )  # fmt: skip


# --- metrics ----------------------------------------------------------------------------------------------------------

MLP = [
    {"kind": "linear", "name": "fc1", "in_features": 3, "out_features": 2, "bias": True},
    {"kind": "relu", "name": "relu1"},
    {"kind": "linear", "name": "fc2", "in_features": 2, "out_features": 4, "bias": False},
]
CNN = [
    {"kind": "conv2d", "name": "conv1", "in_channels": 1, "out_channels": 2, "kernel_size": [3, 2], "stride": [1, 2],
     "padding": [1, 0], "groups": 1, "bias": True},
    {"kind": "max_pool2d", "name": "pool1", "kernel_size": [2, 2], "stride": [2, 1]},
    {"kind": "flatten", "name": "flat"},
    {"kind": "linear", "name": "fc1", "in_features": 8, "out_features": 3, "bias": True},
]  # fmt: skip
GROUPED = [
    {"kind": "conv2d", "name": "conv1", "in_channels": 2, "out_channels": 4, "kernel_size": [2, 2], "stride": [1, 1],
     "padding": [0, 0], "groups": 2, "bias": False},
]  # fmt: skip
# layers, shape of one sample, shapes of the parameters, how often each weight is used (counted by hand)
NETWORKS: dict[str, Any] = {
    "mlp": (MLP, [3], {"fc1.weight": (2, 3), "fc1.bias": (2,), "fc2.weight": (4, 2)}, {"fc1": 1, "fc2": 1}),
    "cnn": (
        CNN, [1, 4, 6],  # 4 x 6 -> conv 4 x 3 -> pool 2 x 2, two channels
        {"conv1.weight": (2, 1, 3, 2), "conv1.bias": (2,), "fc1.weight": (3, 8), "fc1.bias": (3,)},
        {"conv1": 12, "fc1": 1},
    ),
    "grouped": (GROUPED, [2, 3, 4], {"conv1.weight": (4, 1, 2, 2)}, {"conv1": 6}),
}  # fmt: skip


def counted(params: dict[str, Any], uses: dict[str, int]) -> dict[str, Any]:
    """The metrics of `l0ref report`; 8 bytes a number, 4 bytes an index."""
    weights = {name: params[f"{name}.weight"] for name in uses}
    size, left = sum(w.size for w in weights.values()), sum(int((w != 0).sum()) for w in weights.values())
    flops = sum(w.size * uses[name] for name, w in weights.items())
    flops_nz = sum(int((w != 0).sum()) * uses[name] for name, w in weights.items())
    biases = sum(p.size for key, p in params.items() if not key.endswith(".weight"))
    rows = sum(w.shape[0] + 1 for w in weights.values())
    return {
        "size": size, "size_nz": left, "flops": flops, "flops_nz": flops_nz,
        "sparsity": Num(size - left) / size, "compression_ratio": Num(size) / left,
        "theoretical_speedup": Num(flops) / flops_nz,
        "bytes_dense": 8 * (size + biases), "bytes_csr": left * (8 + 4) + rows * 4 + 8 * biases,
    }  # fmt: skip


def metrics() -> bytes:
    cases: list[Case] = []
    for i, (name, (layers, shape, sizes, uses)) in enumerate(NETWORKS.items()):
        for label, below in (("dense", 1), ("half", 2), ("sparse", 5)):
            params = {key: draw(5200 + 20 * i + j, *size) for j, (key, size) in enumerate(sizes.items())}
            for j, key in enumerate(params):
                if key.endswith(".weight"):
                    gone = whole(5300 + 20 * i + j, *sizes[key], below=below) > 0
                    gone.flat[0] = False
                    params[key] = np.where(gone, 0.0, params[key])
            inputs = {"layers": layers, "input_shape": shape, "params": params}
            cases.append((f"{name}-{label}", inputs, counted(params, uses)))
    return vector_set(
        "metrics", "counts and ratios of a pruned network of float64 arrays; biases are parameters, not weights",
        arguments=["layers", "input_shape", "params"],
        outputs=[
            "size", "size_nz", "sparsity", "compression_ratio", "flops", "flops_nz", "theoretical_speedup",
            "bytes_dense", "bytes_csr",
        ],
        tolerance=2, cases=cases,
    )  # fmt: skip


def score() -> bytes:
    tables = {
        "ordinary": (draw(5400, 7, 3), whole(5401, 7, below=3)),
        "ties-take-the-lowest-class": (np.array([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0], [3.0, 3.0, 3.0]]), [1, 1, 0]),
        "one-sample": (np.array([[0.25, -0.5]]), [0]),
    }
    cases: list[Case] = []
    for name, (logits, target) in tables.items():
        right = sum(int(np.flatnonzero(row == row.max())[0]) == t for row, t in zip(logits, target, strict=True))
        loss, _ = cross_entropy_rule(nums(logits), list(target), 0.0)
        inputs = {"logits": logits, "target": np.array(target, np.int64)}
        cases.append((name, inputs, {"acc1": Num(int(right)) / len(target), "loss": loss}))
    return vector_set(
        "score", "share of rows whose largest logit is at the target, and the mean cross entropy",
        arguments=["logits", "target"], outputs=["acc1", "loss"], tolerance=4, cases=cases,
    )  # fmt: skip
