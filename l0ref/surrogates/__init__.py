"""Surrogates of the l0 norm: value, gradient, prox, slope at zero, dead zone and limit of each, on plain arrays.

| record                      | phi(w)                                 | level  | slope at 0+   |
|-----------------------------|----------------------------------------|--------|---------------|
| `Laplace(beta)`             | 1 - exp(-beta abs(w))                  | 1      | beta          |
| `LinearizedLaplace(beta)`   | Laplace with a slope linear in abs(w)  | 1/2    | beta          |
| `GemanMcClure(beta)`        | beta abs(w) / (1 + beta abs(w))        | 1      | beta          |
| `Gaussian(sigma)`           | 1 - exp(-w^2 / (2 sigma^2))            | 1      | 0             |
| `LogSum(eps)`               | log(1 + abs(w) / eps)                  | none   | 1 / eps       |
| `Arctan(beta)`              | 2/pi arctan(beta abs(w))               | 1      | 2 beta / pi   |
| `Tanh(beta)`                | tanh(beta abs(w))                      | 1      | beta          |
| `CappedL1(theta)`           | min(abs(w), theta)                     | theta  | 1             |
| `SCAD(lam, a)`              | linear, quadratic, constant            | (a + 1) lam^2 / 2 | lam |
| `MCP(lam, gamma)`           | quadratic, constant                    | gamma lam^2 / 2 | lam  |
| `Lp(p)`                     | abs(w)^p                               | none   | inf           |
| `TransformedL1(a)`          | (a + 1) abs(w) / (a + abs(w))          | a + 1  | (a + 1) / a   |
| `L0()`, `L1()`, `L2()`      | w != 0, abs(w), w^2                    |        | inf, 1, 0     |

>>> import numpy as np
>>> Laplace(beta=5.0).prox(np.array([-0.19, 0.21, 3.0]), step=0.04)
array([0.        , 0.06676211, 2.99999994])
"""

from l0ref.surrogates.base import SURROGATES, Surrogate, by_name
from l0ref.surrogates.exponential import Gaussian, Laplace
from l0ref.surrogates.logarithm import LogSum
from l0ref.surrogates.norms import L0, L1, L2
from l0ref.surrogates.piecewise import MCP, SCAD, CappedL1, LinearizedLaplace
from l0ref.surrogates.power import Lp
from l0ref.surrogates.rational import GemanMcClure, TransformedL1
from l0ref.surrogates.saturating import Arctan, Tanh

__all__ = [
    "L0",
    "L1",
    "L2",
    "MCP",
    "SCAD",
    "SURROGATES",
    "Arctan",
    "CappedL1",
    "Gaussian",
    "GemanMcClure",
    "Laplace",
    "LinearizedLaplace",
    "LogSum",
    "Lp",
    "Surrogate",
    "Tanh",
    "TransformedL1",
    "by_name",
]
