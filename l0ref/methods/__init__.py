"""Published pruning methods, one file each: which weights are removed, and how the others change.

`METHODS` is the table of all methods; `Cut(method=...)` and `l0ref compress --method` select one. `l0ref methods`
prints the table. Importing a file registers its methods.
"""

from l0ref.methods import (  # noqa: F401
    brain_surgery,
    chance,
    clustering,
    connection_sensitivity,
    coreset,
    filter_criteria,
    fisher,
    geometric_median,
    global_filters,
    hard_concrete,
    l0_constrained,
    learned_threshold,
    magnitude,
    matrix_pivoting,
    merging,
    net_trim,
    obd,
    on_the_fly,
    prune_while_training,
    slr,
    thinet,
    unit_criteria,
    wanda,
)
from l0ref.methods.registry import METHODS, Method, Pruned, method

__all__ = ["METHODS", "Method", "Pruned", "method"]
