"""Differentiable operations, named and called as in PyTorch's functional interface, on Tensors or arrays.

Every function returns a Tensor. Its file also defines its operation, a class with the formula and the
derivative.
"""

from l0ref.ops.activation import leaky_relu, relu, sigmoid, softplus, tanh
from l0ref.ops.convolution import conv2d
from l0ref.ops.dropout import dropout
from l0ref.ops.elementwise import abs, add, div, exp, log, mul, neg, pow, sqrt, sub
from l0ref.ops.linear import linear, matmul
from l0ref.ops.loss import cross_entropy, mse_loss
from l0ref.ops.normalization import batch_norm
from l0ref.ops.pooling import adaptive_avg_pool2d, avg_pool2d, max_pool2d
from l0ref.ops.reduction import max, mean, sum
from l0ref.ops.selection import clip, maximum, minimum, where
from l0ref.ops.shape import concatenate, flatten, pad, permute, reshape, transpose
from l0ref.ops.softmax import log_softmax, logsumexp, softmax
from l0ref.ops.surrogate import surrogate

__all__ = [
    "abs",
    "adaptive_avg_pool2d",
    "add",
    "avg_pool2d",
    "batch_norm",
    "clip",
    "concatenate",
    "conv2d",
    "cross_entropy",
    "div",
    "dropout",
    "exp",
    "flatten",
    "leaky_relu",
    "linear",
    "log",
    "log_softmax",
    "logsumexp",
    "matmul",
    "max",
    "max_pool2d",
    "maximum",
    "mean",
    "minimum",
    "mse_loss",
    "mul",
    "neg",
    "pad",
    "permute",
    "pow",
    "relu",
    "reshape",
    "sigmoid",
    "softmax",
    "softplus",
    "sqrt",
    "sub",
    "sum",
    "surrogate",
    "tanh",
    "transpose",
    "where",
]
