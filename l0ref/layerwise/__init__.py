"""One layer with few weights: its problem as a quadratic, a solver, and proofs of how good a solution is.

Quadratic      the centred least-squares problem of a layer, from samples
solve          a good support and its weights, for every neuron or for the layer as a whole
Solution       what it returns
"""

from l0ref.layerwise.quadratic import Quadratic
from l0ref.layerwise.solve import Solution, solve

__all__ = ["Quadratic", "Solution", "solve"]
