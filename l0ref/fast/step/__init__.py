"""Compiled steps of the optimisers, the penalty and its prox: what happens to the weights after a gradient."""
