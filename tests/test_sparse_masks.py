"""Masks of tiles and N:M masks against loops: counts, ties, remainders, what has gone before."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l0ref.errors import ArgumentError, DTypeError, LayerCollapse, ShapeError
from l0ref.masks import block_mask, keep_mask, nm_mask
from l0ref.sparse import BCSR
from tests.random_sparse import blocksizes

DTYPES = [np.float32, np.float64]
VALUES = np.array([-2.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 2.0])  # squares and their sums are exact: ties are ties
SHAPES: list[dict[str, tuple[int, ...]]] = [
    {"fc1": (4, 6), "fc2": (3, 5)},
    {"conv": (5, 2, 3, 2), "empty": (0, 3), "fc": (4, 1)},
    {"one": (1, 1), "fc": (7, 3)},
]


def draw(rng: np.random.Generator, shapes: dict[str, tuple[int, ...]], dtype: Any = np.float64) -> dict[str, Any]:
    return {name: rng.choice(VALUES, shape).astype(dtype) for name, shape in shapes.items()}


def tiles_of(scores: dict[str, Any], size: tuple[int, int]) -> list[tuple[str, int, tuple[slice, slice]]]:
    """Every tile: its layer, its number there, its rows and columns in the layer as a matrix."""
    found = []
    for name, score in scores.items():
        rows, columns = score.shape[0], math.prod(score.shape[1:])
        corners = [(i, j) for i in range(0, rows, size[0]) for j in range(0, columns, size[1])]
        found += [(name, k, (slice(i, i + size[0]), slice(j, j + size[1]))) for k, (i, j) in enumerate(corners)]
    return found


def worth(entries: list[float], norm: str) -> float:
    if norm == "max":
        return max((abs(v) for v in entries), default=0.0)
    return math.fsum(abs(v) for v in entries) if norm == "l1" else math.fsum(v * v for v in entries)


def dropping(
    scores: dict[str, Any], size: tuple[int, int], drop: int, *, norm: str = "l2", current: Any = None
) -> dict[str, Any]:
    """Oracle: the masks after `drop` tiles have gone, those without an entry left first."""
    masks = {name: np.array((current or {}).get(name, np.ones(s.shape, bool))) for name, s in scores.items()}
    flat = {name: mask.reshape(mask.shape[0], -1) if mask.size else mask for name, mask in masks.items()}
    ranked = []
    for position, (name, k, at) in enumerate(tiles_of(scores, size)):
        matrix = scores[name].reshape(scores[name].shape[0], -1)
        entries = [float(v) for v, m in zip(matrix[at].flat, flat[name][at].flat, strict=True) if m]
        ranked.append((bool(entries), worth(entries, norm), position, name, at))
        assert k >= 0
    for _, _, _, name, at in sorted(ranked, key=lambda row: row[:3])[:drop]:
        flat[name][at] = False
    return {name: flat[name].reshape(mask.shape) for name, mask in masks.items()}


def assert_same(got: dict[str, Any], want: dict[str, Any]) -> None:
    assert list(got) == list(want)
    for name, mask in got.items():
        assert mask.dtype == np.bool_
        np.testing.assert_array_equal(mask, want[name])


# --- tiles ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 1), (1, 4), (3, 3)])
@pytest.mark.parametrize("shapes", SHAPES)
def test_tiles_go_by_their_norm(
    rng: np.random.Generator, shapes: dict[str, tuple[int, ...]], size: tuple[int, int], norm: str, dtype: Any
) -> None:
    scores = draw(rng, shapes, dtype)
    n = len(tiles_of(scores, size))
    for drop in range(n):
        want = dropping(scores, size, drop, norm=norm)
        if any(mask.size and not mask.any() for mask in want.values()):
            with pytest.raises(LayerCollapse, match=rf"^amount={drop} leaves layer '\w+' none of its \d+ tiles; prune"):
                block_mask(scores, blocksize=size, amount=drop, norm=norm)
            continue
        assert_same(block_mask(scores, blocksize=size, amount=drop, norm=norm), want)


@given(st.integers(0, 2**32 - 1), blocksizes(), st.floats(0, 1))
def test_a_fraction_counts_tiles(seed: int, size: tuple[int, int], amount: float) -> None:
    rng = np.random.default_rng(seed)
    shapes = {"a": tuple(rng.integers(1, 9, 2)), "b": tuple(rng.integers(1, 4, 4))}
    scores = draw(rng, shapes)
    n, least = len(tiles_of(scores, size)), 1
    drop = min(math.floor(amount * n + 0.5), n - 2)
    masks = block_mask(scores, blocksize=size, amount=drop, min_keep=least)
    kept = [masks[name].reshape(len(masks[name]), -1)[at] for name, _, at in tiles_of(scores, size)]
    assert all(tile.all() or not tile.any() for tile in kept)
    assert sum(not tile.any() for tile in kept) == drop
    assert all(mask.any() for mask in masks.values())
    if drop == math.floor(amount * n + 0.5):
        assert_same(block_mask(scores, blocksize=size, amount=amount, min_keep=least), masks)


def test_layer_scope_is_each_layer_alone(rng: np.random.Generator) -> None:
    scores = draw(rng, {"fc1": (4, 6), "conv": (6, 2, 2, 2)})
    scores["conv"] = scores["conv"] + 8  # so that none of these would go in a common ranking
    together = block_mask(scores, blocksize=2, amount=0.5, scope="layer")
    for name, score in scores.items():
        assert_same({name: together[name]}, block_mask({name: score}, blocksize=2, amount=0.5))
        tiles = len(tiles_of({name: score}, (2, 2)))
        assert_same({name: together[name]}, dropping({name: score}, (2, 2), math.floor(0.5 * tiles + 0.5)))
    world = block_mask(scores, blocksize=2, amount=0.25)
    assert world["conv"].all()
    assert not together["conv"].all()


def test_pruned_stays_pruned_and_does_not_count(rng: np.random.Generator) -> None:
    for _ in range(10):
        scores = draw(rng, {"fc1": (5, 6), "conv": (3, 2, 2, 2)})
        current = {name: rng.random(s.shape) < 0.5 for name, s in scores.items()}
        current["fc1"][:2, :3] = False  # one tile has gone altogether
        for mask in current.values():
            mask[-1:] = True
        gone = sum(
            not current[name].reshape(len(current[name]), -1)[at].any() for name, _, at in tiles_of(scores, (2, 3))
        )
        assert gone >= 1
        for drop in range(gone, gone + 3):
            got = block_mask(scores, blocksize=(2, 3), amount=drop, current=current, min_keep=1)
            assert_same(got, dropping(scores, (2, 3), drop, current=current))
        with pytest.raises(
            ArgumentError, match=rf"asks for {gone - 1} of 12 tiles to go, but {gone} are pruned already"
        ):
            block_mask(scores, blocksize=(2, 3), amount=gone - 1, current=current)


def test_blocks_of_one_are_single_entries(rng: np.random.Generator) -> None:
    weights = draw(rng, {"fc1": (4, 6), "conv": (3, 2, 2, 2)})
    magnitudes = {name: np.abs(w) for name, w in weights.items()}
    for norm in ("l1", "l2", "max"):
        for options in ({"amount": 17}, {"threshold": 0.75}, {"amount": 0.25, "scope": "layer"}):
            assert_same(block_mask(weights, blocksize=1, norm=norm, **options), keep_mask(magnitudes, **options))


def test_threshold_is_a_norm() -> None:
    w = {"fc1": np.array([[3.0, 4.0, 0.0], [0.0, 0.0, -4.9]])}
    assert block_mask(w, blocksize=(1, 2), threshold=5.0, min_keep=0)["fc1"].tolist() == [
        [True] * 2 + [False],
        [False] * 3,
    ]
    assert block_mask(w, blocksize=(1, 2), threshold=4.9, norm="max")["fc1"].tolist()[1] == [False, False, True]
    assert block_mask(w, blocksize=(1, 2), threshold=7.0, norm="l1")["fc1"].sum() == 2


def test_equal_tiles_tie_whatever_lies_around(rng: np.random.Generator) -> None:
    """Sums of inexact numbers: equal tiles must have equal norms, so that the first of them goes."""
    tile = rng.normal(size=(4, 4)).astype(np.float32)
    w = {"fc1": np.tile(tile, (5, 7))}
    for norm in ("l1", "l2", "max"):
        for drop in (1, 8, 34):
            kept = block_mask(w, blocksize=4, amount=drop, norm=norm)["fc1"][::4, ::4].ravel()
            assert kept.tolist() == [False] * drop + [True] * (35 - drop)


def test_what_is_kept_is_what_bcsr_stores(rng: np.random.Generator) -> None:
    w = rng.normal(size=(10, 9))
    mask = block_mask({"fc": w}, blocksize=(4, 2), amount=0.6)["fc"]
    stored = BCSR.from_dense(w, mask, blocksize=(4, 2))
    assert len(stored.values) == 15 - 9
    np.testing.assert_array_equal(stored.pattern.to_mask(), mask)
    np.testing.assert_array_equal(stored.to_dense(), w * mask)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_squares_of_float32_neither_vanish_nor_overflow(size: float) -> None:
    w = {"fc1": np.array([[2.0], [1.0]], np.float32) * np.float32(size)}
    assert block_mask(w, blocksize=1, amount=1)["fc1"].tolist() == [[True], [False]]


def test_infinite_scores_and_no_layers() -> None:
    w = {"fc1": np.array([[np.inf, 0.0], [1e300, 1.0]])}
    assert block_mask(w, blocksize=(1, 2), amount=1, norm="max")["fc1"].tolist() == [[True, True], [False, False]]
    assert block_mask({}, blocksize=2, amount=0.5) == {}


# --- N:M --------------------------------------------------------------------------------------------------------------


def nm_by_hand(score: Any, n: int, m: int, current: Any = None) -> Any:
    """Oracle: each group of m along axis 1 sorted, the first of equals lowest, the last n kept."""
    alive = np.ones(score.shape, bool) if current is None else current
    mask = np.zeros(score.shape, bool)
    for place in np.ndindex(score.shape[:1] + score.shape[2:]):
        line = (place[0], slice(None), *place[1:])
        for start in range(0, score.shape[1], m):
            group = [i for i in range(start, min(start + m, score.shape[1])) if alive[line][i]]
            for i in sorted(group, key=lambda i: (score[line][i], i))[-n:]:
                mask[(place[0], i, *place[1:])] = True
    return mask


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 1), (1, 2), (3, 3), (1, 4), (4, 8), (2, 5)])
@pytest.mark.parametrize(
    "shape", [(3, 8), (2, 7), (1, 1), (4, 3), (3, 5, 2, 3), (0, 4), (3, 0), (2, 1, 3, 2), (2, 3, 0, 1)]
)
def test_n_of_every_m_stay(rng: np.random.Generator, shape: tuple[int, ...], n: int, m: int, dtype: Any) -> None:
    score = rng.choice(np.abs(VALUES), shape).astype(dtype)
    got = nm_mask({"a": score}, n=n, m=m)["a"]
    np.testing.assert_array_equal(got, nm_by_hand(score, n, m))
    assert got.flags.c_contiguous
    kept = shape[1] // m * n + min(n, shape[1] % m)
    assert (got.sum(axis=1) == kept).all()


@pytest.mark.parametrize("shape", [(3, 8), (2, 7), (3, 5, 2, 3)])
def test_n_of_m_keeps_only_what_is_left(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    for density in (0.2, 0.6):
        score, current = rng.choice(VALUES, shape), rng.random(shape) < density
        current.flat[0] = True
        got = nm_mask({"a": score, "b": score}, n=2, m=4, current={"a": current})
        np.testing.assert_array_equal(got["a"], nm_by_hand(score, 2, 4, current))
        np.testing.assert_array_equal(got["b"], nm_by_hand(score, 2, 4))
        assert not (got["a"] & ~current).any()


@pytest.mark.parametrize("shape", [(3, 8), (2, 5, 2, 3), (3, 0), (0, 4)])
@pytest.mark.parametrize(("n", "m"), [(2, 2**31), (2, 2**63), (2**31, 2**31), (2**70, 2**80), (2, 9)])
def test_a_group_wider_than_the_axis_is_the_axis(rng: np.random.Generator, shape: Any, n: int, m: int) -> None:
    score = rng.choice(VALUES, shape)
    np.testing.assert_array_equal(nm_mask({"a": score}, n=n, m=m)["a"], nm_by_hand(score, min(n, 8), min(m, 9)))


def test_first_of_equals_goes_first() -> None:
    assert nm_mask({"a": np.zeros((1, 7))}, n=2, m=4)["a"].tolist() == [[False] * 2 + [True] * 2 + [False] + [True] * 2]
    score = np.array([[0.0, -0.0, -np.inf, 0.0]])
    assert nm_mask({"a": score}, n=2, m=4)["a"].tolist() == [[False, True, False, True]]


def test_channels_are_the_input_of_a_convolution(rng: np.random.Generator) -> None:
    score = rng.random((2, 8, 3, 3))
    mask = nm_mask({"conv": score}, n=2, m=4)["conv"]
    assert (mask.reshape(2, 2, 4, 3, 3).sum(axis=2) == 2).all()


def test_inputs_are_only_read(rng: np.random.Generator) -> None:
    score, current = rng.random((4, 8)), rng.random((4, 8)) < 0.8
    score.flags.writeable = current.flags.writeable = False
    for got in (
        nm_mask({"a": score}, n=4, m=4, current={"a": current})["a"],
        block_mask({"a": score}, blocksize=2, amount=0, current={"a": current})["a"],
    ):
        np.testing.assert_array_equal(got, current)
        assert not np.shares_memory(got, current)
        assert got.flags.writeable


# --- what is refused --------------------------------------------------------------------------------------------------

ONE: dict[str, Any] = {"a": np.arange(12.0).reshape(3, 4)}


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: block_mask(ONE, blocksize=2), ArgumentError, r"^amount=None, threshold=None: give exactly one of the"),
        (lambda: block_mask(ONE, blocksize=0, amount=1), ArgumentError, r"^blocksize=0 must be at least 1"),
        (
            lambda: block_mask(ONE, blocksize=(1, 2, 3), amount=1),
            ArgumentError,
            r"^blocksize=\(1, 2, 3\) must be a who",
        ),
        (lambda: block_mask(ONE, blocksize=2.0, amount=1), ArgumentError, r"^blocksize=2.0 must be a whole number"),  # type: ignore[arg-type]
        (
            lambda: block_mask(ONE, blocksize=2, amount=5),
            ArgumentError,
            r"^amount=5 exceeds the 4 tiles there are; a f",
        ),
        (lambda: block_mask(ONE, blocksize=2, amount=5, scope="layer"), ArgumentError, r"^amount=5 .* in layer 'a'"),
        (lambda: block_mask(ONE, blocksize=2, amount=50.0), ArgumentError, r"^amount=50.0 must lie in \[0, 1\]"),
        (
            lambda: block_mask(ONE, blocksize=2, amount=1.0),
            LayerCollapse,
            r"^amount=1.0 leaves layer 'a' none of its 4 t",
        ),
        (
            lambda: block_mask(ONE, blocksize=2, amount=4, min_keep=1),
            ArgumentError,
            r"^amount=4 asks for 4 of 4 tiles to go, but at most 3 can when every layer keeps min_keep tiles; low",
        ),
        (
            lambda: block_mask(ONE, blocksize=2, amount=1, norm="L2"),
            ArgumentError,
            r"^norm='L2' is not one of 'l1', 'l2",
        ),
        (
            lambda: block_mask(ONE, blocksize=2, amount=1, scope="net"),
            ArgumentError,
            r"^scope='net' is not one of 'glob",
        ),
        (
            lambda: block_mask({"b": np.ones(3)}, blocksize=2, amount=1),
            ShapeError,
            r"^scores\['b'\] has shape \(3,\), expected \(out, in\) or \(F, C, R, S\): a tile has two axes; leave bias",
        ),
        (
            lambda: block_mask({"a": np.ones((2, 2), int)}, blocksize=2, amount=1),
            DTypeError,
            r"^scores\['a'\] has dtype",
        ),
        (
            lambda: block_mask({"a": ONE["a"] * np.nan}, blocksize=2, amount=1),
            ArgumentError,
            r"^scores\['a'\] has 12 NaN",
        ),
        (
            lambda: block_mask(ONE, blocksize=2**40, amount=1),
            ShapeError,
            r"^blocksize=\(1099511627776, 1099511627776\) goes far beyond a matrix of shape \(3, 4\); use",
        ),
        (lambda: block_mask(ONE, blocksize=(1, 4097), amount=1), ShapeError, r"^blocksize=\(1, 4097\) goes far beyond"),
        (lambda: nm_mask(ONE, n=0, m=4), ArgumentError, r"^n=0 must be at least 1"),
        (lambda: nm_mask(ONE, n=2, m=0), ArgumentError, r"^m=0 must be at least 1"),
        (
            lambda: nm_mask(ONE, n=4, m=2),
            ArgumentError,
            r"^n=4 exceeds m=2: n of every m entries stay; swap the two or",
        ),
        (lambda: nm_mask(ONE, n=2.0, m=4), ArgumentError, r"^n=2.0 must be a whole number, not float"),  # type: ignore[arg-type]
        (
            lambda: nm_mask({"b": np.ones(3)}, n=2, m=4),
            ShapeError,
            r"^scores\['b'\] has shape \(3,\), expected \(out, in\) or \(F, C, R, S\): groups lie along axis 1; lea",
        ),
        (lambda: nm_mask({"a": ONE["a"] * np.nan}, n=2, m=4), ArgumentError, r"^scores\['a'\] has 12 NaN of 12"),
        (lambda: nm_mask(ONE, n=2, m=4, current={"b": ONE["a"] > 0}), ArgumentError, r"^current\['b'\] has no scores"),
        (lambda: nm_mask(ONE, n=2, m=4, current={"a": ONE["a"]}), DTypeError, r"^current\['a'\] must be an array of b"),
        (lambda: nm_mask(ONE, n=2, m=4, current={"a": ONE["a"] < 0}), LayerCollapse, r"^current\['a'\] has none of 12"),
    ],
)
def test_messages(call: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        call()
    assert "\n" not in str(caught.value)
