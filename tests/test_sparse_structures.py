"""CSR and BCSR: every rule broken once, conversions over random structures, transposes, bytes, what is read-only."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from l0ref.errors import ArgumentError, DTypeError, ShapeError
from l0ref.sparse import BCSR, CSR, BlockPattern, Pattern
from tests.naive.sparse import stored
from tests.random_sparse import blocksizes, matrices


def by_hand(w: Any) -> tuple[list[float], list[int], list[int]]:
    """Values, columns and row starts, one entry after the other."""
    values, indices, indptr = [], [], [0]
    for row in w.tolist():
        for j, value in enumerate(row):
            if value != 0:
                values.append(value)
                indices.append(j)
        indptr.append(len(values))
    return values, indices, indptr


def held(w: CSR | BCSR) -> list[Any]:
    return [w.values, w.pattern.indptr, w.pattern.indices]


# --- CSR --------------------------------------------------------------------------------------------------------------


@given(matrices())
def test_csr_of_any_matrix(w: Any) -> None:
    got = CSR.from_dense(w)
    values, indices, indptr = by_hand(w)
    assert (got.values.tolist(), got.indices.tolist(), got.indptr.tolist()) == (values, indices, indptr)
    assert (got.shape, got.dtype, got.nnz) == (w.shape, w.dtype, len(values))
    assert (got.indptr.dtype, got.indices.dtype) == (np.int32, np.uint16)
    assert got.density == (len(values) / w.size if w.size else 1.0)
    assert got.nbytes == len(values) * (w.itemsize + 2) + 4 * (w.shape[0] + 1)
    np.testing.assert_array_equal(got.to_dense(), w)
    assert got.to_dense().dtype == w.dtype


@given(matrices(), st.integers(0, 2**32 - 1))
def test_mask_leaves_entries_out(w: Any, seed: int) -> None:
    mask = np.random.default_rng(seed).random(w.shape) < 0.5
    spoilt = np.where(mask, w, np.nan).astype(w.dtype)  # what the mask leaves out may be anything
    for got in (CSR.from_dense(spoilt, mask), BCSR.from_dense(spoilt, mask, blocksize=(2, 3))):
        np.testing.assert_array_equal(got.to_dense(), w * mask)


@given(matrices())
def test_pattern_of_any_mask(w: Any) -> None:
    pattern = Pattern.from_mask(w != 0)
    np.testing.assert_array_equal(pattern.to_mask(), w != 0)
    assert [(int(m), int(d)) for m, d in zip(pattern.rows, pattern.indices, strict=True)] == [
        (m, d) for _, m, d in stored(pattern)
    ]
    np.testing.assert_array_equal(pattern.gather(w), CSR.from_dense(w).values)
    np.testing.assert_array_equal(pattern.scatter(pattern.gather(w)), w)
    assert (pattern.values_shape, pattern.nbytes) == ((pattern.nnz,), 2 * pattern.nnz + 4 * (w.shape[0] + 1))


@given(matrices())
def test_transpose_of_any_matrix(w: Any) -> None:
    sparse = CSR.from_dense(w)
    turned, want = sparse.transpose(), CSR.from_dense(np.ascontiguousarray(w.T))
    assert turned.shape == w.shape[::-1]
    for got, expected in zip(held(turned), held(want), strict=True):
        np.testing.assert_array_equal(got, expected)
    other = sparse.with_values(sparse.values * 3)
    np.testing.assert_array_equal(other.transpose().to_dense(), 3 * w.T)
    np.testing.assert_array_equal(turned.transpose().to_dense(), w)
    assert other.transpose().pattern is turned.pattern  # sorted once
    assert sparse.pattern.transpose_order is other.pattern.transpose_order
    assert turned.pattern.indptr.dtype == np.int32


@given(matrices(), st.integers(0, 2**32 - 1))
def test_select_keeps_some_entries(w: Any, seed: int) -> None:
    sparse = CSR.from_dense(w)
    keep = np.random.default_rng(seed).random(sparse.nnz) < 0.5
    small = CSR(sparse.pattern.select(keep), sparse.values[keep])
    want = sparse.pattern.scatter(np.where(keep, sparse.values, 0).astype(w.dtype))
    np.testing.assert_array_equal(small.to_dense(), want)
    assert small.nnz == int(keep.sum())


def test_indices_are_as_narrow_as_they_fit() -> None:
    for columns, dtype in ((65_536, np.uint16), (65_537, np.int32)):
        pattern = Pattern(np.array([0, 1]), np.array([columns - 1]), (1, columns))
        assert pattern.indices.dtype == dtype
        assert pattern.indices.tolist() == [columns - 1]
        assert pattern.transpose().shape == (columns, 1)
        assert pattern.transpose().indptr.tolist() == [0] * columns + [1]


def test_negative_zero_is_not_stored() -> None:
    assert CSR.from_dense(np.array([[-0.0, 1.0]])).indices.tolist() == [1]
    assert BCSR.from_dense(np.array([[-0.0, 1.0]]), blocksize=1).pattern.indices.tolist() == [1]


def test_smallest_numbers_are_stored() -> None:
    w = np.array([[5e-324, 0.0, -1e-310]])
    np.testing.assert_array_equal(CSR.from_dense(w).to_dense(), w)


@pytest.mark.parametrize("w", [np.asfortranarray(np.eye(3, 4)), np.eye(8, 6)[::2, ::-2], np.eye(4, 3).T])
def test_memory_layout_does_not_matter(w: Any) -> None:
    np.testing.assert_array_equal(CSR.from_dense(w).to_dense(), w)
    np.testing.assert_array_equal(BCSR.from_dense(w, blocksize=(2, 3)).to_dense(), w)


# --- BCSR -------------------------------------------------------------------------------------------------------------


@given(matrices(), blocksizes())
def test_bcsr_of_any_matrix(w: Any, size: tuple[int, int]) -> None:
    got = BCSR.from_dense(w, blocksize=size)
    (rows, columns), (tall, wide) = w.shape, size
    tiles = [
        (i, j, w[i : i + tall, j : j + wide])
        for i in range(0, rows, tall)
        for j in range(0, columns, wide)
        if w[i : i + tall, j : j + wide].any()
    ]
    assert got.pattern.indices.tolist() == [j // wide for _, j, _ in tiles]
    assert got.pattern.indptr.tolist() == [sum(i < tall * k for i, _, _ in tiles) for k in range(-(-rows // tall) + 1)]
    for value, (_, _, tile) in zip(got.values, tiles, strict=True):
        np.testing.assert_array_equal(value[: tile.shape[0], : tile.shape[1]], tile)
        assert np.count_nonzero(value) == np.count_nonzero(tile)
    nnz = sum(tile.size for _, _, tile in tiles)
    assert (got.shape, got.blocksize, got.dtype, got.nnz) == (w.shape, size, w.dtype, nnz)
    assert got.density == (nnz / w.size if w.size else 1.0)
    grid_rows = -(-rows // tall)
    assert got.nbytes == len(tiles) * (tall * wide * w.itemsize + 2) + 4 * (grid_rows + 1)
    np.testing.assert_array_equal(got.to_dense(), w)
    np.testing.assert_array_equal(got.transpose().to_dense(), w.T)
    assert got.transpose().blocksize == (wide, tall)
    np.testing.assert_array_equal(got.with_values(2 * got.values).transpose().to_dense(), 2 * w.T)


@given(matrices(), blocksizes())
def test_block_pattern_of_any_mask(w: Any, size: tuple[int, int]) -> None:
    pattern = BlockPattern.from_mask(w != 0, blocksize=size)
    inside = np.zeros(pattern.values_shape, bool)
    mask = np.zeros(w.shape, bool)
    for at, m, d in stored(pattern):
        inside[at] = mask[m, d] = True
    np.testing.assert_array_equal(pattern.to_mask(), mask)
    np.testing.assert_array_equal(pattern.padding(), ~inside)
    assert pattern.nnz == int(mask.sum())
    np.testing.assert_array_equal(pattern.gather(w), BCSR.from_dense(w, blocksize=size).values)
    dense = np.arange(w.size, dtype=float).reshape(w.shape)
    np.testing.assert_array_equal(pattern.scatter(pattern.gather(dense)), dense * mask)


def test_one_number_is_a_square_tile() -> None:
    w = np.eye(4)
    assert BCSR.from_dense(w, blocksize=2).blocksize == (2, 2)
    assert BlockPattern.from_mask(w != 0, blocksize=4).values_shape == (1, 4, 4)


# --- values that nobody can change ------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [CSR.from_dense(np.eye(3)), BCSR.from_dense(np.eye(3), blocksize=2)])
def test_nothing_can_be_written(made: Any) -> None:
    for array in (*held(made), *held(made.transpose()), made.pattern.transpose_order):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        assert array.base is None or not array.base.flags.writeable
    for thing, name in ((made, "values"), (made, "pattern"), (made.pattern, "shape")):
        with pytest.raises(FrozenInstanceError, match=name):
            setattr(thing, name, None)


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda thing: pickle.loads(pickle.dumps(thing))])
@pytest.mark.parametrize("made", [CSR.from_dense(np.eye(3)), BCSR.from_dense(np.eye(3), blocksize=2)])
def test_nothing_can_be_written_in_a_copy(made: Any, copied: Any) -> None:
    made.transpose()  # kept in the pattern
    other = copied(made)
    np.testing.assert_array_equal(other.to_dense(), made.to_dense())
    assert other.shape == made.shape
    for array in (*held(other), *held(other.transpose()), other.pattern.transpose_order):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_values_may_be_a_list() -> None:
    assert Pattern([0, 1], [1], (1, 3)).scatter([2.0]).tolist() == [[0.0, 2.0, 0.0]]  # type: ignore[arg-type]
    pattern = BlockPattern.from_mask(np.ones((1, 2), bool), blocksize=(1, 2))
    assert pattern.scatter([[[2.0, 3.0]]]).tolist() == [[2.0, 3.0]]  # type: ignore[arg-type]


def test_arrays_given_are_copied_and_left_alone() -> None:
    indptr, indices, values = np.array([0, 1, 2], np.int32), np.array([1, 0], np.uint16), np.array([1.0, 2.0])
    w = CSR(Pattern(indptr, indices, (2, 2)), values)
    indptr[:], indices[:], values[:] = 0, 5, np.nan
    assert (w.indptr.tolist(), w.indices.tolist(), w.values.tolist()) == ([0, 1, 2], [1, 0], [1.0, 2.0])


def test_a_pattern_is_shared_not_copied() -> None:
    w = CSR.from_dense(np.eye(3))
    assert w.with_values(np.full(3, 2.0)).pattern is w.pattern
    assert w.with_values(np.ones(3, np.float32)).dtype == np.float32


def test_they_say_what_they_are() -> None:
    w = np.eye(4, 5)
    assert repr(CSR.from_dense(w)) == "CSR(shape=(4, 5), nnz=4, density=0.2, float64, 60 bytes)"
    assert repr(Pattern.from_mask(w != 0)) == "Pattern(shape=(4, 5), nnz=4, density=0.2)"
    tiles = BCSR.from_dense(w.astype(np.float32), blocksize=(2, 1))
    assert repr(tiles) == ("BCSR(shape=(4, 5), blocksize=(2, 1), tiles=4, density=0.4, float32, 52 bytes)")
    assert repr(tiles.pattern) == "BlockPattern(shape=(4, 5), blocksize=(2, 1), tiles=4, density=0.4)"


# --- what is refused --------------------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {"indptr": np.array([0, 2, 2, 3]), "indices": np.array([0, 2, 1]), "shape": (3, 4)}


def changed(**parts: Any) -> Pattern:
    return Pattern(**{**GOOD, **{k: np.array(v) if isinstance(v, list) else v for k, v in parts.items()}})


@pytest.mark.parametrize(
    ("parts", "error", "said"),
    [
        (
            {"indptr": [0, 2, 3]},
            ShapeError,
            r"^indptr has shape \(3,\), expected \(4,\): where each of the 3 rows begi",
        ),
        ({"indptr": [[0, 2, 2, 3]]}, ShapeError, r"^indptr has shape \(1, 4\), expected one axis; flatten it$"),
        (
            {"indptr": [0, 2, 2, 4]},
            ArgumentError,
            r"^indptr runs from 0 to 4, expected 0 to 3, the length of indices; ",
        ),
        ({"indptr": [1, 2, 2, 3]}, ArgumentError, r"^indptr runs from 1 to 3, expected 0 to 3"),
        ({"indptr": [0, 3, 2, 3]}, ArgumentError, r"^indptr falls from 3 to 2 in row 1; a row must end where the next"),
        ({"indptr": np.array([0, 3, 2, 3], np.uint32)}, ArgumentError, r"^indptr falls from 3 to 2 in row 1"),
        ({"indptr": [0, -1, 2, 3]}, ArgumentError, r"^indptr falls from 0 to -1 in row 0"),
        ({"indptr": [0, 2, 2, 2**31]}, ArgumentError, r"^indptr ends at 2147483648, beyond int32; split the matrix by"),
        ({"indptr": [0.0, 2, 2, 3]}, DTypeError, r"^indptr has dtype float64, expected whole numbers; convert with"),
        ({"indices": [0, 2]}, ArgumentError, r"^indptr runs from 0 to 3, expected 0 to 2"),
        ({"indices": [0, 4, 1]}, ArgumentError, r"^indices holds the column 4, outside \[0, 4\); count columns from 0"),
        ({"indices": [-1, 2, 1]}, ArgumentError, r"^indices holds the column -1, outside \[0, 4\)"),
        ({"indices": [0, 2**31, 1]}, ArgumentError, r"^indices holds the column 2147483648, outside \[0, 4\)"),
        (
            {"indices": [2, 0, 1]},
            ArgumentError,
            r"^indices of row 0 do not rise strictly; sort every row by column and",
        ),
        ({"indices": [2, 2, 1]}, ArgumentError, r"^indices of row 0 do not rise strictly"),
        ({"indptr": [0, 0, 0, 3], "indices": [0, 2, 2]}, ArgumentError, r"^indices of row 2 do not rise strictly"),
        ({"indptr": [0, 1, 1, 3], "indices": [0, 2, 1]}, ArgumentError, r"^indices of row 2 do not rise strictly"),
        ({"indices": [0.0, 2.0, 1.0]}, DTypeError, r"^indices has dtype float64, expected whole numbers; convert"),
        ({"indices": [True, False, True]}, DTypeError, r"^indices has dtype bool, expected whole numbers"),
        ({"indices": ["a", "b", "c"]}, DTypeError, r"^indices has dtype <U1, which is not numeric"),
        ({"shape": (3,)}, ShapeError, r"^shape=\(3,\) must be a pair: the rows and columns of a matrix$"),
        ({"shape": 3}, ShapeError, r"^shape=3 must be a pair"),
        ({"shape": (3, -1)}, ArgumentError, r"^shape\[1\]=-1 must be at least 0$"),
        ({"shape": (3, 4.0)}, ArgumentError, r"^shape\[1\]=4.0 must be a whole number, not float$"),
        (
            {"shape": (3, 2**31)},
            ArgumentError,
            r"^shape=\(3, 2147483648\) goes beyond int32 indices, 2147483647; split",
        ),
        ({"shape": (2**31, 4)}, ArgumentError, r"^shape=\(2147483648, 4\) goes beyond int32 indices"),
        ({"shape": (2, 4)}, ShapeError, r"^indptr has shape \(4,\), expected \(3,\)"),
        ({"shape": (3, 2)}, ArgumentError, r"^indices holds the column 2, outside \[0, 2\)"),
        ({"shape": (3, 0)}, ArgumentError, r"^indices holds the column 2, outside \[0, 0\)"),
    ],
)
def test_pattern_refuses_what_is_not_canonical(parts: dict[str, Any], error: Any, said: str) -> None:
    assert changed().nnz == 3
    with pytest.raises(error, match=said):
        changed(**parts)


def test_any_whole_numbers_will_do() -> None:
    for dtype in (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64):
        pattern = changed(indptr=GOOD["indptr"].astype(dtype), indices=GOOD["indices"].astype(dtype))
        assert (pattern.indptr.dtype, pattern.indices.dtype) == (np.int32, np.uint16)
        assert pattern.indices.tolist() == [0, 2, 1]


@given(st.data())
def test_a_damaged_structure_is_refused_or_sound(data: Any) -> None:
    """Whatever numbers stand in the arrays: either one sentence, or a structure whose every index is inside."""
    rows, columns = data.draw(st.integers(0, 4)), data.draw(st.integers(0, 4))
    wild = st.one_of(st.integers(-1, 6), st.integers(-(2**63), 2**63 - 1))
    indptr = data.draw(st.lists(wild, min_size=rows, max_size=rows + 2))
    indices = data.draw(st.lists(wild, max_size=5))
    if data.draw(st.booleans()):  # more often nearly right
        indptr = [0, *sorted(min(abs(i), len(indices)) for i in indptr)][: rows + 1]
    try:
        pattern = Pattern(np.array(indptr, np.int64), np.array(indices, np.int64), (rows, columns))
    except (ArgumentError, ShapeError):
        event("refused")
        return
    event("sound")
    assert pattern.indptr.tolist() == sorted(indptr)
    assert (indptr[0], indptr[-1], len(indptr)) == (0, len(indices), rows + 1)
    assert all(0 <= j < columns for j in indices)
    for start, end in pairwise(indptr):
        assert indices[start:end] == sorted(set(indices[start:end]))


THREE = Pattern.from_mask(np.eye(3, dtype=bool))
TILES = BlockPattern.from_mask(np.eye(3, dtype=bool), blocksize=2)  # 2 tiles, the second overhangs on both sides
OVER = np.array([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 2.0], [0.0, 0.0]]])
HUGE = np.ones((2**31, 0))  # no memory at all, and more rows than int32 can count
HOLLOW = np.array([[[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]])


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (
            lambda: CSR(THREE, np.ones(4)),
            ShapeError,
            r"^values has shape \(4,\), expected \(3,\), the entries that the",
        ),
        (lambda: CSR(THREE, np.ones((3, 1))), ShapeError, r"^values has shape \(3, 1\), expected \(3,\)"),
        (lambda: CSR(THREE, np.ones(3, int)), DTypeError, r"^values has dtype int64, expected float32 or float64; con"),
        (lambda: CSR(THREE, np.ones(3, np.float16)), DTypeError, r"^values has dtype float16, expected float32"),
        (lambda: CSR(THREE, 1j * np.ones(3)), DTypeError, r"^values has dtype complex128, expected float32"),
        (lambda: CSR(THREE, [1.0, np.nan, np.inf]), ArgumentError, r"^values has 2 NaN or infinite of 3; repair them"),
        (lambda: CSR(THREE, [1.0, -0.0, 0.0]), ArgumentError, r"^values has 2 zeros of 3, and a canonical matrix sto"),
        (lambda: CSR(np.eye(3), np.ones(3)), ArgumentError, r"^pattern is ndarray, expected Pattern; make it with "),
        (lambda: CSR(TILES, np.ones((2, 2, 2))), ArgumentError, r"^pattern is BlockPattern, expected Pattern"),
        (
            lambda: CSR.from_dense(np.ones(3)),
            ShapeError,
            r"^w has shape \(3,\), expected \(rows, columns\); give a con",
        ),
        (
            lambda: CSR.from_dense(np.ones((2, 3, 4, 5))),
            ShapeError,
            r"^w has shape .* as w.reshape\(w.shape\[0\], -1\)$",
        ),
        (lambda: CSR.from_dense(np.eye(3, dtype=int)), DTypeError, r"^w has dtype int64, expected float32 or float64"),
        (lambda: CSR.from_dense([[1.0], [2.0, 3.0]]), ShapeError, r"^w is a ragged list"),
        (lambda: CSR.from_dense(np.array([[np.nan, 0.0]])), ArgumentError, r"^values has 1 NaN or infinite of 1; rep"),
        (lambda: CSR.from_dense(HUGE), ArgumentError, r"^shape=\(2147483648, 0\) goes beyond int32"),
        (lambda: BCSR.from_dense(HUGE, blocksize=4), ArgumentError, r"^shape=\(2147483648, 0\) goes beyond int32"),
        (lambda: Pattern.from_mask(HUGE > 0), ArgumentError, r"^shape=\(2147483648, 0\) goes beyond int32"),
        (lambda: CSR.from_dense(HUGE.T), ArgumentError, r"^shape=\(0, 2147483648\) goes beyond int32"),
        (lambda: CSR.from_dense(np.eye(3), np.eye(3)), DTypeError, r"^mask has dtype float64, expected bool, True = k"),
        (
            lambda: CSR.from_dense(np.eye(3), np.eye(2, 3) > 0),
            ShapeError,
            r"^mask has shape \(2, 3\), expected \(3, 3\): True or False for each entry$",
        ),
        (lambda: Pattern.from_mask(np.eye(3)), DTypeError, r"^mask has dtype float64, expected bool"),
        (
            lambda: Pattern.from_mask(np.ones(3, bool)),
            ShapeError,
            r"^mask has shape \(3,\), expected \(rows, columns\)",
        ),
        (lambda: THREE.select(np.ones(3)), DTypeError, r"^keep has dtype float64, expected bool; compare the values"),
        (
            lambda: THREE.select(np.ones(2, bool)),
            ShapeError,
            r"^keep has shape \(2,\), expected \(3,\): one for each st",
        ),
        (
            lambda: THREE.gather(np.eye(2)),
            ShapeError,
            r"^w has shape \(2, 2\), expected \(3, 3\), that of the pattern$",
        ),
        (lambda: THREE.scatter(np.ones(2)), ShapeError, r"^values has shape \(2,\), expected \(3,\)"),
        (
            lambda: TILES.gather(np.eye(2)),
            ShapeError,
            r"^w has shape \(2, 2\), expected \(3, 3\), that of the pattern$",
        ),
        (lambda: TILES.scatter(np.ones(2)), ShapeError, r"^values has shape \(2,\), expected \(2, 2, 2\)"),
        (lambda: BCSR(THREE, np.ones(3)), ArgumentError, r"^pattern is Pattern, expected BlockPattern; make it with "),
        (lambda: BCSR(TILES, np.ones((2, 4))), ShapeError, r"^values has shape \(2, 4\), expected \(2, 2, 2\)"),
        (
            lambda: BCSR(TILES, OVER),
            ArgumentError,
            r"^values has 1 non-zeros beyond the edge of the matrix, of shape \(3",
        ),
        (
            lambda: BCSR(TILES, HOLLOW),
            ArgumentError,
            r"^values has 1 zero tiles of 2, and a canonical matrix stores no",
        ),
        (lambda: BCSR(TILES, HOLLOW * np.nan), ArgumentError, r"^values has 8 NaN or infinite of 8; repair them"),
        (lambda: BCSR(TILES, HOLLOW.astype(int)), DTypeError, r"^values has dtype int64, expected float32"),
        (lambda: BCSR.from_dense(np.eye(3), blocksize=0), ArgumentError, r"^blocksize=0 must be at least 1"),
        (
            lambda: BCSR.from_dense(np.eye(3), blocksize=(2, 2, 2)),
            ArgumentError,
            r"^blocksize=\(2, 2, 2\) must be a wh",
        ),
        (
            lambda: BCSR.from_dense(np.ones(3), blocksize=2),
            ShapeError,
            r"^w has shape \(3,\), expected \(rows, columns",
        ),
        (
            lambda: BCSR.from_dense(np.full((2, 2), np.inf), blocksize=2),
            ArgumentError,
            r"^values has 4 NaN or infinite",
        ),
        (lambda: BlockPattern(np.eye(2), (3, 3), (2, 2)), ArgumentError, r"^tiles is ndarray, expected Pattern"),
        (
            lambda: BlockPattern(THREE, (3, 3), (2, 2)),
            ShapeError,
            r"^tiles has shape \(3, 3\), expected \(2, 2\): the grid of \(2, 2\) tiles that covers a matrix of s",
        ),
        (lambda: BlockPattern.from_mask(np.eye(3), blocksize=2), DTypeError, r"^mask has dtype float64, expected bool"),
    ],
)
def test_one_clear_sentence(make: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        make()
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
