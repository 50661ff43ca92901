"""Reverse-mode automatic differentiation: the contract of an operation and the stateless tape."""

from l0ref.autodiff.op import OPS, Op, backend, current_backend
from l0ref.autodiff.tensor import Tensor, apply, grad

__all__ = ["OPS", "Op", "Tensor", "apply", "backend", "current_backend", "grad"]
