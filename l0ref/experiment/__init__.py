"""Experiments of many runs: all methods from one trained network, at equal weights or multiply-adds."""

from l0ref.experiment.comparison import Comparison, compare, comparison_text, error_table, point

__all__ = ["Comparison", "compare", "comparison_text", "error_table", "point"]
