"""Learning rate, penalty strength and sparsity as functions of the step."""

from l0ref.schedules.base import SCHEDULES, Schedule, by_name, names
from l0ref.schedules.rate import Constant, Cosine, LinearWarmup, OneCycle, ReduceOnPlateau, StepDecay
from l0ref.schedules.sparsity import LogLinearKept, PolynomialSparsity

__all__ = [
    "SCHEDULES",
    "Constant",
    "Cosine",
    "LinearWarmup",
    "LogLinearKept",
    "OneCycle",
    "PolynomialSparsity",
    "ReduceOnPlateau",
    "Schedule",
    "StepDecay",
    "by_name",
    "names",
]
