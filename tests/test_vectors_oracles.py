"""The generator of the vectors: its arithmetic, its minimiser against a plain search, and its bytes."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref import vectors
from tests.oracles_surrogates import PLAIN, least

mpmath = pytest.importorskip("mpmath", reason="the 50 digits come from mpmath, of the extra crosscheck")

from tests.oracles_surrogates_exact import FORMULA  # noqa: E402
from tests.oracles_vectors import number, sets_counts, sets_surrogates, writer  # noqa: E402
from tests.oracles_vectors.form import encoded, vector_set  # noqa: E402
from tests.oracles_vectors.formulas import FORMULAS  # noqa: E402
from tests.oracles_vectors.number import Num  # noqa: E402
from tests.oracles_vectors.surrogates import Exactly  # noqa: E402

pytestmark = pytest.mark.crosscheck
HOME = Path(vectors.__file__).parent / "v1"


@pytest.mark.slow
def test_generating_again_gives_the_same_bytes() -> None:
    made = dict(writer.files())
    assert set(made) == {path.name for path in HOME.iterdir()}
    for name, data in made.items():
        assert data == (HOME / name).read_bytes(), f"{name} is not what tests/oracles_vectors writes"


def test_nearest_rounds_once() -> None:
    for x in (0.1, 1e300, 5e-324, 2.2250738585072014e-308, -3.5, 0.0):
        assert number.nearest(number.mp.mpf(x)) == x
    half = number.mp.mpf(2) ** -1075  # half of the smallest subnormal: to even, which is 0
    assert number.nearest(half) == 0.0
    assert number.nearest(half * (1 + number.mp.mpf(2) ** -100)) == 5e-324
    assert number.nearest(1 + number.mp.mpf(2) ** -53) == 1.0
    assert number.nearest(1 + number.mp.mpf(2) ** -53 + number.mp.mpf(2) ** -120) == 1 + 2**-52
    assert number.fraction(number.mp.mpf(-0.75)) == Fraction(-3, 4)


def formula(a: Any, b: Any, c: Any, sqrt: Any, exp: Any, log: Any, total: Any) -> Any:
    """A bit of everything, with a cancellation in it."""
    near = a * a - b * b
    return [a * b - c, near * c, c / near, sqrt(a * a + b * b) - a, log(exp(a - c) + 1), total([a, b, -c, a * c])]


def test_size_bounds_what_float64_loses(rng: np.random.Generator) -> None:
    tight = 0.0
    for _ in range(300):
        a, b, c = (float(x) for x in rng.uniform(0.1, 3.0, 3))
        b = a * (1 + b * 1e-6)
        plain = formula(a, b, c, math.sqrt, math.exp, math.log, sum)
        exact = formula(Num(a), Num(b), Num(c), number.sqrt, number.exp, number.log, number.total)
        for got, true in zip(plain, exact, strict=True):
            loss = float(abs(number.mp.mpf(got) - true.value) * 2**53 / true.size)
            assert loss <= (2.0 if true is exact[-1] else 1.1)  # a sum of four takes three additions, and counts one
            tight = max(tight, loss)
    assert tight > 0.2  # a bound that is never nearly reached would hide faults


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_derivatives_are_those_of_the_value(name: str, rng: np.random.Generator) -> None:
    h = number.mp.mpf(10) ** -15
    for parameters in sets_surrogates.PARAMETERS[name]:
        phi = Exactly(name, parameters)
        for u in rng.uniform(0.01, 3.0, 10):
            x = number.mp.mpf(float(u))
            below, (_, slope, bend), above = phi.at(x - h), phi.at(x), phi.at(x + h)
            assert abs((above[0] - below[0]) / (2 * h) - slope) <= 1e-12 * max(1, abs(slope))
            assert abs((above[1] - below[1]) / (2 * h) - bend) <= 1e-12 * max(1, abs(bend))


@pytest.mark.parametrize("name", sorted(FORMULA))
def test_no_grid_finds_a_lower_point_than_the_prox_of_the_vectors(name: str) -> None:
    for case in vectors.load("surrogate_prox").cases:
        if case.inputs["surrogate"] == FORMULA[name]:
            z, t, p = np.abs(case.inputs["z"]), case.inputs["step"], case.inputs["parameters"]
            x = np.abs(case.expected[0].value)
            chosen = (z > 1e-9) & (z < 1e9)
            a, x = z[chosen], x[chosen]
            with np.errstate(all="ignore"):
                energy = (x - a) ** 2 / 2 + t * np.where(x > 0, PLAIN[name](np.maximum(x, 1e-300), **p), 0.0)
                assert (energy <= least(name, a, t, p) + 1e-13 * a * a).all(), case.id


def test_slips_of_the_pen_are_refused() -> None:
    head: dict[str, Any] = {"arguments": ["a"], "outputs": ["b"], "tolerance": 4}
    with pytest.raises(ValueError, match=r"^s has an id twice"):
        vector_set("s", "", cases=[("x", {"a": 1}, {"b": 1})] * 2, **head)
    with pytest.raises(ValueError, match=r"^s, x: \['c'\] -> \['b'\]$"):
        vector_set("s", "", cases=[("x", {"c": 1}, {"b": 1})], **head)
    for bad in (math.inf, math.nan, 5e-324, -1e-310):
        with pytest.raises(ValueError, match=r"^a vector holds finite numbers only"):
            encoded(bad)
    with pytest.raises(ValueError, match=r"^amount=0.3 of 5 is a matter of rounding"):
        sets_counts.to_drop(0.3, 5)
    assert sets_counts.to_drop(0.5, 5) == 3
