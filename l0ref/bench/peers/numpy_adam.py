"""Adam in NumPy, in place: what a user of a library without optimisers writes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from l0ref.validate import Array


class NumpyAdam:
    """w, m and v are updated in place; formulas as in `l0ref.optim.adam_step`, defaults as in `l0ref.optim.Adam`."""

    def __init__(self, params: Mapping[str, Array], *, lr: float) -> None:
        self.params, self.lr = {k: w.copy() for k, w in params.items()}, lr
        self.m = {k: np.zeros_like(w) for k, w in params.items()}
        self.v = {k: np.zeros_like(w) for k, w in params.items()}
        self.t = 0

    def step(self, grads: Mapping[str, Array]) -> None:
        """Move every parameter against its gradient."""
        self.t += 1
        beta1, beta2 = 0.9, 0.999
        rate, root = self.lr / (1 - beta1**self.t), (1 - beta2**self.t) ** 0.5
        for key, g in grads.items():
            m, v = self.m[key], self.v[key]
            m *= beta1
            m += (1 - beta1) * g
            v *= beta2
            v += (1 - beta2) * (g * g)
            self.params[key] -= rate * m / (np.sqrt(v) / root + 1e-8)
