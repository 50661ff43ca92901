"""The matrix products of a training step and nothing else: the limit of what a step can cost."""

from __future__ import annotations

import numpy as np

from l0ref.nn import Model
from l0ref.nn.sequence import shapes
from l0ref.validate import Array


class Products:
    """Three products for every layer with weights W (out, in), on arrays that are made beforehand.

        y = x W^T      W_bar = y_bar^T x      x_bar = y_bar W, but not in the first layer

    x has one row per sample; in a convolution, one per sample and position, which holds the window. Making these
    rows, biases, activations, loss, penalty and optimiser cost nothing here.
    """

    def __init__(self, model: Model, batch_size: int, *, seed: int) -> None:
        rng = np.random.default_rng(seed)
        rows_of: dict[str, int] = {}
        for layer, shape in zip(model.architecture, shapes(model.architecture, model.input_shape), strict=False):
            rows_of |= {key: batch_size * uses for key, uses in layer.positions(shape).items()}
        self.layers: list[tuple[Array, Array, Array, Array, Array, Array | None]] = []
        for key, rows in rows_of.items():
            w = np.ascontiguousarray(model.params[key].reshape(len(model.params[key]), -1))
            x, y = (rng.standard_normal((rows, size), dtype=w.dtype) for size in (w.shape[1], w.shape[0]))
            x_bar = np.empty_like(x) if self.layers else None
            self.layers.append((w, x, y, np.empty_like(y), np.empty_like(w), x_bar))

    def run(self, steps: int) -> None:
        """Compute the products of `steps` steps into arrays that are there already."""
        for _ in range(steps):
            for w, x, y_bar, y, w_bar, x_bar in self.layers:
                np.matmul(x, w.T, out=y)
                np.matmul(y_bar.T, x, out=w_bar)
                if x_bar is not None:
                    np.matmul(y_bar, w, out=x_bar)

    @property
    def flops(self) -> int:
        """Multiplications and additions of one step."""
        return sum(2 * x.shape[0] * w.size * (2 if x_bar is None else 3) for w, x, *_, x_bar in self.layers)
