"""SGD, momentum, Nesterov, Adam and AdamW step for step against torch.optim in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from l0ref.optim import SGD, Adam, AdamW

torch = pytest.importorskip("torch", reason="needs the extra `crosscheck`")
pytestmark = pytest.mark.crosscheck

PAIRS: dict[str, tuple[Any, Any, dict[str, str]]] = {  # ours, theirs, {our slot: their slot}
    "sgd": (SGD(lr=0.05), lambda p: torch.optim.SGD(p, lr=0.05), {}),
    "momentum": (
        SGD(lr=0.05, momentum=0.9),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
        {"v": "momentum_buffer"},
    ),
    "nesterov": (
        SGD(lr=0.05, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
        {"v": "momentum_buffer"},
    ),
    "adam": (Adam(), lambda p: torch.optim.Adam(p), {"m": "exp_avg", "v": "exp_avg_sq"}),
    "adam, other settings": (
        Adam(lr=0.02, betas=(0.5, 0.9), eps=1e-3),
        lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.5, 0.9), eps=1e-3),
        {"m": "exp_avg", "v": "exp_avg_sq"},
    ),
    "adamw": (AdamW(), lambda p: torch.optim.AdamW(p), {"m": "exp_avg", "v": "exp_avg_sq"}),
    "adamw, strong decay": (
        AdamW(lr=0.02, weight_decay=0.7),
        lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.7),
        {"m": "exp_avg", "v": "exp_avg_sq"},
    ),
}
SHAPES: dict[str, tuple[int, ...]] = {"conv1.weight": (2, 1, 3, 2), "fc1.weight": (4, 3), "fc1.bias": (4,), "scale": ()}


def assert_close(got: Any, expected: Any) -> None:
    """Agreement to 1e-12 of the largest entry."""
    expected = expected.detach().numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("steps", [1, 10, 50])
@pytest.mark.parametrize("name", list(PAIRS))
def test_steps_are_pytorchs(name: str, steps: int, rng: np.random.Generator) -> None:
    ours, theirs, slots = PAIRS[name]
    params = {k: np.asarray(rng.normal(size=s)) for k, s in SHAPES.items()}
    tensors = {k: torch.tensor(w, dtype=torch.float64, requires_grad=True) for k, w in params.items()}
    torch_optimizer = theirs(list(tensors.values()))
    state = ours.init(params)
    for t in range(steps):
        grads = {k: np.asarray(rng.normal(size=s) * 10.0 ** rng.integers(-4, 2)) for k, s in SHAPES.items()}
        lr = ours.lr * (1.0 if t % 3 else 0.3)  # a schedule
        params, state = ours.step(params, grads, state, lr=lr)
        torch_optimizer.param_groups[0]["lr"] = lr
        for k, tensor in tensors.items():
            tensor.grad = torch.tensor(grads[k], dtype=torch.float64)
        torch_optimizer.step()
    for k, tensor in tensors.items():
        assert_close(params[k], tensor)
        for mine, other in slots.items():
            assert_close(state.slots[mine][k], torch_optimizer.state[tensor][other])
