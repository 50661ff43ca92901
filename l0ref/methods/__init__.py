"""Published methods, one file each: what goes, and what becomes of the rest.

`METHODS` is the table of all of them; `Cut(method=...)` and `l0ref compress --method` name one. `l0ref methods` prints
the table.
"""

from l0ref.methods import chance, clustering, connection_sensitivity, geometric_median, magnitude, merging
from l0ref.methods.registry import METHODS, Method, Pruned, method

FILES = (chance, clustering, connection_sensitivity, geometric_median, magnitude, merging)

__all__ = ["FILES", "METHODS", "Method", "Pruned", "method"]
