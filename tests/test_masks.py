"""Masks against a ranking written out with sorted(), and the edges: ties, nothing, everything, NaN."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l0ref.errors import ArgumentError, DTypeError, LayerCollapse, ShapeError
from l0ref.masks import amount_for_compression, keep_mask, kept_count_for_compression, largest_amount, removed
from l0ref.validate import portion

DTYPES = [np.float32, np.float64]


def ranked(scores, current=None, min_keep=0):
    """Oracle: every (layer, flat index) in the order it would go; None where min_keep protects too much to say.

    Entries pruned before come first; the last `min_keep` of each layer never go.
    """
    gone, waiting = [], []
    for position, (name, score) in enumerate(scores.items()):
        mask = (current or {}).get(name, np.ones(np.shape(score), bool))
        rows = [(float(s), position, i, bool(m)) for i, (s, m) in enumerate(zip(score.flat, mask.flat, strict=True))]
        gone += [(position, i) for _, _, i, alive in rows if not alive]
        alive = sorted(row[:3] for row in rows if row[3])
        waiting += alive[: max(len(alive) - min_keep, 0)]
    return gone, [row[1:] for row in sorted(waiting)]


def dropped(masks):
    """The (layer, flat index) of every False."""
    return sorted((p, i) for p, mask in enumerate(masks.values()) for i in np.flatnonzero(~mask.ravel()).tolist())


def tied_scores(rng, dtype=np.float64):
    """Three layers, most scores equal to others, negative zero and infinities among them."""
    values = np.array([-np.inf, -1.5, -0.0, 0.0, 0.25, 0.25, 2.0, np.inf], dtype)
    return {
        name: rng.choice(values, shape) for name, shape in {"a": (3, 4), "b": (0, 2), "c": (2, 1, 5), "d": (1,)}.items()
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("drop", range(20))
def test_global_mask_equals_sorted_ranking(rng, dtype, drop):
    for _ in range(5):
        scores = {k: v for k, v in tied_scores(rng, dtype).items() if k != "d"}
        _, order = ranked(scores, min_keep=1)
        masks = keep_mask(scores, amount=drop, min_keep=1)
        assert dropped(masks) == sorted(order[:drop])
        assert [m.shape for m in masks.values()] == [s.shape for s in scores.values()]
        assert {m.dtype for m in masks.values()} == {np.dtype(bool)}


@pytest.mark.parametrize("min_keep", [0, 1, 2, 4])
def test_pruned_stays_pruned_and_counts(rng, min_keep):
    for _ in range(20):
        scores = tied_scores(rng)
        current = {name: rng.random(s.shape) < 0.7 for name, s in scores.items()}
        current["a"][0, 0] = current["c"][0, 0, 0] = current["d"][0] = True
        del current["b"]  # a layer without a mask is unpruned
        gone, order = ranked(scores, current, min_keep)
        for more in range(0, len(order) - 4, 3):
            try:
                masks = keep_mask(scores, amount=len(gone) + more, current=current, min_keep=min_keep)
            except LayerCollapse:
                taken = [p for p, _ in gone + order[:more]]
                assert min_keep == 0
                assert any(taken.count(p) == s.size > 0 for p, s in enumerate(scores.values()))
                continue
            assert dropped(masks) == sorted(gone + order[:more])


@pytest.mark.parametrize("amount", [0, 0.0, 1, 2, 0.2, 0.3, 0.5, 0.74, np.float32(0.5), np.int64(3)])
@pytest.mark.parametrize("current", [False, True])
def test_layer_scope_is_each_layer_alone(rng, amount, current):
    scores = {"a": rng.normal(size=(3, 4)), "empty": np.zeros((2, 0)), "c": rng.integers(0, 3, (5, 1)).astype(float)}
    if isinstance(amount, int | np.integer):
        del scores["empty"]
    masks_now = {"a": np.arange(12).reshape(3, 4) != 5} if current and amount else {}
    together = keep_mask(scores, amount=amount, scope="layer", current=masks_now)
    for name, score in scores.items():
        own = {k: v for k, v in masks_now.items() if k == name}
        alone = keep_mask({name: score}, amount=amount, current=own)
        np.testing.assert_array_equal(together[name], alone[name])
        count = amount if isinstance(amount, int | np.integer) else math.floor(float(amount) * score.size + 0.5)
        assert int((~together[name]).sum()) == count


def test_global_and_layer_scope_differ():
    scores = {"small": np.array([1.0, 2.0, 9.0, 9.0]), "large": np.array([3.0, 4.0, 8.0, 8.0])}
    world, layer = (keep_mask(scores, amount=0.25, scope=scope) for scope in ("global", "layer"))
    assert (world["small"].tolist(), world["large"].tolist()) == ([False, False, True, True], [True] * 4)
    assert (layer["small"].tolist(), layer["large"].tolist()) == ([False, True, True, True], [False, True, True, True])


@pytest.mark.parametrize(
    ("amount", "size", "gone"),
    [(0.5, 5, 3), (0.5, 4, 2), (0.3, 5, 2), (0.29, 5, 1), (0.1, 4, 0), (0.125, 4, 1), (0.9, 1, 1), (0.4, 1, 0),
     (1, 5, 1), (np.uint8(4), 5, 4), (np.float64(0.7), 10, 7), (0.999, 430_500, 430_070)],
)  # fmt: skip
def test_fraction_rounds_half_up(amount, size, gone):
    scores = {"a": np.zeros(size)}
    if gone == size:
        with pytest.raises(LayerCollapse, match=r"^amount=0.9 leaves layer 'a' none of its 1 entries; prune less"):
            keep_mask(scores, amount=amount)
        return
    masks = keep_mask(scores, amount=amount)
    assert int((~masks["a"]).sum()) == gone
    assert not masks["a"][:gone].any()  # all equal: the lowest flat index goes first


def test_one_is_a_count_and_one_point_zero_is_everything():
    scores = {"a": np.arange(4.0)}
    assert keep_mask(scores, amount=1)["a"].tolist() == [False, True, True, True]
    with pytest.raises(LayerCollapse, match=r"^amount=1.0 leaves layer 'a' none of its 4 entries"):
        keep_mask(scores, amount=1.0)


@pytest.mark.parametrize("scores", [{}, {"a": np.zeros((0, 3))}, {"a": np.zeros(0), "b": np.zeros((2, 0), np.float64)}])
@pytest.mark.parametrize("option", [{"amount": 0}, {"amount": 0.7}, {"amount": 1.0}, {"threshold": 0.5}])
@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("min_keep", [0, 3])
def test_layers_of_size_zero(scores, option, scope, min_keep):
    masks = keep_mask(scores, **option, scope=scope, min_keep=min_keep)
    assert {k: m.shape for k, m in masks.items()} == {k: s.shape for k, s in scores.items()}


@given(data=st.data())
def test_min_keep_meets_the_global_count(data):
    sizes = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=4))
    scores = {
        f"l{i}": np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=n, max_size=n)), np.float32)
        for i, n in enumerate(sizes)
    }
    current = {
        k: np.array(data.draw(st.lists(st.booleans(), min_size=s.size, max_size=s.size)), bool)
        for k, s in scores.items()
    }
    for mask in current.values():
        mask[-1:] = True
    least = data.draw(st.integers(1, 4))
    gone, order = ranked(scores, current, least)
    drop = data.draw(st.integers(0, sum(sizes)))
    if drop < len(gone):
        with pytest.raises(ArgumentError, match=rf"asks for {drop} of {sum(sizes)} .* {len(gone)} are pruned already"):
            keep_mask(scores, amount=drop, min_keep=least, current=current)
    elif drop > len(gone) + len(order):
        with pytest.raises(
            ArgumentError, match=rf"^amount={drop} asks .* at most {len(gone) + len(order)} can when every"
        ):
            keep_mask(scores, amount=drop, min_keep=least, current=current)
    else:
        masks = keep_mask(scores, amount=drop, min_keep=least, current=current)
        assert dropped(masks) == sorted(gone + order[: drop - len(gone)])
        assert all(m.sum() >= min(least, current[k].sum()) for k, m in masks.items())


def test_min_keep_protects_the_best_of_a_weak_layer():
    scores = {"weak": np.array([0.1, 0.3, 0.3, 0.2]), "strong": np.array([5.0, 7.0, 6.0, 8.0])}
    with pytest.raises(
        LayerCollapse, match=r"^amount=0.5 leaves layer 'weak' none of its 4 entries; prune less or pass"
    ):
        keep_mask(scores, amount=0.5)
    masks = keep_mask(scores, amount=0.5, min_keep=1)
    assert masks["weak"].tolist() == [False, False, True, False]  # of two equals the later one stays
    assert masks["strong"].tolist() == [False, True, True, True]  # and the count is met elsewhere


@pytest.mark.parametrize("dtype", DTYPES)
def test_threshold_keeps_what_reaches_it(dtype):
    scores = {"a": np.array([[0.5, 0.25, 0.75], [-1.0, 0.5, np.inf]], dtype), "b": np.array([3.0], dtype)}
    masks = keep_mask(scores, threshold=0.5)
    assert masks["a"].tolist() == [[True, False, True], [False, True, True]]
    current = {"a": np.array([[False, True, True], [True, True, True]])}
    assert keep_mask(scores, threshold=0.5, current=current)["a"].tolist() == [
        [False, False, True],
        [False, True, True],
    ]
    with pytest.raises(LayerCollapse, match=r"^threshold=4.0 leaves layer 'b' none of its 1 entries"):
        keep_mask(scores, threshold=4.0)
    assert keep_mask(scores, threshold=1e9, min_keep=2)["a"].tolist() == [[False, False, True], [False, False, True]]


def test_threshold_is_compared_exactly():
    tiny = {"a": np.array([0.0, 1e-30, 1.0], np.float32)}
    assert keep_mask(tiny, threshold=1e-60)["a"].tolist() == [
        False,
        True,
        True,
    ]  # not rounded to float32, where it is 0
    assert keep_mask({"a": np.array([0.1, 0.2], np.float32)}, threshold=0.1)["a"].tolist() == [True, True]
    with pytest.raises(LayerCollapse, match=r"^threshold=1e\+300 leaves"):
        keep_mask(tiny, threshold=1e300)


def test_flat_index_is_in_c_order_whatever_the_memory():
    square = np.zeros((2, 3))
    for score in (square, np.asfortranarray(square), np.zeros((3, 2)).T, np.broadcast_to(np.zeros(1), (2, 3))):
        assert keep_mask({"a": score}, amount=2)["a"].tolist() == [[False, False, True], [True, True, True]]
    falling = np.arange(6.0)[::-1].reshape(2, 3)
    for score in (falling, np.asfortranarray(falling), falling.T.copy().T):
        assert keep_mask({"a": score}, amount=2)["a"].tolist() == [[True, True, True], [True, False, False]]
    corner = np.asfortranarray(np.array([[True, True, True], [False, True, True]]))
    got = keep_mask({"a": falling}, amount=2, current={"a": corner})["a"]
    assert got.tolist() == [[True, True, True], [False, True, False]]


@pytest.mark.parametrize("option", [{"amount": 2}, {"amount": 0.5, "scope": "layer"}, {"threshold": 0.5}])
def test_inputs_are_only_read_and_results_fresh(option):
    score, mask = np.array([0.0, 1.0, 2.0, 3.0]), np.array([False, True, True, True])
    score.flags.writeable = mask.flags.writeable = False
    got = keep_mask({"a": score}, current={"a": mask}, min_keep=1, **option)["a"]
    assert not np.shares_memory(got, mask)
    assert got.flags.writeable
    assert keep_mask({"a": score}, current={"a": mask}, amount=1)["a"].base is not mask


def test_zero_dimensional_score_has_a_zero_dimensional_mask():
    masks = keep_mask({"a": np.array(2.0), "b": np.array([1.0, 3.0])}, amount=1)
    assert masks["a"].shape == ()
    assert bool(masks["a"])
    assert masks["b"].tolist() == [False, True]


ONE = {"a": np.arange(4.0)}


@pytest.mark.parametrize(
    ("error", "said", "scores", "options"),
    [
        (ArgumentError, r"^amount=None, threshold=None: give exactly one of the two$", ONE, {}),
        (ArgumentError, r"^amount=0.5, threshold=0.1: give exactly one", ONE, {"amount": 0.5, "threshold": 0.1}),
        (ArgumentError, r"^amount=True must be a whole number, not bool", ONE, {"amount": True}),
        (ArgumentError, r"^amount=np.False_ must be a whole", ONE, {"amount": np.bool_(False)}),
        (ArgumentError, r"^amount='half' must be a whole number, not str", ONE, {"amount": "half"}),
        (ArgumentError, r"^amount=50.0 must lie in \[0, 1\]: a float is a frac", ONE, {"amount": 50.0}),
        (ArgumentError, r"^amount=-0.1 must lie in \[0, 1\]", ONE, {"amount": -0.1}),
        (ArgumentError, r"^amount=nan must lie in \[0, 1\]", ONE, {"amount": math.nan}),
        (ArgumentError, r"^amount=-1 must be at least 0", ONE, {"amount": -1}),
        (ArgumentError, r"^amount=5 exceeds the 4 entries there are; a float would", ONE, {"amount": 5}),
        (ArgumentError, r"^amount=5 exceeds the 4 entries .* in layer 'a'", ONE, {"amount": 5, "scope": "layer"}),
        (ArgumentError, r"^amount=1 exceeds the 0 entries", {}, {"amount": 1}),
        (ArgumentError, r"^amount=1.5 must lie", {}, {"amount": 1.5}),
        (ArgumentError, r"^threshold=nan must be finite", ONE, {"threshold": math.nan}),
        (ArgumentError, r"^scope='local' is not one of 'global', 'layer'", ONE, {"amount": 1, "scope": "local"}),
        (ArgumentError, r"^min_keep=-1 must be at least 0", ONE, {"amount": 1, "min_keep": -1}),
        (ArgumentError, r"^amount=4 asks for 4 of 4 entries to go, but at most 2 can when every layer keeps min_keep",
         ONE, {"amount": 4, "min_keep": 2}),
        (ArgumentError, r"^amount=0.25 asks for 1 of 4 entries to go in layer 'a', but 2 are pruned already",
         ONE, {"amount": 0.25, "scope": "layer", "current": {"a": np.array([True, False, False, True])}}),
        (ArgumentError, r"^scores\['b'\] has 2 NaN of 3: no order exists", {**ONE, "b": np.array([np.nan, 0, np.nan])},
         {"amount": 1}),
        (ArgumentError, r"^current\['b'\] has no scores; its layers must be among 'a'",
         ONE, {"amount": 1, "current": {"b": np.ones(4, bool)}}),
        (DTypeError, r"^current\['a'\] must be an array of bool", ONE, {"amount": 1, "current": {"a": np.ones(4)}}),
        (DTypeError, r"^current\['a'\] must be an array of bool", ONE, {"amount": 1, "current": {"a": [True] * 4}}),
        (DTypeError, r"^current\['a'\] is a matrix, expected a NumPy array", {"a": np.ones((1, 4))},
         {"amount": 1, "current": {"a": np.ones((1, 4), bool).view(np.matrix)}}),
        (DTypeError, r"^current\['a'\] is a masked array", ONE, {"amount": 1, "current": {"a": np.ma.ones(4, bool)}}),
        (DTypeError, r"^scores\['a'\] is a masked array", {"a": np.ma.ones(4)}, {"amount": 1}),
        (ShapeError, r"^current\['a'\] has shape \(2, 2\), expected that of its scores, \(4,\)",
         ONE, {"amount": 1, "current": {"a": np.ones((2, 2), bool)}}),
        (LayerCollapse, r"^current\['a'\] has none of 4 entries left, and none comes back",
         ONE, {"amount": 4, "min_keep": 1, "current": {"a": np.zeros(4, bool)}}),
        (DTypeError, r"^scores\['a'\] has dtype int64, expected float32", {"a": np.arange(4)}, {"amount": 1}),
        (DTypeError, r"^mixed dtypes: a float64, b float32", {**ONE, "b": np.ones(2, np.float32)}, {"amount": 1}),
    ],
)  # fmt: skip
def test_keep_mask_messages(error, said, scores, options):
    with pytest.raises(error, match=said):
        keep_mask(scores, **options)


def test_half_a_million_scores_rank_quickly(rng):
    scores = {"a": rng.normal(size=430_000).astype(np.float32)}
    start = time.perf_counter()
    masks = keep_mask(scores, amount=0.98)
    assert time.perf_counter() - start < 1.0  # about 10 ms here
    assert int((~masks["a"]).sum()) == 421_400
    assert scores["a"][masks["a"]].min() >= scores["a"][~masks["a"]].max()


@pytest.mark.parametrize(
    ("n", "ratio", "kept"),
    [
        (266_200, 60, 4436),
        (266_200, 1, 266_200),
        (10, 10.0, 1),
        (7, 2, 3),
        (430_500, 200, 2152),
        (266_200, 1.1, 241_999),
    ],
)
def test_kept_count_for_compression(n, ratio, kept):
    assert kept_count_for_compression(n, ratio) == kept
    assert amount_for_compression(n, ratio) == n - kept
    masks = keep_mask({"a": np.zeros(n)}, amount=amount_for_compression(n, ratio))
    assert int(masks["a"].sum()) == kept


@pytest.mark.parametrize(
    ("n", "ratio", "said"),
    [
        (5, 5.5, r"^ratio=5.5 must lie in \[1, 5\], so that between one and all of the n=5 entries stay"),
        (5, 0.5, r"^ratio=0.5 must lie in \[1, 5\]"),
        (5, math.inf, r"^ratio=inf must be finite"),
        (0, 1.0, r"^n=0 must be at least 1"),
    ],
)
def test_compression_messages(n, ratio, said):
    for function in (kept_count_for_compression, amount_for_compression):
        with pytest.raises(ArgumentError, match=said):
            function(n, ratio)


class Recorder:
    """A loss that notes where it was asked."""

    def __init__(self, loss):
        self.loss, self.asked = loss, []

    def __call__(self, removed):
        self.asked.append(removed)
        return self.loss(removed)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 64, 1000])
def test_largest_amount_is_exact_for_growing_losses(n):
    for last in sorted({0, 1, 2, n // 3, n // 2, n - 1, n} & set(range(n + 1))):
        loss = Recorder(lambda removed, last=last: float(removed) / max(last, 1) if last else float(removed > 0))
        limit = 1.0 if last else 0.5
        assert largest_amount(loss, n=n, limit=limit) == last
        assert len(loss.asked) <= 2 + math.ceil(math.log2(max(n, 1)))
        assert len(set(loss.asked)) == len(loss.asked) or n == 0
        assert all(isinstance(removed, int) for removed in loss.asked)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40), st.floats(0.0, 1.0), st.integers(0, 39))
def test_largest_amount_keeps_the_limit_for_any_loss(losses, limit, start):
    start = min(start, len(losses) - 1)
    loss = Recorder(losses.__getitem__)
    if losses[start] > limit:
        with pytest.raises(ArgumentError, match=r"^limit=.* is below the loss .* at start="):
            largest_amount(loss, n=len(losses) - 1, limit=limit, start=start)
        return
    found = largest_amount(loss, n=len(losses) - 1, limit=limit, start=start)
    assert losses[found] <= limit
    assert found in loss.asked
    assert min(loss.asked) == start
    assert max(loss.asked) <= len(losses) - 1


@pytest.mark.parametrize("resolution", [1, 2, 10, 100])
def test_largest_amount_resolution(resolution):
    loss = Recorder(float)
    found = largest_amount(loss, n=1000, limit=678.5, start=100, resolution=resolution)
    assert 678 - resolution < found <= 678
    assert len(loss.asked) <= 2 + math.ceil(math.log2(900 / resolution))


def collapse_beyond(last):
    def loss(removed):
        if removed > last:
            raise LayerCollapse("amount leaves a layer nothing")
        return 0.0

    return loss


def test_collapse_and_nan_count_as_too_much():
    assert largest_amount(collapse_beyond(37), n=100, limit=1.0) == 37
    assert largest_amount(lambda removed: math.nan if removed > 12 else 0.5, n=100, limit=1.0) == 12
    assert largest_amount(lambda removed: np.float32(removed), n=100, limit=12) == 12
    with pytest.raises(ZeroDivisionError, match="division"):
        largest_amount(lambda removed: 1 / (100 - removed), n=100, limit=1.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n": 3, "limit": 1.0, "start": 4}, r"^start=4 exceeds n=3; start is the count removed already"),
        ({"n": 3, "limit": 1.0, "start": 2}, r"^limit=1.0 is below the loss 2 at start=2; raise the limit"),
        ({"n": 3, "limit": math.nan}, r"^limit=nan must be finite"),
        ({"n": 3, "limit": 1.0, "resolution": 0}, r"^resolution=0 must be at least 1"),
        ({"n": 3.0, "limit": 1.0}, r"^n=3.0 must be a whole number"),
    ],
)
def test_largest_amount_messages(options, said):
    with pytest.raises(ArgumentError, match=said):
        largest_amount(float, **options)


def test_largest_amount_with_nan_at_the_start():
    with pytest.raises(ArgumentError, match=r"^limit=1.0 is below the loss nan at start=0"):
        largest_amount(lambda _: math.nan, n=3, limit=1.0)


@pytest.mark.parametrize(
    ("masks", "count"),
    [({}, 0), ({"a": np.zeros((0, 3), bool)}, 0), ({"a": np.ones(3, bool)}, 0), ({"a": np.arange(6) % 3 > 0}, 2)],
)
def test_removed_counts_what_masks_do_not_keep(masks, count):
    assert removed(masks) == count
    assert type(removed(masks)) is int


@pytest.mark.parametrize(
    ("share", "n", "count"),
    [(0.0, 7, 0), (1.0, 7, 7), (0.5, 7, 4), (0.5, 5, 3), (0.49, 1, 0), (0.5, 1, 1), (0.3, 0, 0), (0.25, 4, 1)],
)  # fmt: skip
def test_portion_rounds_halves_up(share, n, count):
    assert portion(share, n) == count
    assert type(portion(share, n)) is int
