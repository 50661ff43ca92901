"""The explainer of the docs in a real browser: its numbers are those of the conformance vectors, its page works."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref import surrogates, vectors
from tests.browser import Watched, browser, watched

__all__ = ["browser"]

DOCS = Path(__file__).resolve().parent.parent / "docs"
STEPS = """([params, grads, masks, penalty, rule, proximal]) => {
  const after = {};
  for (const key of Object.keys(params)) {
    const factor = penalty?.factors[key];
    const price = factor === undefined ? null
      : { beta: penalty.parameters.beta, price: factor * penalty.alpha, l2: penalty.l2 };
    after[key] = params[key].map((start, i) => {
      if (masks?.[key] && !masks[key][i]) return 0;
      const memory = {};
      return grads[key].reduce((w, row) => l0refExplainer.step(w, row[i], memory, rule, price, proximal), start);
    });
  }
  return after;
}"""


class Adapter:
    """The functions of the page under the names of the vectors; it knows the Laplace surrogate only."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def each(self, name: str, surrogate: str, numbers: Any, *rest: float) -> list[float]:
        if surrogate != "laplace":
            raise NotImplementedError
        code = f"([numbers, rest]) => numbers.map((each) => l0refExplainer.{name}(each, ...rest))"
        return list(self.page.evaluate(code, [np.asarray(numbers).tolist(), list(rest)]))

    def surrogate_value(self, surrogate: str, parameters: dict[str, float], w: Any) -> Any:
        return self.each("value", surrogate, w, *parameters.values())

    def surrogate_gradient(self, surrogate: str, parameters: dict[str, float], w: Any) -> Any:
        return self.each("slope", surrogate, w, *parameters.values())

    def surrogate_prox(self, surrogate: str, parameters: dict[str, float], z: Any, step: float) -> Any:
        return self.each("prox", surrogate, z, step, *parameters.values())

    def surrogate_dead_zone(self, surrogate: str, parameters: dict[str, float], step: float) -> Any:
        return self.each("deadZone", surrogate, [step], *parameters.values())[0]

    def steps(self, params: Any, grads: Any, masks: Any, penalty: Any, proximal: bool, **rule: Any) -> Any:
        flat = {key: each.ravel().tolist() for key, each in params.items()}
        rows = {key: each.reshape(len(each), -1).tolist() for key, each in grads.items()}
        keep = {key: each.ravel().tolist() for key, each in masks.items()} if masks else None
        after = self.page.evaluate(STEPS, [flat, rows, keep, penalty, rule, proximal])
        return {"params": {key: np.reshape(after[key], each.shape) for key, each in params.items()}}

    def sgd_steps(self, **given: Any) -> Any:
        return self.steps(**given, proximal=False)

    def adam_steps(self, **given: Any) -> Any:
        return self.steps(**given, proximal=False)

    def proximal_sgd_steps(self, **given: Any) -> Any:
        return self.steps(**given, proximal=True)

    def proximal_adam_steps(self, **given: Any) -> Any:
        return self.steps(**given, proximal=True)


SETS = tuple(name for name in vars(Adapter) if name.startswith("surrogate_") or name.endswith("_steps"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The raw part of the page with its script, without Sphinx around it."""
    text = (DOCS / "explainer.md").read_text(encoding="utf-8")
    (raw,) = re.findall(r"^```\{raw\} html\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    script = (DOCS / "_static" / "explainer.js").read_text(encoding="utf-8")
    body, count = re.subn(r'<script src="_static/explainer.js"></script>', lambda _: f"<script>{script}</script>", raw)
    assert count == 1
    path = tmp_path_factory.mktemp("explainer") / "explainer.html"
    path.write_text(
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>x</title><body>{body}</body></html>', "utf-8"
    )
    return path


@pytest.fixture(scope="module")
def seen(browser: Any, file: Path) -> Watched:
    return watched(browser, file, width=360)


def test_numbers_are_those_of_the_conformance_vectors(seen: Watched) -> None:
    report = vectors.run(Adapter(seen.page), sets=SETS)
    assert [(each.name, each.failures) for each in report.results if each.failures] == []
    assert {each.name: each.passed for each in report.results} == {
        "surrogate_value": 3, "surrogate_gradient": 3, "surrogate_prox": 9, "surrogate_dead_zone": 9,
        "sgd_steps": 24, "adam_steps": 16, "proximal_sgd_steps": 8, "proximal_adam_steps": 8,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("right", "wrong", "name"),
    [
        ("-Math.expm1(-beta * Math.abs(w))", "1 - Math.exp(-beta * Math.abs(w))", "surrogate_value"),
        ("* beta * half * half", "* beta * half", "surrogate_gradient"),
        ("x / 2 + (t", "x + (t", "surrogate_prox"),
        ("Math.sqrt(2 * t);", "0.9 * Math.sqrt(2 * t);", "surrogate_dead_zone"),
        ("2 * penalty.l2 * w", "penalty.l2 * w", "sgd_steps"),
        ("/ (1 - rule.beta1 ** memory.t)", "/ (1 - rule.beta2 ** memory.t)", "adam_steps"),
        ("rule.lr / (1 - (rule.momentum ?? 0))", "rule.lr", "proximal_sgd_steps"),
    ],
)
def test_vectors_see_a_planted_mistake(
    seen: Watched, file: Path, tmp_path: Path, right: str, wrong: str, name: str
) -> None:
    text = file.read_text("utf-8")
    assert text.count(right) == 1
    path = tmp_path / "wrong.html"
    path.write_text(text.replace(right, wrong), "utf-8")
    page = seen.page.context.browser.new_page()
    page.goto(path.as_uri())
    assert vectors.run(Adapter(page), sets=[name]).results[0].failed
    page.close()


def test_page_is_silent_closed_and_fits_a_small_screen(seen: Watched) -> None:
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 360
    assert (seen.messages, seen.requests) == ([], [])
    assert seen.page.locator("polyline").count() == 1 + 2 + 3 + 3


def test_sliders_move_the_pictures_by_keyboard(seen: Watched) -> None:
    page = seen.page
    for name in ("l0-alpha", "l0-beta", "l0-lr"):
        before = {
            i: page.locator(f"#{i}").inner_html() for i in ("l0-phi", "l0-slope", "l0-prox", "l0-paths", "l0-cloud")
        }
        page.locator(f"#{name}").focus()
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("ArrowRight")
        moved = {i for i, html in before.items() if page.locator(f"#{i}").inner_html() != html}
        assert moved >= {"l0-prox", "l0-paths"}
        assert ("l0-phi" in moved) == (name == "l0-beta")
    text = page.locator("#l0-numbers").inner_text()
    alpha, beta, lr = (10.0 ** float(page.locator(f"#{i}").input_value()) for i in ("l0-alpha", "l0-beta", "l0-lr"))
    zone = float(re.search(r"up to \|z\| = (\S+) becomes", text)[1])  # type: ignore[index]
    assert math.isclose(zone, surrogates.Laplace(beta=beta).dead_zone(lr * alpha), rel_tol=5e-3)
    page.locator("#l0-rule").select_option("prox")
    assert re.search(r"Cut at \S+: \d+ of 400 weights go, \d+ of them needed", page.locator("#l0-cut").inner_text())


@pytest.mark.parametrize("name", ["SGD", "Adam", "prox"])
def test_claims_of_the_text_hold(seen: Watched, name: str) -> None:
    lr, alpha, beta = 0.01, 0.5, 5.0
    given = {"lr": lr, "alpha": alpha, "beta": beta, "start": 1, "target": 0, "steps": 4000}
    tail = np.abs(seen.page.evaluate("([n, g]) => l0refExplainer.path(n, g)", [name, given])[-50:])
    if name == "prox":
        assert np.all(tail == 0)
    else:
        assert 0 < tail.max() <= 1.5 * (lr * alpha * beta if name == "SGD" else lr)
    weights = seen.page.evaluate("n => l0refExplainer.cloud(n, {lr: 0.1, alpha: 0.1, beta: 5})", name)
    inside, gap, beyond = (
        seen.page.evaluate("([w, t]) => l0refExplainer.cut(w, t)", [weights, t]) for t in (1e-4, 0.1, 3)
    )
    assert inside["removed"] <= gap["removed"] <= beyond["removed"]
    assert beyond["after"] > 2 * beyond["before"]
    assert gap["after"] < beyond["after"]
