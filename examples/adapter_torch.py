"""PyTorch, held against the conformance vectors; an example of an adapter. Needs torch.

    cd examples && l0ref vectors run --adapter adapter_torch

Layers, losses and optimisers are PyTorch's own; the penalty is written the way people write it, as a sum that
autograd differentiates, and the masks by sorting.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional

Tensors = dict[str, torch.Tensor]


class Laplace(torch.autograd.Function):
    """1 - exp(-beta |w|), slope 0 at 0.

    Written with one PyTorch function it loses digits either way: 1 - torch.exp(...) in the value of small weights,
    -torch.expm1(...) in the gradient of large ones, which autograd takes as expm1(x) + 1. Run the vectors on either.
    """

    @staticmethod
    def forward(ctx: Any, w: torch.Tensor, beta: float) -> torch.Tensor:
        """The value, by expm1."""
        ctx.save_for_backward(w)
        ctx.beta = beta
        return -torch.expm1(-beta * w.abs())

    @staticmethod
    def backward(ctx: Any, bar: torch.Tensor) -> tuple[torch.Tensor, None]:
        """The gradient, by exp."""
        (w,) = ctx.saved_tensors
        return bar * ctx.beta * torch.exp(-ctx.beta * w.abs()) * w.sign(), None


def laplace(w: torch.Tensor, beta: float) -> torch.Tensor:
    """1 - exp(-beta |w|)."""
    return Laplace.apply(w, beta)


def known(surrogate: str) -> None:
    """Raise NotImplementedError, which says "not provided", for a surrogate that is not written here."""
    if surrogate != "laplace":
        raise NotImplementedError(f"surrogate={surrogate!r} is not written here")


def backward(y: torch.Tensor, bar: Any, inputs: dict[str, torch.Tensor | None]) -> dict[str, Any]:
    """The output and its gradients under the names of the vectors."""
    given = {key: x for key, x in inputs.items() if x is not None}
    grads = torch.autograd.grad(y, list(given.values()), torch.from_numpy(bar))
    return {"output": y.detach(), **{f"grad_{key}": g for key, g in zip(given, grads, strict=True)}}


def leaf(array: Any) -> torch.Tensor | None:
    """A tensor to differentiate with respect to."""
    return None if array is None else torch.from_numpy(array).requires_grad_()


def pull(params: Tensors, penalty: Any) -> torch.Tensor:
    """sum_l C_l alpha sum phi(w) + l2 sum w^2."""
    known(penalty["surrogate"])
    beta = penalty["parameters"]["beta"]
    terms = [
        c * penalty["alpha"] * laplace(params[key], beta).sum() + penalty["l2"] * params[key].square().sum()
        for key, c in penalty["factors"].items()
    ]
    return torch.stack(terms).sum()


def mask_all(tensors: Tensors, masks: Any) -> None:
    """Set to 0 what the masks remove."""
    with torch.no_grad():
        for key, mask in (masks or {}).items():
            tensors[key].mul_(torch.from_numpy(mask))


def train(optimizer: torch.optim.Optimizer, params: Tensors, masks: Any, penalty: Any, data_gradients: Any) -> Any:
    """One step for each entry of data_gradients, a list of functions that return a gradient for each tensor."""
    mask_all(params, masks)
    for gradients in data_gradients:
        for key, g in gradients().items():
            params[key].grad = g
        if penalty is not None:
            pull(params, penalty).backward()
        mask_all({key: p.grad for key, p in params.items()}, masks)
        optimizer.step()
        mask_all(params, masks)
    return {key: p.detach() for key, p in params.items()}


def given(grads: Any) -> list[Any]:
    """The rows of the given gradients, as functions."""
    steps = len(next(iter(grads.values())))
    return [lambda t=t: {key: torch.from_numpy(g[t].copy()) for key, g in grads.items()} for t in range(steps)]


class Adapter:
    """PyTorch under the names the vectors ask for."""

    def surrogate_value(self, surrogate: str, parameters: dict[str, float], w: Any) -> torch.Tensor:
        """phi(|w|)."""
        known(surrogate)
        return laplace(torch.from_numpy(w), **parameters)

    def surrogate_gradient(self, surrogate: str, parameters: dict[str, float], w: Any) -> torch.Tensor:
        """phi'(w) by autograd."""
        known(surrogate)
        x = torch.from_numpy(w).requires_grad_()
        return torch.autograd.grad(laplace(x, **parameters).sum(), x)[0]

    def penalty(
        self, params: Any, kinds: Any, surrogate: str, parameters: Any, alpha: float, l2: float,
        layer_weights: str, groups: str,
    ) -> dict[str, Any]:  # fmt: skip
        """The penalty of a network, layer weights joint and by the square root of the size."""
        if (layer_weights, groups) != ("sqrt_size", "joint"):
            raise NotImplementedError(f"layer_weights={layer_weights!r}, groups={groups!r} is not written here")
        sizes = {key: params[key].size for key in kinds}
        factors = {key: math.sqrt(n / max(sizes.values())) for key, n in sizes.items()}
        options = {"surrogate": surrogate, "parameters": parameters, "alpha": alpha, "l2": l2}
        weights = {key: torch.from_numpy(params[key]).requires_grad_() for key in kinds}
        total = pull(weights, options | {"factors": factors})
        gradient = dict(zip(weights, torch.autograd.grad(total, list(weights.values())), strict=True))
        return {"factors": factors, "total": total.detach(), "gradient": gradient}

    def linear(self, input: Any, weight: Any, bias: Any, grad_output: Any) -> dict[str, Any]:
        """torch.nn.functional.linear."""
        x, w, b = map(leaf, (input, weight, bias))
        return backward(functional.linear(x, w, b), grad_output, {"input": x, "weight": w, "bias": b})

    def conv2d(self, input: Any, weight: Any, bias: Any, grad_output: Any, **options: Any) -> dict[str, Any]:
        """torch.nn.functional.conv2d."""
        x, w, b = map(leaf, (input, weight, bias))
        return backward(functional.conv2d(x, w, b, **options), grad_output, {"input": x, "weight": w, "bias": b})

    def max_pool2d(self, input: Any, grad_output: Any, **options: Any) -> dict[str, Any]:
        """torch.nn.functional.max_pool2d."""
        x = leaf(input)
        return backward(functional.max_pool2d(x, **options), grad_output, {"input": x})

    def avg_pool2d(self, input: Any, grad_output: Any, **options: Any) -> dict[str, Any]:
        """torch.nn.functional.avg_pool2d."""
        x = leaf(input)
        return backward(functional.avg_pool2d(x, **options), grad_output, {"input": x})

    def batch_norm(
        self, input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, grad_output: Any,
        training: bool, momentum: float, eps: float,
    ) -> dict[str, Any]:  # fmt: skip
        """torch.nn.functional.batch_norm, which writes into the running statistics."""
        x, w, b = map(leaf, (input, weight, bias))
        mean, var = torch.from_numpy(running_mean), torch.from_numpy(running_var)
        y = functional.batch_norm(x, mean, var, w, b, training, momentum, eps)
        found = backward(y, grad_output, {"input": x, "weight": w, "bias": b})
        return found | {"running_mean": mean, "running_var": var}

    def cross_entropy(self, input: Any, target: Any, label_smoothing: float) -> dict[str, Any]:
        """torch.nn.functional.cross_entropy."""
        x = leaf(input)
        loss = functional.cross_entropy(x, torch.from_numpy(target), label_smoothing=label_smoothing)
        return {"loss": loss.detach(), "grad_input": torch.autograd.grad(loss, x)[0]}

    def sgd_steps(self, params: Any, grads: Any, masks: Any, penalty: Any, **options: Any) -> dict[str, Any]:
        """torch.optim.SGD."""
        tensors = {key: torch.from_numpy(w).requires_grad_() for key, w in params.items()}
        optimizer = torch.optim.SGD(list(tensors.values()), **options)
        return {"params": train(optimizer, tensors, masks, penalty, given(grads))}

    def adam_steps(
        self, params: Any, grads: Any, masks: Any, penalty: Any, lr: float, beta1: float, beta2: float, eps: float
    ) -> dict[str, Any]:
        """torch.optim.Adam."""
        tensors = {key: torch.from_numpy(w).requires_grad_() for key, w in params.items()}
        optimizer = torch.optim.Adam(list(tensors.values()), lr=lr, betas=(beta1, beta2), eps=eps)
        return {"params": train(optimizer, tensors, masks, penalty, given(grads))}

    def finetune_steps(
        self, params: Any, masks: Any, x: Any, y: Any, steps: int, penalty: Any, lr: float, momentum: float
    ) -> dict[str, Any]:
        """A network of two layers, its whole batch at every step."""
        tensors = {key: torch.from_numpy(w).requires_grad_() for key, w in params.items()}
        optimizer = torch.optim.SGD(list(tensors.values()), lr=lr, momentum=momentum)
        losses: list[float] = []

        def gradients() -> Tensors:
            h = functional.relu(functional.linear(torch.from_numpy(x), tensors["fc1.weight"], tensors["fc1.bias"]))
            loss = functional.cross_entropy(
                functional.linear(h, tensors["fc2.weight"], tensors["fc2.bias"]), torch.from_numpy(y)
            )
            losses.append(loss.item())
            return dict(zip(tensors, torch.autograd.grad(loss, list(tensors.values())), strict=True))

        after = train(optimizer, tensors, masks, penalty, [gradients] * steps)
        return {"params": after, "losses": losses}

    def keep_mask(self, scores: Any, amount: float, scope: str) -> dict[str, Any]:
        """Masks by a stable sort, which torch.topk is not."""
        keep = {key: torch.ones(s.size, dtype=torch.bool) for key, s in scores.items()}
        for keys in [list(scores)] if scope == "global" else [[key] for key in scores]:
            flat = torch.cat([torch.from_numpy(scores[key]).flatten() for key in keys])
            drop = amount if isinstance(amount, int) else math.floor(amount * flat.numel() + 0.5)
            stays = torch.ones(flat.numel(), dtype=torch.bool)
            stays[torch.argsort(flat, stable=True)[:drop]] = False
            keep.update(zip(keys, stays.split([scores[key].size for key in keys]), strict=True))
        return {key: keep[key].reshape(s.shape) for key, s in scores.items()}

    def csr(self, dense: Any) -> dict[str, Any]:
        """Compressed sparse rows of the non-zero entries."""
        w = torch.from_numpy(dense)
        rows, columns = w.nonzero(as_tuple=True)
        counts = torch.bincount(rows, minlength=len(w))
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
        return {"data": w[rows, columns], "indices": columns, "indptr": starts}

    def csr_product(self, data: Any, indices: Any, indptr: Any, shape: list[int], input: Any) -> Any:
        """PyTorch's sparse product, of coordinates: its compressed rows warn that they are in beta."""
        counts, columns = torch.from_numpy(indptr).diff(), torch.from_numpy(indices)
        rows = torch.arange(shape[0]).repeat_interleave(counts)
        places = torch.stack([rows, columns])
        w = torch.sparse_coo_tensor(places, torch.from_numpy(data), shape, check_invariants=True)
        return torch.sparse.mm(w, torch.from_numpy(input))
