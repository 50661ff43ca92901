"""`check_prox`: accepts every surrogate's prox over several steps, rejects wrong ones, each for its reason."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from l0ref.archive import json_bytes
from l0ref.errors import ArgumentError, GradientError, ShapeError
from l0ref.surrogates import L1, L2, MCP, SURROGATES, Gaussian, Laplace
from l0ref.testing import GradcheckFailure, ProxReport, check_prox
from l0ref.testing.samples import SURROGATE_SAMPLES
from l0ref.validate import Array

CONVEX = {"L1", "L2"}


def soft(z: Array, t: float) -> Array:
    return np.sign(z) * np.maximum(np.abs(z) - t, 0)


def hard(z: Array, t: float) -> Array:
    return np.where(np.abs(z) > np.sqrt(2 * t), z, 0.0)


def result(report: ProxReport) -> dict[str, bool | None]:
    return {check.name: check.held for check in report.checks}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", sorted(SURROGATE_SAMPLES))
def test_every_surrogate_passes(name: str, seed: int) -> None:
    assert name in SURROGATES
    phi, _ = SURROGATE_SAMPLES[name]
    report = check_prox(phi.value, phi.prox, dead_zone=phi.dead_zone, seed=seed)
    assert report.convex == (name in CONVEX)
    held = result(report)
    assert held["firmly non-expansive"] is (True if name in CONVEX else None)
    assert all(held[k] for k in ("global minimiser", "dead zone", "claimed dead zone", "odd", "monotone"))
    for t, zone in report.dead_zones.items():
        assert zone == pytest.approx(phi.dead_zone(t), rel=1e-9)


# name, value, prox, what must be broken
WRONG: list[tuple[str, Any, Any, str]] = [
    ("threshold too small", np.abs, lambda z, t: soft(z, 0.99 * t), "global minimiser"),
    ("threshold too large", np.abs, lambda z, t: soft(z, 1.0001 * t), "global minimiser"),
    ("not shrunk", np.abs, lambda z, t: np.where(np.abs(z) > t, z, 0.0), "firmly non-expansive"),
    ("identity", np.abs, lambda z, _: z, "dead zone"),
    ("always zero", np.abs, lambda z, _: 0 * z, "dead zone"),
    ("soft for hard", lambda w: (w != 0) * 1.0, soft, "global minimiser"),
    ("hard at sqrt(step)", lambda w: (w != 0) * 1.0, lambda z, t: hard(z, t / 2), "dead zone"),
    ("sign lost", np.abs, lambda z, t: np.abs(soft(z, t)), "odd"),
    ("one side", np.abs, lambda z, t: np.where(z > 0, soft(z, t), 0.0), "odd"),
    ("not a number", np.abs, lambda z, t: soft(z, t) + np.where(z > 1, np.nan, 0), "global minimiser"),
    ("local minimum", Laplace(5.0).value, lambda z, t: local(z, t), "global minimiser"),
    ("falls", Laplace(5.0).value, lambda z, t: np.where(np.abs(z) > 2, 0.5 * z, Laplace(5.0).prox(z, t)), "monotone"),
    ("l2 with 1/2", np.square, lambda z, t: z / (1 + t), "global minimiser"),
    ("mirrored", np.square, lambda z, t: -z / (1 + 2 * t), "firmly non-expansive"),
    ("relaxed", np.square, lambda z, t: z / (1 + 2 * t) * (1 + 1e-5), "global minimiser"),
]  # fmt: skip


def local(z: Array, t: float) -> Array:
    """The inner minimum of the Laplace surrogate wherever there is one, compared with 0 or not."""
    x = np.abs(z)
    for _ in range(200):
        x = np.maximum(np.abs(z) - t * 5.0 * np.exp(-5.0 * x), 0.0)
    return np.sign(z) * x


@pytest.mark.parametrize(("value", "prox", "broken"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_wrong_prox_is_rejected(value: Any, prox: Any, broken: str) -> None:
    report = check_prox(value, prox, raise_exception=False)
    assert result(report)[broken] is False
    assert f"{broken}: BROKEN: " in report.text()
    assert report.text().splitlines()[0].endswith("the prox is WRONG")
    with pytest.raises(GradcheckFailure, match=r"^check_prox of .*: the prox is WRONG") as caught:
        check_prox(value, prox, target="p")
    assert caught.value.report.target == "p"


def test_better_point_is_shown() -> None:
    report = check_prox(np.abs, lambda z, t: soft(z, 2 * t), steps=[0.5], z=[3.0], raise_exception=False)
    (check,) = [c for c in report.checks if c.name == "global minimiser"]
    assert check.detail.startswith("prox(3, 0.5) = 2 with q = 1.5, but x = 2.5")
    assert check.detail.endswith("has q = 1.375")


def test_dead_zone_is_measured_and_claims_are_compared() -> None:
    report = check_prox(np.abs, soft, steps=[0.25, 2.0])
    assert report.dead_zones == pytest.approx({0.25: 0.25, 2.0: 2.0}, rel=1e-12)
    with pytest.raises(GradcheckFailure, match=r"claimed dead zone: BROKEN: step 0.25: dead_zone says 0.5"):
        check_prox(np.abs, soft, steps=[0.25], dead_zone=lambda t: 2 * t)
    assert check_prox(L2().value, L2().prox).dead_zones == {0.01: 0.0, 0.3: 0.0, 3.0: 0.0}
    assert check_prox(Gaussian(sigma=0.5).value, Gaussian(sigma=0.5).prox, dead_zone=lambda _: 0.0)


def test_dead_zone_beyond_the_points_is_measured() -> None:
    report = check_prox(lambda w: 100 * np.abs(w), lambda z, t: soft(z, 100 * t), dead_zone=lambda t: 100 * t)
    assert report.dead_zones[3.0] == pytest.approx(300, rel=1e-12)
    l0 = check_prox(lambda w: (w != 0) * 1.0, hard, steps=[1e6], dead_zone=lambda t: np.sqrt(2 * t))
    assert l0.dead_zones[1e6] == pytest.approx(np.sqrt(2e6), rel=1e-12)
    far = check_prox(lambda w: 100 * np.abs(w), lambda z, t: soft(z, 101 * t), raise_exception=False)
    assert result(far)["dead zone"] is False


def test_value_that_is_not_even_has_no_odd_prox() -> None:
    def value(w: Array) -> Array:
        return np.maximum(w, 0.0)

    def prox(z: Array, t: float) -> Array:
        return np.where(z > t, z - t, np.minimum(z, 0.0))

    report = check_prox(value, prox, raise_exception=False)
    held = result(report)
    assert held["odd"] is None
    assert held["global minimiser"]
    assert report.convex


def test_steps_where_a_non_convex_prox_jumps_are_not_called_expansive() -> None:
    phi = MCP(lam=0.5, gamma=1.5)
    report = check_prox(phi.value, phi.prox, steps=[1.4, 5.0])
    assert result(report)["firmly non-expansive"] is None
    assert "phi is not convex on" in report.text()


def test_report_as_json() -> None:
    read = json.loads(json_bytes(check_prox(np.abs, soft).to_json()))
    assert read["passed"] is True
    assert read["convex"] is True
    assert set(read["dead_zones"]) == {"0.01", "0.3", "3"}
    assert {c["name"] for c in read["checks"]} >= {"global minimiser", "monotone"}
    json_bytes(check_prox(np.abs, lambda z, _: 0 * z, raise_exception=False).to_json())


def boom(_: Array, __: float) -> Array:
    raise RuntimeError("diverged")


@pytest.mark.parametrize(
    ("value", "prox", "options", "error", "said"),
    [
        (np.abs, boom, {}, GradientError, r"^prox raised RuntimeError: diverged"),
        (np.abs, lambda z, _: list(z), {}, GradientError, r"^prox returned a list, expected an array"),
        (np.abs, lambda z, _: z[:1], {}, ShapeError, r"^prox returned shape \(1,\) for shape"),
        (np.abs, lambda z, _: z * 1j, {}, GradientError, r"^prox returned complex128, expected real numbers"),
        (np.abs, lambda z, _: np.multiply(z, 0.5, out=z), {}, GradientError, r"^prox writes into its input"),
        (lambda w: float(np.abs(w).sum()), soft, {}, ShapeError, r"^value returned shape \(\) for shape"),
        (np.abs, soft, {"steps": []}, ArgumentError, r"^steps is empty"),
        (np.abs, soft, {"steps": [0.0]}, ArgumentError, r"^steps=0.0 must be greater than 0"),
        (np.abs, soft, {"z": [np.inf]}, ArgumentError, r"^z must hold finite entries"),
    ],
)
def test_bad_prox_gets_one_sentence(value: Any, prox: Any, options: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        check_prox(value, prox, **options)


def test_scalar_of_the_library_is_convex() -> None:
    report = check_prox(L1().value, L1().prox)
    assert report.checks[-1].detail == "phi is convex on the grid, and all pairs satisfy it"
