"""Borders, windows and repeated indices: the right numbers arrive at the wrong place, or only the last of them."""

from __future__ import annotations

import numpy as np

from tests.history.case import operation, pair, rand

ONE = "single entries: 1 of"


@pair(
    "pytorch/pytorch#23925",
    "bilinear sampling exactly on the border mixes in a pixel outside, taken as 0",
    says="another choice at kinks",
    because="the border is a kink of the clipped position, and the value lies outside of both slopes",
)
def sampling_on_the_border():
    v = np.arange(5.0) + 1

    def value(x):
        t = np.clip(x, 0, 4)
        i = np.minimum(np.floor(t).astype(int), 3)
        return (v[i] + (t - i) * (v[i + 1] - v[i])).sum()

    i, padded = lambda x: np.floor(x).astype(int), np.append(v, 0.0)
    return (
        value,
        np.array([0.3, 1.6, 4.0]),
        lambda x: np.where(x < 4, 1.0, 0.0),
        lambda x: padded[i(x) + 1] - padded[i(x)],
    )


@pair(
    "pytorch/pytorch#1631",
    "gather with a repeated index keeps only the last contribution",
    says=ONE,
    because="one row is gathered twice, the others once",
)
def gather_repeated_index():
    i, dy = np.array([0, 2, 3, 2, 1]), np.array([0.2, 0.3, 0.5, -0.4, 0.7])

    def grad(x, add):
        g = np.zeros_like(x)
        if add:
            np.add.at(g, i, dy * 2 * x[i])
        else:
            g[i] = dy * 2 * x[i]
        return g

    return (
        lambda x: (dy * x[i] ** 2).sum(),
        np.array([0.1, 0.7, -0.4, 0.9]),
        lambda x: grad(x, True),
        lambda x: grad(x, False),
    )


@operation(
    "pytorch/pytorch#80204",
    "max_unpool with a repeated index gives a gradient to entries that were overwritten",
    says=ONE,
    because="one of four entries was overwritten by a later one",
)
def unpool_repeated_index():
    i = np.array([0, 1, 2, 1])

    def forward(x):
        y = np.zeros(4, dtype=x.dtype)
        for k, j in enumerate(i):
            y[j] = x[k]
        return y

    x = np.array([0.6418, 0.0359, 0.6088, 0.9408])
    return forward, [x], lambda _, y_bar: [y_bar[i] * [1, 0, 1, 1]], lambda _, y_bar: [y_bar[i]]


def _maxpool(size, step, fault):
    x = rand(4, 4)

    def spots(x):
        corners = [(i, j) for i in range(0, 5 - size, step) for j in range(0, 5 - size, step)]
        best = [np.unravel_index(x[i : i + size, j : j + size].argmax(), (size, size)) for i, j in corners]
        return [(i + a, j + b) for (i, j), (a, b) in zip(corners, best, strict=True)]

    def vjp(fault):
        def of(xs, y_bar):
            g = np.zeros_like(xs[0])
            for s, v in zip(spots(xs[0]), y_bar, strict=True):
                g[s] = v if fault == "assign" else g[s] + v
                if fault == "return":
                    break
            return [g]

        return of

    return lambda x: np.array([x[s] for s in spots(x)]), [x], vjp(""), vjp(fault)


@operation(
    "riccardoandreoni0/CNN-from-scratch#1",
    "the backward pass of max pooling returns after its first patch",
    says="a missing sum: of 4 entries along axis 0 of the result only the first is counted",
    because="the first patch is the first entry of the result",
)
def maxpool_returns_early():
    return _maxpool(2, 2, "return")


@operation(
    "devitocodes/joey#5",
    "max pooling with overlapping windows assigns where it should add",
    says="a missing sum: of 4 entries along axis 0 of the result only the last is counted",
    because="one entry wins in all four windows, and kept only the last of their gradients",
)
def maxpool_assigns():
    return _maxpool(3, 1, "assign")


@operation(
    "NervanaSystems/neon#111",
    "convolution stores the gradient of its input at the index of the output",
    because="every entry is a different mixture of cotangent and filter",
)
def convolution_at_the_output_index():
    w = rand(3, seed=1)
    forward = lambda x: np.array([(w * x[m : m + 3]).sum() for m in range(4)])
    wrong = lambda _, y_bar: [np.append(y_bar * w.sum(), [0.0, 0.0])]
    return forward, [rand(6)], lambda _, y_bar: [np.convolve(y_bar, w)], wrong


@operation(
    "flagos-ai/FlagGems#5218",
    "linear upsampling with aligned corners scans too few outputs and drops the outermost terms",
    because="all three entries lose small terms of their own",
)
def upsampling_window():
    t = np.arange(10) / 4.5
    w = np.maximum(0, 1 - np.abs(t - np.arange(3)[:, None]))
    short = np.where(w < 0.3, 0, w)
    return lambda x: x @ w, [rand(3)], lambda _, y_bar: [w @ y_bar], lambda _, y_bar: [short @ y_bar]


def _avgpool(n, size, divisor_of_last):
    starts = range(0, n, size)
    counts = np.array([min(size, n - s) for s in starts], float)
    wrong = counts.copy()
    wrong[-1] = divisor_of_last
    forward = lambda x: np.array([x[s : s + size].sum() for s in starts]) / counts
    spread = lambda y_bar, by: np.repeat(y_bar / by, counts.astype(int))
    return forward, [rand(n)], lambda _, y_bar: [spread(y_bar, counts)], lambda _, y_bar: [spread(y_bar, wrong)]


@operation(
    "tracel-ai/burn#5604",
    "average pooling divides the last, overhanging window by the size of a full one in its gradient only",
    says="a border: wrong only at the last index of axis 0",
    because="the last window holds the last entry alone",
)
def average_of_an_overhanging_window():
    return _avgpool(5, 2, 2.0)


@operation(
    "pytorch/pytorch#198119",
    "compiled average pooling in ceil mode divides the overhanging window by the whole kernel",
    says="a factor in places: 0.666666667 times the true gradient at 2 of 8 entries",
    because="the last window holds two entries, and divides by 3",
)
def average_of_two_of_three():
    return _avgpool(8, 3, 3.0)


@operation(
    "pytorch/pytorch#63314",
    "transposed convolution with stride 2 reads the cotangent as if the stride were 1",
    because="the entries read their neighbours' cotangents; nothing in the true gradient is like it",
)
def transposed_convolution_stride():
    w = -0.7767

    def forward(x):
        y = np.zeros(2 * x.size - 1, dtype=x.dtype)
        y[::2] = w * x
        return y

    return forward, [rand(4)], lambda _, y_bar: [w * y_bar[::2]], lambda xs, y_bar: [w * y_bar[: xs[0].size]]
