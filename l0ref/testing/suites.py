"""The library's own gradients in one go: every operation, every surrogate, a whole network."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from l0ref.autodiff.op import OPS
from l0ref.autodiff.tensor import Tensor, apply, grad
from l0ref.errors import ArgumentError
from l0ref.nn.zoo import MODELS
from l0ref.penalty import Penalty
from l0ref.testing.callables import check_gradient
from l0ref.testing.functions import gradcheck
from l0ref.testing.networks import check_model
from l0ref.testing.prox_checks import ProxReport
from l0ref.testing.proximal import check_prox
from l0ref.testing.samples import KINKS, SAMPLES, SURROGATE_SAMPLES, AtKink, surrogate_points
from l0ref.testing.verdict import GradcheckReport
from l0ref.validate import choose

Report = GradcheckReport | ProxReport


def check_ops(*, seed: int = 0, fast_mode: bool = False, max_entries: int | None = None) -> list[Report]:
    """Check every registered operation at its sample, and on its kinks against the documented values."""
    rng = np.random.default_rng(seed)
    reports: list[Report] = []
    for name, sample in SAMPLES.items():
        reports.append(
            gradcheck(
                _named(name, sample.options),
                sample.make(rng),
                fast_mode=fast_mode,
                seed=seed,
                max_entries=max_entries,
                raise_exception=False,
            )
        )
    return [*reports, *(check_kink(kink, seed=seed) for kink in KINKS)]


def check_kink(kink: AtKink, *, func: Any = None, seed: int = 0, fast_mode: bool = False) -> GradcheckReport:
    """Check an operation exactly on a kink: slopes on both sides, and the documented value.

    func  another implementation of the operation, a function of Tensors; None: the registered one
    """
    xs = [np.asarray(x, dtype=np.float64) for x in kink.inputs]
    func = _titled(func or _named(kink.op, kink.options), f"{kink.op} at a kink")
    report = gradcheck(func, xs, seed=seed, fast_mode=fast_mode, raise_exception=False)
    tensors = [Tensor(x) for x in xs]
    y = func(*tensors)
    found = grad(y, tensors, y_bar=np.ones(y.shape))
    problems = [
        f"{name}: the value at the kink is {g.tolist()}, documented is {np.asarray(want).tolist()}"
        for name, g, want in zip((p.name for p in report.parameters), found, kink.expected, strict=True)
        if not np.allclose(g, want, rtol=1e-15, atol=0)
    ]
    if not report.at_kinks:
        problems.append("no kink was found where one is documented")
    return _with_problems(report, problems)


def check_surrogates(*, seed: int = 0, fast_mode: bool = False) -> list[Report]:
    """Check the gradient and the prox of every surrogate, its kink at 0 and its corners included."""
    rng = np.random.default_rng(seed)
    reports: list[Report] = []
    for name, (phi, corners) in SURROGATE_SAMPLES.items():
        fields = {k: v for k, v in vars(phi).items() if isinstance(v, float)}
        report = check_gradient(
            _titled(phi.value, name),
            phi.grad,
            surrogate_points(name, rng),
            elementwise=True,
            scales=fields,
            seed=seed,
            fast_mode=fast_mode,
            raise_exception=False,
        )
        expected = 2 * len(corners) + (phi.slope_at_zero > 0)
        missed = (
            [f"{report.at_kinks} kinks were found, {expected} are documented"] if report.at_kinks != expected else []
        )
        reports.append(_with_problems(report, missed))
        reports.append(
            check_prox(
                phi.value, phi.prox, dead_zone=phi.dead_zone, seed=seed, target=f"{name}.prox", raise_exception=False
            )
        )
    return reports


def check_named_model(
    name: str, *, seed: int = 0, fast_mode: bool = False, max_entries: int | None = None
) -> GradcheckReport:
    """Check a network of the zoo with random inputs, a Laplace and an l2 penalty, and a third of its weights masked."""
    model = MODELS[choose("name", name, MODELS)](seed=seed, dtype=np.float64)
    rng = np.random.default_rng(seed)
    model = model.replace(masks={k: rng.random(model.params[k].shape) < 2 / 3 for k in model.weights})
    x, y = rng.normal(size=(3, *model.input_shape)), rng.integers(model.classes, size=3)
    return check_model(
        model,
        x,
        y,
        penalty=Penalty(alpha=1e-3, l2=1e-4),
        fast_mode=fast_mode,
        seed=seed,
        max_entries=max_entries if max_entries is not None else 5,
        raise_exception=False,
    )


def _named(name: str, options: Any) -> Any:
    """The operation as a function of Tensors, under its own name."""
    if name not in OPS:
        raise ArgumentError(f"name={name!r} is not a registered operation; import l0ref.ops first")

    def func(*xs: Tensor) -> Tensor:
        return apply(OPS[name], *xs, **options)

    return _titled(func, name)


def _titled(f: Any, name: str) -> Any:
    def run(*xs: Any) -> Any:
        return f(*xs)

    run.__name__ = name
    return run


def _with_problems(report: GradcheckReport, problems: list[str]) -> GradcheckReport:
    return dataclasses.replace(report, problems=(*report.problems, *problems))
