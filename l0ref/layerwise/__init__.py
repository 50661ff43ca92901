"""The l0-constrained problem of one layer: a quadratic, a solver, and bounds on the quality of a solution.

Quadratic    the centred least-squares problem of a layer, from samples
solve        a good support and its weights, for every neuron or for the layer as a whole: a Solution
certify      lower and upper bound of the smallest objective of one neuron: a Certificate
"""

from l0ref.layerwise.branch_and_bound import Certificate, certify
from l0ref.layerwise.quadratic import Quadratic
from l0ref.layerwise.search import Solution, solve

__all__ = ["Certificate", "Quadratic", "Solution", "certify", "solve"]
