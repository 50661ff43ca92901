"""Deployment of a pruned network: without its zeros, where that is faster on this machine.

compact      which layers become sparse, and the resulting network: `l0ref.compact`
costs        the predicted time of a layer, dense and sparse
single       a network prepared for single samples
calibration  the measurements that the predictions are fitted to
"""
