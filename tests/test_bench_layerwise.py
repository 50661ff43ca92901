"""The suite of the layer-wise solver: its peers against other ways, its verdicts, a whole run on a tiny network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from l0ref import nn
from l0ref.bench.peers import installed
from l0ref.bench.suites import layerwise, suites
from l0ref.bench.suites.layerwise import Bench, beside_abess, exact_obs
from l0ref.bench.table import claims_text
from l0ref.bench.work import Claim, Plan, Suite
from l0ref.bench.worker import run_claims
from l0ref.data import load
from l0ref.layerwise import Quadratic
from l0ref.report.figures.bench import panels


def plan(*peers: str) -> Plan:
    return Plan(suites=("layerwise",), rounds=1, threads=1, peers=peers, quick=True)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """An untrained network of a few neurons, with small proofs."""
    monkeypatch.setattr(layerwise, "PROOFS", ((6, 2, 10.0),))
    monkeypatch.setattr(layerwise, "LAYER_PROOFS", (("fc3", 1, 3.0),))
    digits = load("digits", seed=0)
    bench = Bench(nn.mlp((64, 12, 10, 10), input_shape=(1, 8, 8), seed=0), digits.train.x[:150], digits.test, True, 1)
    monkeypatch.setattr(Bench, "make", lambda _: bench)
    return bench


def test_exact_obs_is_greedy_elimination_with_refits(rng: np.random.Generator) -> None:
    X = rng.standard_normal((60, 9)) @ (np.eye(9) + rng.standard_normal((9, 9)))
    Y = X @ rng.standard_normal((9, 3)) + rng.standard_normal((60, 3))
    layer = Quadratic.from_samples(X, Y)
    took, found = exact_obs(layer, [2, 9, 5])
    assert took >= 0
    for i in range(3):
        row, support = layer.row(i), np.ones(9, bool)
        while support.sum() > 2:
            if (k := int(support.sum())) in found:
                np.testing.assert_allclose(found[k][i], row.refit(support), rtol=1e-7)
            fewer = [support & (np.arange(9) != j) for j in np.flatnonzero(support)]
            support = min(fewer, key=lambda s: row.objective(row.refit(s)))
        np.testing.assert_allclose(found[2][i], row.refit(support), rtol=1e-7)


def test_verdicts() -> None:
    made = [Claim("a", 0.5, 0.5), Claim("b", 0.6, 0.5), Claim("c", 0.1, 5.0, "s", complete=False), Claim("d", 3.0)]
    assert [c.verdict for c in made] == ["reached", "missed", "missed", "-"]
    assert made[0].without_goal().verdict == "-"
    lines = claims_text(made).splitlines()
    assert lines[0].split() == ["claim", "measured", "goal", "verdict"]
    assert lines[3].split() == ["c", "0.1", "s,", "not", "finished", "<=", "5", "s", "missed"]


@pytest.mark.kernels
def test_every_row_of_a_tiny_network(tiny: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run_claims(suites()["layerwise"], plan())
    names = [row["work"] for row in rows]
    assert len(set(names)) == len(names) == 11 + 8 + 2 + 2
    assert {row["verdict"] for row in rows} <= {"reached", "missed"}
    by_name = {row["work"]: row["value"] for row in rows}
    q, k = tiny.layer("fc1").quadratic, tiny.layer("fc1").budget(0.9)
    assert k == 6
    squares = [np.square(q.relative_error(w)) for w in (tiny.layer("fc1").solved(k)[1], tiny.layer("fc1").magnitude(k))]
    assert by_name["fc1, 90 %: squared error / magnitude + least squares"] == pytest.approx(squares[0] / squares[1])
    assert squares[0] < squares[1]
    assert "layerwise: MNIST, 150 images" in capsys.readouterr().out
    assert panels(rows) == ({}, {})


def test_without_mnist_nothing_has_a_verdict(tiny: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = Bench(tiny.model, tiny.x, tiny.test, False, 1)
    monkeypatch.setattr(Bench, "make", lambda _: elsewhere)
    found = list(layerwise.claims(plan()))
    assert "the goals are for MNIST: no verdicts" in str(found[0])
    assert all(isinstance(c, Claim) and c.goal is None for c in found[1:])


def untrained(model: nn.Model, *_: Any, **__: Any) -> tuple[nn.Model, None]:
    return model, None


def test_digits_where_mnist_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("L0REF_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(layerwise, "fit", untrained)
    bench = Bench.make(Plan(("layerwise",), 1, 1, ()))
    assert not bench.has_goals
    assert bench.x.shape[1:] == (1, 8, 8)


@pytest.mark.crosscheck
@pytest.mark.skipif(not installed("abess"), reason="needs the extra `bench`")
def test_beside_abess(tiny: Bench) -> None:
    error, worse, took = beside_abess(tiny.layer("fc1"), 0.9)
    assert 0.5 < error.value < 1.05
    assert 0 <= worse.value <= 1
    assert took.value > 0


def test_a_suite_without_claims_has_no_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_claims(Suite("empty", "nothing"), plan()) == []
    assert capsys.readouterr().out == ""
