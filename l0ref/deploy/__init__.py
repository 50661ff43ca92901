"""A pruned network in use: without its zeros, where that pays on this machine.

compact      which layers become sparse, and the network they make: `l0ref.compact`
costs        the predicted time of a layer, dense and sparse
single       a network prepared for single samples
calibration  the measurements those predictions are fitted to
"""
