"""Experiments of many runs: all methods from one trained network, at equal kept weights."""

from l0ref.experiment.comparison import Comparison, compare, comparison_text, point

__all__ = ["Comparison", "compare", "comparison_text", "point"]
