"""The surrogates at 50 digits with error bounds; the global minimiser of the prox, the dead zone.

    h(x) = 1/2 (x - a)^2 + t phi(x),  x >= 0

Smooth surrogates: every sign change of h' on a fine grid is followed to its root, and the best candidate wins.
Surrogates made of parabolas: the vertex of each piece, its ends, and 0, compared with each other. Where
candidates tie, the smaller wins.
"""

from __future__ import annotations

from typing import Any

from tests.oracles_vectors.formulas import FORMULAS, Exact
from tests.oracles_vectors.number import Num, mp

TIE = mp.mpf(10) ** -40

# Surrogates made of parabolas: where their pieces end.
CORNERS: dict[str, Any] = {
    "linearized_laplace": lambda beta: [1 / beta],
    "capped_l1": lambda theta: [theta],
    "scad": lambda lam, a: [lam, a * lam],
    "mcp": lambda lam, gamma: [gamma * lam],
    "l0": list,
    "l1": list,
    "l2": list,
}


class Exactly:
    """One surrogate with its parameters, floats read exactly."""

    def __init__(self, name: str, parameters: dict[str, float]):
        self.name = name
        self.parameters = {key: mp.mpf(value) for key, value in parameters.items()}
        self.asked: Any = None
        self.answer: list[Any] = []

    def at(self, u: Any) -> Exact:
        """phi, phi', phi'' at u > 0."""
        return FORMULAS[self.name](u, **self.parameters)

    def phi(self, u: Any) -> Any:
        return self.at(u)[0] if u else mp.mpf(0)

    def value(self, w: Num) -> Num:
        """phi(|w|)."""
        u = abs(w.value)
        if not u:
            return Num(0)
        y, slope, _ = self.at(u)
        return Num(y, abs(slope) * w.size + abs(y))

    def gradient(self, w: Num) -> Num:
        """d phi(|w|) / d w: 0 at 0, and 0 at the corner of the capped l1."""
        u = abs(w.value)
        if not u:
            return Num(0)
        _, slope, bend = self.at(u)
        return Num(slope * mp.sign(w.value), abs(bend) * (w.size + u) + abs(slope))

    def prox(self, z: Num, t: Num) -> Num:
        """argmin_x 1/2 (x - z)^2 + t phi(|x|)."""
        a = abs(z.value)
        if not a or not t.value:
            return z
        x = self.minimiser(a, t.value)
        if not x:
            return Num(0)
        _, slope, bend = self.at(x)
        stiff = 1 + t.value * bend  # h''
        errors = z.size + slope * t.size + a + t.value * slope if slope else z.size
        return Num(x * mp.sign(z.value), errors / stiff + x)

    def minimiser(self, a: Any, t: Any) -> Any:
        """The global minimiser of h over x >= 0, the smallest where several tie."""

        def h(x: Any) -> Any:  # h(x) - h(0), which cancels less
            return x * (x / 2 - a) + t * self.phi(x)

        best = mp.mpf(0)
        for x in sorted(self.candidates(a, t)):
            if h(x) < h(best) - TIE * a * a:
                best = x
        return best

    def undecided(self, a: Any, t: Any, margin: float) -> bool:
        """Whether a relative change of `margin` in a could move the minimiser between 0 and elsewhere."""
        rivals = [abs(x * (x / 2 - a) + t * self.phi(x)) < margin * a * x for x in self.candidates(a, t) if x]
        return any(rivals) or abs(a - t * self.at(mp.mpf(10) ** -200)[1]) < margin * a

    def candidates(self, a: Any, t: Any) -> list[Any]:
        """Every x > 0 at which h may have its minimum."""
        if (a, t) != self.asked:
            self.asked, self.answer = (a, t), self.stationary(a, t)
        return self.answer

    def stationary(self, a: Any, t: Any) -> list[Any]:
        if self.name in CORNERS:
            return self.vertices(a, t)

        def slope(x: Any) -> Any:
            return x - a + t * self.at(x)[1]

        points = grid(a)
        slopes = [slope(x) for x in points]
        pairs = zip(points, points[1:], slopes, slopes[1:], strict=False)
        return [root(slope, low, high) for low, high, f, g in pairs if f < 0 <= g]

    def vertices(self, a: Any, t: Any) -> list[Any]:
        ends = [mp.mpf(0), *CORNERS[self.name](**self.parameters)]
        found = list(ends)
        for low, high in zip(ends, [*ends[1:], mp.inf], strict=True):
            inside = low + (min(high, low + 1) - low) / 2
            _, slope, bend = self.at(inside)
            curvature = 1 + t * bend
            if curvature > 0:
                found.append((a - t * (slope - bend * inside)) / curvature)
        return [x for x in found if x >= 0]

    def dead_zone(self, t: Num) -> Num:
        """inf over x > 0 of x / 2 + t phi(x) / x."""
        if self.name in CORNERS:
            return self.piecewise_dead_zone(t.value)

        def ratio(x: Any) -> Any:
            return x / 2 + t.value * self.phi(x) / x

        def slope(x: Any) -> Any:  # of x^2 ratio' ; ratio is flat where it is 0
            value, rise, _ = self.at(x)
            return x * x / 2 + t.value * (x * rise - value)

        unit = mp.sqrt(2 * t.value)
        points = grid(16 * unit)
        slopes = [slope(x) for x in points]
        pairs = zip(points, points[1:], slopes, slopes[1:], strict=False)
        inner = [ratio(root(slope, low, high)) for low, high, f, g in pairs if f < 0 <= g]
        near = {"lp": mp.inf, "gaussian": mp.mpf(0)}
        at_zero = near.get(self.name, t.value * self.at(mp.mpf(10) ** -200)[1])
        y = min([at_zero, *inner])
        return Num(y, 2 * y)

    def piecewise_dead_zone(self, t: Any) -> Num:
        """Halve the interval between what stays and what goes; a closed form would be somebody's formula."""
        if self.name == "l2":
            return Num(0)
        low, high = mp.mpf(0), 4 * mp.sqrt(2 * t) + 4 * t * max([mp.mpf(1), *self.parameters.values()])
        for _ in range(190):
            middle = (low + high) / 2
            low, high = (low, middle) if self.minimiser(middle, t) else (middle, high)
        y = mp.mpf(mp.nstr(low, 40))  # 190 halvings end beside a simple number; 40 digits name it
        return Num(y, 2 * y)


def grid(a: Any) -> list[Any]:
    """Points of (0, a]: each half of the one before down to 2^-40 a, and 32 evenly spaced."""
    fine = [a * mp.mpf(2) ** -k for k in range(41)]
    even = [a * k / 32 for k in range(1, 32)]
    return sorted({*fine, *even})


def root(f: Any, low: Any, high: Any) -> Any:
    """The root of f between low, where f < 0, and high, where f >= 0; its place is seen again to 39 digits."""
    x = mp.findroot(f, (low, high), solver="anderson", tol=high * mp.mpf(2) ** -150, maxsteps=200, verify=False)
    near = high * mp.mpf(2) ** -130
    if not (low <= x <= high + near and f(x - near) < 0 <= f(x + near)):
        raise ValueError(f"no root was found between {mp.nstr(low)} and {mp.nstr(high)}; search by halving")
    return x
