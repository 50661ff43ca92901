"""MyGrad convolves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from l0ref.bench.work import Answers, Contender
from l0ref.interop.extras import need

if TYPE_CHECKING:
    from l0ref.bench.suites.conv import Convolution


def mygrad_convolver(c: Convolution, *, backward: bool) -> Contender:
    """Return a contender that uses `conv_nd`."""
    mg, layers = need("mygrad", extra="bench"), need("mygrad.nnet.layers", extra="bench")

    def run(n: int) -> tuple[Any, list[Any]]:
        for _ in range(n):
            x = mg.tensor(c.x, constant=c.first or not backward)
            k, b = mg.tensor(c.k, constant=not backward), mg.tensor(c.b, constant=not backward)
            y = layers.conv_nd(x, k, stride=1, padding=c.padding) + b.reshape(1, -1, 1, 1)
            if backward:
                y.backward(c.y_bar)
        return y, [k, b] if c.first else [x, k, b]

    def answer(done: tuple[Any, list[Any]]) -> Answers:
        y, inputs = done
        return c.answer(y.data, [t.grad for t in inputs] if backward else [])

    return Contender("MyGrad", run, answer=answer)
