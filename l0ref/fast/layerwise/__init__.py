"""Kernels of the layer-wise solver."""
