"""Checkers of gradients and proxes, for the library itself and for code of your own.

gradcheck        the gradient of a function of Tensors
check_gradient   a pair of plain callables, value and gradient, in any framework
check_model      every parameter of a network, with penalty and masks
check_prox       a prox: the global minimiser, its dead zone, order
check_vjp        the derivative rule of one operation, in one random direction

`penalty_findings` names mistakes in an l0 penalty from its value and gradient; `l0ref.interop.torch.compare` uses it.
"""

from l0ref.testing.callables import check_gradient
from l0ref.testing.findings import Finding, ParameterReport
from l0ref.testing.functions import gradcheck
from l0ref.testing.networks import check_model
from l0ref.testing.prox_checks import ProxReport
from l0ref.testing.proximal import check_prox
from l0ref.testing.verdict import GradcheckFailure, GradcheckReport
from l0ref.testing.vjp import check_vjp

__all__ = [
    "Finding",
    "GradcheckFailure",
    "GradcheckReport",
    "ParameterReport",
    "ProxReport",
    "check_gradient",
    "check_model",
    "check_prox",
    "check_vjp",
    "gradcheck",
]
