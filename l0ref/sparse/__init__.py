"""Sparse weights: the weights that a pruned layer keeps, stored and multiplied without its zeros.

    Pattern, BlockPattern    which entries, or tiles, of a matrix are stored; immutable, and checked when made
    CSR, BCSR                a pattern and its values: a sparse matrix as a value
    spmv, spmm               W x and W X, and with `transposed` W^T x and W^T X
    plan                     a prepared product with single samples
    sddmm                    the stored entries of A B^T
    sparse_linear, block_sparse_linear, sparse_conv2d    the layers, with activations laid out as in `l0ref.ops`

The operations take the values as an ordinary tensor and the pattern as an option. So the gradient of the values is an
array like them, over stored entries only, and an optimiser steps on it as on any parameter:

>>> import numpy as np
>>> from l0ref import Tensor, grad, sparse
>>> w = sparse.CSR.from_dense(np.array([[0.0, 2.0, 0.0], [1.0, 0.0, 3.0]]))
>>> x, values = Tensor([[1.0, 10.0, 100.0]]), Tensor(w.values)
>>> y = sparse.sparse_linear(x, values, pattern=w.pattern)
>>> y.data.tolist(), grad(y, [values], y_bar=np.ones((1, 2)))[0].tolist()
([[20.0, 301.0]], [10.0, 1.0, 100.0])
"""

from l0ref.sparse.bcsr import BCSR
from l0ref.sparse.block_pattern import BlockPattern
from l0ref.sparse.convolution import sparse_conv2d
from l0ref.sparse.csr import CSR
from l0ref.sparse.linear import block_sparse_linear, sparse_linear
from l0ref.sparse.matmul import sddmm, spmm, spmv
from l0ref.sparse.pattern import Pattern
from l0ref.sparse.plan import plan

__all__ = [
    "BCSR",
    "CSR",
    "BlockPattern",
    "Pattern",
    "block_sparse_linear",
    "plan",
    "sddmm",
    "sparse_conv2d",
    "sparse_linear",
    "spmm",
    "spmv",
]
