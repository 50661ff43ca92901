"""Published methods, one file each: what goes, and what becomes of the rest.

`METHODS` is the table of all of them; `Cut(method=...)` and `l0ref compress --method` name one. `l0ref methods` prints
the table.
"""

from l0ref.methods import (
    chance,
    clustering,
    connection_sensitivity,
    coreset,
    geometric_median,
    global_filters,
    magnitude,
    matrix_pivoting,
    merging,
    on_the_fly,
)
from l0ref.methods.registry import METHODS, Method, Pruned, method

FILES = (  # importing a file registers its methods
    chance, clustering, connection_sensitivity, coreset, geometric_median, global_filters, magnitude, matrix_pivoting,
    merging, on_the_fly,
)  # fmt: skip

__all__ = ["FILES", "METHODS", "Method", "Pruned", "method"]
