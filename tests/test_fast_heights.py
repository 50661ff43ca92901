"""The height of tiles, `l0ref.fast.products.heights`: every candidate is right; the choice is kept and read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from l0ref.cli import main
from l0ref.errors import ArgumentError
from l0ref.fast.dense.winograd import Winograd
from l0ref.fast.machine import policy
from l0ref.fast.machine.policy import flat
from l0ref.fast.machine.target import ROWS
from l0ref.fast.products import contraction, heights, matmul
from l0ref.fast.products.heights import CANDIDATES, DEFAULT, Choice
from l0ref.ops.windows import Windows
from l0ref.validate import Array
from tests.test_fast_contraction import contracted, contraction_of
from tests.test_fast_matmul import by_hand, factors

pytestmark = pytest.mark.kernels
each_height = pytest.mark.parametrize(  # each is compiled for itself, so all but the fixed one are slow
    "height", [h if h == ROWS else pytest.param(h, marks=pytest.mark.slow) for h in CANDIDATES]
)


def forget() -> None:
    """As in a new process."""
    for each in (heights.chosen, heights.at_hand, heights.best_height):
        each.cache_clear()


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Nothing is chosen yet, and nothing stays chosen."""
    kept = heights.chosen, heights.at_hand, heights.best_height  # a test may put another in their place
    for each in kept:
        each.cache_clear()
    yield
    for each in kept:
        each.cache_clear()


# --- every candidate --------------------------------------------------------------------------------------------------


@each_height
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_contract_with_tiles_of_every_height(height: int, dtype: Any, rng: np.random.Generator) -> None:
    for columns, rows, taps, blocks in [(5, 25, 3, 2), (1, 1, 1, 1), (4, height, 2, 1), (3, 2 * height + 1, 0, 1)]:
        x, w, b, tables, size = contraction_of(columns, rows, taps, blocks, dtype, rng)
        want = contracted(x, w, b, 0.0, tables, blocks=blocks, size=size)
        for threads in (1, 2):
            y = np.full(size, np.nan, dtype)
            steps = tuple(range(height))
            contraction.contract(flat(x), flat(w), flat(b), np.zeros(1, dtype), y, tables, steps, blocks, threads)
            np.testing.assert_array_equal(y, want)


@each_height
def test_products_with_tiles_of_every_height(height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(heights.VARIABLE, str(height))
    monkeypatch.setattr(matmul, "SMALL", 0)
    for n, k, m in [(17, 9, 31), (2 * height + 1, 33, 70), (1, 3, 16)]:
        a, b = factors(n, k, m, np.float32)
        for right in (b, np.asfortranarray(b)):
            np.testing.assert_array_equal(matmul.product(a, right), by_hand(a, b))


def winograd(height: str, x: Array, k: Array, monkeypatch: pytest.MonkeyPatch) -> Array:
    monkeypatch.setenv(heights.VARIABLE, height)
    forget()
    return Winograd(x.shape, len(k), Windows((3, 3), (1, 1), (1, 1), (1, 1)), x.dtype).forward(x, k, None)


@pytest.mark.slow
def test_no_height_changes_a_bit(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = rng.normal(size=(23, 70)).astype(np.float32), rng.normal(size=(70, 50)).astype(np.float32)
    x, k = rng.normal(size=(3, 5, 4, 4)).astype(np.float32), rng.normal(size=(13, 5, 3, 3)).astype(np.float32)
    monkeypatch.setattr(matmul, "SMALL", 0)
    found = []
    for height in map(str, CANDIDATES):
        images = winograd(height, x, k, monkeypatch)
        found.append((matmul.product(a, b), images))
    for product, images in found[1:]:
        np.testing.assert_array_equal(product, found[0][0])
        np.testing.assert_array_equal(images, found[0][1])
    padded, truth = np.pad(x.astype(float), ((0, 0), (0, 0), (1, 1), (1, 1))), np.zeros((3, 13, 4, 4))
    for n, f, p, q in np.ndindex(truth.shape):
        truth[n, f, p, q] = (padded[n, :, p : p + 3, q : q + 3] * k[f]).sum()
    np.testing.assert_allclose(found[0][1], truth, rtol=0, atol=1e-4)


# --- the choice -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "rows", "height"),
    [({4: 4.0, 5: 4.5, 6: 4.8}, 300, 6), ({4: 4.0, 5: 4.5, 6: 4.8}, 0, 6), ({4: 4.0, 5: 4.5, 6: 4.8}, 10, 5),
     ({4: 4.0, 5: 4.5, 6: 4.8}, 4, 4), ({4: 4.0, 5: 4.1, 6: 4.15}, 5, 6), ({2: 2.0, 3: 4.0}, 9, 2),
     ({4: 1.0}, 7, 4)],
)  # fmt: skip
def test_height_is_the_fastest_unless_another_saves(
    seconds: dict[int, float], rows: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heights, "chosen", lambda: Choice(seconds))
    assert heights.best_height(rows) == tuple(range(height))
    heights.best_height.cache_clear()


def test_a_process_can_ask_for_a_height(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(heights.VARIABLE, "default")
    assert heights.chosen() is DEFAULT
    forget()
    monkeypatch.setenv(heights.VARIABLE, str(CANDIDATES[-1]))
    monkeypatch.setattr(heights, "kept_at", lambda: None)
    assert heights.height_for(1) == tuple(range(CANDIDATES[-1]))
    for wrong in ("7", "-4", "four", "4x4"):
        monkeypatch.setenv(heights.VARIABLE, wrong)
        forget()
        with pytest.raises(ArgumentError, match=rf"^L0REF_TILE_ROWS='{wrong}' must be default or one of "):
            heights.chosen()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Every measurement, which is simulated; the choice is kept in a folder of its own."""
    calls: list[int] = []
    monkeypatch.delenv(heights.VARIABLE)
    monkeypatch.setattr(heights, "kept_at", lambda: tmp_path / "tiles.json")

    def measured(rounds: int) -> dict[int, float]:
        calls.append(rounds)
        return {CANDIDATES[0]: 1e-9, CANDIDATES[1]: 1.1e-9}

    monkeypatch.setattr(heights, "measured", measured)
    return calls


def test_one_process_measures_and_the_next_reads(counted: list[int], tmp_path: Path) -> None:
    first = heights.chosen()
    forget()
    assert (heights.chosen(), len(counted)) == (first, 1)
    assert first.by == "probe"
    assert [path.name for path in tmp_path.iterdir()] == ["tiles.json"]


def test_the_usual_height_holds_until_a_measurement_is_worth_it(
    counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = policy.work_so_far()
    policy.threads_for(7)
    assert policy.work_so_far() == before + 7
    monkeypatch.setattr(policy, "_work", heights.WORTH - 1)
    assert (heights.height_for(10), counted) == (tuple(range(ROWS)), [])
    policy.threads_for(1)
    assert heights.height_for(10) == tuple(range(CANDIDATES[1]))  # two tiles of 5 for three of 4
    assert counted == [heights.ROUNDS]
    monkeypatch.setattr(policy, "_work", 0)
    assert heights.height_for(10) == tuple(range(CANDIDATES[1]))  # known now, and kept
    forget()
    assert heights.height_for(10) == tuple(range(CANDIDATES[1]))
    assert counted == [heights.ROUNDS]


def swap(name: str, value: Any) -> Any:
    return lambda text: json.dumps({**json.loads(text), name: value})


@pytest.mark.parametrize(
    "damage",
    [lambda _: "", lambda text: text[: len(text) // 2], lambda _: "[]", lambda _: "7", lambda _: "{}",
     swap("version", "of another"), swap("seconds", {}), swap("seconds", {"99": 1.0}), swap("seconds", [1.0]),
     swap("seconds", {str(CANDIDATES[0]): 0.0}), swap("seconds", {str(CANDIDATES[0]): -1.0}),
     swap("seconds", {"four": 1.0}), swap("seconds", {str(CANDIDATES[0]): None})],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_measured_again(damage: Any, counted: list[int], tmp_path: Path) -> None:
    first, path = heights.chosen(), tmp_path / "tiles.json"
    path.write_text(damage(path.read_text()))
    forget()
    assert heights.chosen() == first
    assert len(counted) == 2
    forget()
    assert (heights.chosen(), len(counted)) == (first, 2)


def test_what_cannot_be_written_stops_nothing(counted: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heights, "kept_at", lambda: Path("/proc/no such folder/tiles.json"))
    assert heights.chosen().by == "probe"
    monkeypatch.setattr(heights, "kept_at", lambda: None)
    forget()
    assert heights.chosen() is DEFAULT
    assert len(counted) == 1


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
def test_a_folder_that_cannot_be_written_keeps_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    path = heights.kept_at()
    assert path is not None
    assert path.parent.is_dir()
    monkeypatch.setattr(heights.os, "access", lambda *_: False)
    assert heights.kept_at() is None


def test_every_candidate_is_timed() -> None:
    found = heights.measured(1 if numba.config.DISABLE_JIT else 3)
    assert list(found) == list(CANDIDATES)
    assert all(0 < one < math.inf for one in found.values())


def test_calibrate_measures_again_and_shows(counted: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--show"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("chosen by probe")
    assert heights.height_for(1) == tuple(range(CANDIDATES[0]))
    assert heights.calibrated() == Choice(heights.chosen().seconds, "calibrate")
    assert counted == [heights.ROUNDS, 10 * heights.ROUNDS]
    assert main(["calibrate", "--show"]) == 0
    out = capsys.readouterr().out
    assert out.rstrip().endswith("chosen by calibrate")
    assert f"{4 * CANDIDATES[0]:.3g}" in out


def test_what_is_fixed_stays(counted: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(heights.VARIABLE, "default")
    assert heights.calibrated() is DEFAULT
    assert counted == []
