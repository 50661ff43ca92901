"""A pruned network in use: without its zeros, where that pays on this machine.

compact      which layers become sparse, and the network they make: `l0ref.compact`
costs        what a layer takes, dense and sparse, as predicted
single       a network prepared for single samples
calibration  the measurements those predictions are fitted to
"""
