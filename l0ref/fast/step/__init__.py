"""Compiled steps of the optimisers, the penalty and its prox: the update of the weights once the gradient is known."""
