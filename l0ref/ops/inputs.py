"""The conversion of an argument that may be a Tensor or an array."""

from __future__ import annotations

from typing import Any

from l0ref.autodiff.tensor import Tensor
from l0ref.validate import float_array


def as_tensor(name: str, value: Any) -> Tensor:
    """Return `value` as a Tensor; error messages call it `name`."""
    return value if isinstance(value, Tensor) else Tensor(float_array(name, value))
