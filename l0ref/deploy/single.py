"""A network prepared for single samples: work that does not depend on the sample is done once, not in every call.

    y = W_k relu(W_{k-1} ... relu(W_1 x + b_1) ... + b_{k-1}) + b_k,   x one sample

`model.logits` checks its arrays and looks up a chain in every call, and a chain multiplies by as many samples as a
vector has lanes, even if there is only one. For a pruned multilayer perceptron this overhead takes four times as long
as the products (LeNet-300-100 at 95 % zeros: see docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from l0ref.nn import Dropout, Flatten, Layer, Linear, Model, ReLU, SparseLinear
from l0ref.sparse import CSR
from l0ref.sparse.plan import LARGEST, plan
from l0ref.validate import Array, as_array

Step = Callable[[Array], Array]


class Single:
    """A function of one sample: ``Single(model)(x)`` is ``model.logits(x[None])[0]``, within rounding.

    model  the steps hold copies of its weights: later changes to its arrays do not affect them
    steps  functions of vectors, one for each linear layer and ReLU; empty if `model.logits` evaluates the network:
           with layers other than linear ones, ReLU, Flatten and Dropout, a dense weight of more than half a million
           entries, or a sparse weight that is not finite

    Samples of another shape or dtype are passed to `model.logits`, which refuses them.

    >>> import numpy as np
    >>> from l0ref import compact, nn, prune
    >>> net = compact(prune(nn.mlp((64, 48, 10), seed=0), amount=0.9)).model
    >>> Single(net)(np.ones(64, np.float32)).shape
    (10,)
    """

    __slots__ = ("_dtype", "_shape", "model", "steps")

    def __init__(self, model: Model) -> None:
        self.model, self._dtype, self._shape = model, np.dtype(model.dtype), model.input_shape
        steps = [_step(layer, model) for layer in model.architecture if type(layer) not in (Flatten, Dropout)]
        known = tuple(step for step in steps if step is not None)
        self.steps: tuple[Step, ...] = known if len(known) == len(steps) and len(model.output_shape) == 1 else ()

    def __call__(self, x: Array) -> Array:
        """Return the outputs for a sample x of the shape and dtype of the network's inputs, as a fresh array."""
        if not self.steps or type(x) is not np.ndarray or x.dtype != self._dtype or x.shape != self._shape:
            found: Array = self.model.logits(as_array("x", x)[None])[0]
            return found
        y = x.ravel()
        for step in self.steps:
            y = step(y)
        return y


def _step(layer: Layer, model: Model) -> Step | None:
    """Return a layer as a function of a vector, or None if it must be evaluated by `model.logits`."""
    if type(layer) is ReLU:
        zero = np.dtype(model.dtype).type(0)
        return lambda y: np.maximum(y, zero)
    if type(layer) not in (Linear, SparseLinear):
        return None
    w, b = model.params[f"{layer.name}.weight"], model.params.get(f"{layer.name}.bias")
    if isinstance(layer, SparseLinear):
        if not np.isfinite(w).all():
            return None
        times: Step = plan(CSR.from_dense(layer.pattern.scatter(w)))
    elif w.size <= LARGEST:
        times = w.copy().dot
    else:
        return None
    if b is None:
        return times
    bias = b.copy()
    return lambda y: times(y) + bias
