"""A method run once with given options on a network of 20 weights, so that a wrong value is found before any training.

Each method checks its options where it reads them, which in a pipeline is after the first training.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from l0ref.autodiff.op import backend
from l0ref.data import Dataset, Splits
from l0ref.errors import ArgumentError, L0RefError
from l0ref.methods.registry import Method
from l0ref.nn import Conv2d, Flatten, Linear, Model, ReLU

ARCHITECTURE = (Conv2d("conv1", 1, 2, 2), ReLU("relu1"), Flatten("flatten"), Linear("fc1", 2, 3), ReLU("relu2"))


def rehearse(method: Method, options: Mapping[str, Any]) -> bool:
    """Refuse a value of an option that the method refuses; return whether the run succeeded.

    Any other failure may be due to the small network. A budget that names layers is left out, since it names those of
    another network. Whole numbers above their defaults are lowered to the defaults: epochs and iterations cost time,
    and have no upper bound.
    """
    defaults = method.options
    few = {k: min(v, defaults[k]) if _whole(v) and _whole(defaults[k]) else v for k, v in options.items()}
    if ":" in str(few.get("budget", "")):
        del few["budget"]
    model = Model.init([*ARCHITECTURE, Linear("fc2", 3, 2)], input_shape=(1, 2, 2), seed=0)
    x = np.random.default_rng(0).normal(size=(8, 1, 2, 2)).astype(np.float32)
    part = Dataset(x, np.arange(8) % 2, 2, "rehearsal")
    with backend("numpy"), np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            method.run(model, Splits(part, part, part, "rehearsal", ""), amount=0.5, seed=0, **few)
        except L0RefError as error:
            if any(str(error).startswith((f"{name}=", f"{name}[")) for name in options):
                raise ArgumentError(str(error)) from None
            return False
        except (ArithmeticError, np.linalg.LinAlgError):
            return False
        except (AttributeError, TypeError, ValueError):
            name = next((name for name in options if defaults[name] is None), None)
            if name is None:
                raise
            told = f"{name}={options[name]!r} is not a value that method={method.name!r} takes"
            raise ArgumentError(f"{told}; l0ref methods {method.name} describes its options") from None
    return True


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
