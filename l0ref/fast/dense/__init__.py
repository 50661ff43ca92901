"""Compiled twins of the dense operations: activation, linear, convolution, pooling, loss."""
