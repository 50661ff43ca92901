"""A network as compiled stages, layer after layer, that share their memory; `fit` runs on it.

The tape of `l0ref.autodiff` makes fresh arrays at every step and records how each was made. A chain does neither: all
activations, gradients and tables are allocated once, and a training step is a few dozen kernels. It covers networks of
dense and sparse convolutions and linear layers, batch normalisation, residual blocks, pooling, dropout and all
activation functions, under a cross-entropy or a squared error; for any other network `build` gives the reason why it
runs on the tape. Tests compare the results of both.
"""

from l0ref.fast.chain.build import NotCovered, build
from l0ref.fast.chain.chain import Chain, Link
from l0ref.fast.chain.convolution import ConvolutionStage
from l0ref.fast.chain.linear import LinearStage
from l0ref.fast.chain.places import Activation
from l0ref.fast.chain.sparse_convolution import SparseConvolutionStage
from l0ref.fast.chain.sparse_linear import SparseLinearStage

__all__ = [
    "Activation",
    "Chain",
    "ConvolutionStage",
    "LinearStage",
    "Link",
    "NotCovered",
    "SparseConvolutionStage",
    "SparseLinearStage",
    "build",
]
