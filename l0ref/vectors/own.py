"""The adapter of l0ref itself, which the tests check against the vectors; an example of a complete adapter.

l0ref vectors run --adapter l0ref.vectors.own
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from l0ref import masks, metrics, nn, ops, sparse, surrogates
from l0ref.autodiff.tensor import Tensor, grad
from l0ref.data import Dataset
from l0ref.masks import masked
from l0ref.nn.loss import loss_and_gradient
from l0ref.optim import SGD, Adam, Optimizer, Proximal
from l0ref.penalty import Penalty, layer_factors
from l0ref.validate import Array

Arrays = dict[str, Array]
LAYERS: dict[str, type[nn.Layer]] = {
    "conv2d": nn.Conv2d,
    "flatten": nn.Flatten,
    "linear": nn.Linear,
    "max_pool2d": nn.MaxPool2d,
    "relu": nn.ReLU,
}


class Adapter:
    """Every function of the vectors, by means of the public functions of l0ref."""

    # --- surrogates and penalty ---------------------------------------------------------------------------------------

    def surrogate_value(self, surrogate: str, parameters: dict[str, float], w: Array) -> Array:
        """phi(|w|)."""
        return surrogates.by_name(surrogate, **parameters).value(w)

    def surrogate_gradient(self, surrogate: str, parameters: dict[str, float], w: Array) -> Array:
        """phi'(w)."""
        return surrogates.by_name(surrogate, **parameters).grad(w)

    def surrogate_prox(self, surrogate: str, parameters: dict[str, float], z: Array, step: float) -> Array:
        """argmin_x 1/2 (x - z)^2 + step phi(x)."""
        return surrogates.by_name(surrogate, **parameters).prox(z, step)

    def surrogate_dead_zone(self, surrogate: str, parameters: dict[str, float], step: float) -> float:
        """Largest |z| whose prox is 0."""
        return surrogates.by_name(surrogate, **parameters).dead_zone(step)

    def penalty(
        self, params: Arrays, kinds: dict[str, str], surrogate: str, parameters: dict[str, float], **options: Any
    ) -> dict[str, Any]:
        """Layer weights, terms, total and gradient of a penalty."""
        penalty = Penalty(surrogates.by_name(surrogate, **parameters), **options)
        sizes = {key: params[key].size for key in kinds}
        factors = layer_factors(sizes, kinds, layer_weights=penalty.layer_weights, groups=penalty.groups)
        terms = penalty.terms(params, factors)
        gradient = penalty.gradient(params, factors)
        return {"factors": factors, "l0": terms.l0, "l2": terms.l2, "total": terms.total, "gradient": gradient}

    # --- layers -------------------------------------------------------------------------------------------------------

    def linear(self, input: Array, weight: Array, bias: Array, grad_output: Array) -> dict[str, Array]:
        """Fully connected layer."""
        return _with_gradients(ops.linear, {"input": input, "weight": weight, "bias": bias}, grad_output)

    def conv2d(self, input: Array, weight: Array, bias: Array, grad_output: Array, **options: Any) -> dict[str, Array]:
        """Convolution."""
        inputs = {"input": input, "weight": weight, "bias": bias}
        return _with_gradients(lambda *x: ops.conv2d(*x, **options), inputs, grad_output)

    def max_pool2d(self, input: Array, grad_output: Array, **options: Any) -> dict[str, Array]:
        """Largest of each window."""
        return _with_gradients(lambda x: ops.max_pool2d(x, **options), {"input": input}, grad_output)

    def avg_pool2d(self, input: Array, grad_output: Array, **options: Any) -> dict[str, Array]:
        """Mean of each window."""
        return _with_gradients(lambda x: ops.avg_pool2d(x, **options), {"input": input}, grad_output)

    def batch_norm(
        self, input: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, grad_output: Array,
        **options: Any,
    ) -> dict[str, Array]:  # fmt: skip
        """Batch normalisation, with the running statistics after it."""
        after: Arrays = {}

        def apply(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
            y, after["running_mean"], after["running_var"] = ops.batch_norm(
                x, running_mean, running_var, w, b, **options
            )
            return y

        return _with_gradients(apply, {"input": input, "weight": weight, "bias": bias}, grad_output) | after

    def cross_entropy(self, input: Array, target: Array, label_smoothing: float) -> dict[str, Array]:
        """Mean cross entropy."""
        x = Tensor(input)
        loss = ops.cross_entropy(x, target, label_smoothing=label_smoothing)
        return {"loss": loss.data, "grad_input": grad(loss, [x])[0]}

    # --- steps --------------------------------------------------------------------------------------------------------

    def sgd_steps(self, lr: float, momentum: float, nesterov: bool, **steps: Any) -> Arrays:
        """SGD with the penalty in the gradient."""
        return _given_gradients(SGD(lr=lr, momentum=momentum, nesterov=nesterov), **steps)

    def adam_steps(self, lr: float, beta1: float, beta2: float, eps: float, **steps: Any) -> Arrays:
        """Adam with the penalty in the gradient."""
        return _given_gradients(Adam(lr=lr, betas=(beta1, beta2), eps=eps), **steps)

    def proximal_sgd_steps(self, lr: float, momentum: float, **steps: Any) -> Arrays:
        """SGD, then the prox of the l0 term."""
        return _given_gradients(Proximal(SGD(lr=lr, momentum=momentum)), **steps)

    def proximal_adam_steps(self, lr: float, beta1: float, beta2: float, eps: float, **steps: Any) -> Arrays:
        """Adam, then the prox of the l0 term."""
        return _given_gradients(Proximal(Adam(lr=lr, betas=(beta1, beta2), eps=eps)), **steps)

    def finetune_steps(
        self, params: Arrays, x: Array, y: Array, steps: int, lr: float, momentum: float, **options: Any
    ) -> dict[str, Any]:
        """Steps of a masked network on one batch."""
        (hidden, inputs), classes = params["fc1.weight"].shape, len(params["fc2.weight"])
        network = nn.Linear("fc1", inputs, hidden), nn.ReLU("relu"), nn.Linear("fc2", hidden, classes)
        losses: list[float] = []

        def gradients(now: Arrays, _: int) -> Arrays:
            found = loss_and_gradient(network, now, {}, x, y)
            losses.append(float(found.loss))
            return found.grads

        after = _steps(SGD(lr=lr, momentum=momentum), params, gradients, count=steps, **options)
        return {"params": after, "losses": losses}

    # --- masks and counts ---------------------------------------------------------------------------------------------

    def keep_mask(self, scores: Arrays, amount: float, scope: str) -> dict[str, Array]:
        """Masks from scores."""
        return dict(masks.keep_mask(scores, amount=amount, scope=scope))

    def keep_mask_again(self, scores: Arrays, amount: float, scope: str, current: Arrays) -> dict[str, Array]:
        """Masks from scores and earlier masks."""
        return dict(masks.keep_mask(scores, amount=amount, scope=scope, current=current))

    def csr(self, dense: Array) -> Arrays:
        """Compressed sparse rows of a pruned layer."""
        w = sparse.CSR.from_dense(dense)
        return {"data": w.values, "indices": w.indices, "indptr": w.indptr}

    def csr_product(self, data: Array, indices: Array, indptr: Array, shape: list[int], input: Array) -> Array:
        """Compressed sparse rows times a matrix."""
        return sparse.CSR(sparse.Pattern(indptr, indices, (shape[0], shape[1])), data) @ input

    def metrics(self, layers: Sequence[Mapping[str, Any]], input_shape: list[int], params: Arrays) -> dict[str, Any]:
        """Counts and ratios of a network."""
        described: list[dict[str, Any]] = [
            {k: tuple(v) if isinstance(v, list) else v for k, v in layer.items() if k != "kind"} for layer in layers
        ]
        architecture = [LAYERS[layer["kind"]](**fields) for layer, fields in zip(layers, described, strict=True)]
        return metrics.of(nn.Model(tuple(architecture), tuple(input_shape), params))

    def score(self, logits: Array, target: Array) -> dict[str, float]:
        """Accuracy and loss of a network that returns its inputs, two samples at a time."""
        classes = logits.shape[1]
        identity = nn.Model(
            (nn.Linear("fc", classes, classes, bias=False),), (classes,), {"fc.weight": np.eye(classes)}
        )
        found = metrics.evaluate(identity, Dataset(logits, target, classes, "logits"), batch_size=2)
        return {"acc1": found.acc1, "loss": found.loss}


def _with_gradients(apply: Callable[..., Tensor], inputs: Mapping[str, Array | None], bar: Array) -> Arrays:
    """The output of a layer and the gradient of each input that is given."""
    given = {key: Tensor(x) for key, x in inputs.items() if x is not None}
    y = apply(*given.values())
    back = grad(y, list(given.values()), y_bar=bar)
    return {"output": y.data} | {f"grad_{key}": g for key, g in zip(given, back, strict=True)}


def _given_gradients(optimizer: Optimizer, params: Arrays, grads: Arrays, **options: Any) -> Arrays:
    count = len(next(iter(grads.values())))
    return _steps(optimizer, params, lambda _, t: {key: g[t] for key, g in grads.items()}, count=count, **options)


def _steps(
    optimizer: Optimizer, params: Arrays, gradients: Callable[[Arrays, int], Arrays], *, count: int,
    masks: Arrays | None, penalty: dict[str, Any] | None,
) -> Arrays:  # fmt: skip
    pull = None
    if penalty is not None:
        phi = surrogates.by_name(penalty["surrogate"], **penalty["parameters"])
        pull = Penalty(phi, alpha=penalty["alpha"], l2=penalty["l2"]).pull(penalty["factors"])
    now = {key: masked(w, (masks or {}).get(key)) for key, w in params.items()}
    state = optimizer.init(now)
    for t in range(count):
        now, state = optimizer.step(now, gradients(now, t), state, masks=masks, pull=pull)
    return now
