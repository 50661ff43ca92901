"""Layers of PyTorch whose weight is a CSR matrix: stored values are the parameter, their indices are buffers."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np

from l0ref import nn
from l0ref.errors import ArgumentError
from l0ref.interop.extras import need_torch
from l0ref.sparse import Pattern
from l0ref.validate import Array, pair


@cache
def sparse_class() -> Any:
    """Return the class of module for a SparseLinear and a SparseConv2d, created when PyTorch is first needed."""
    torch = need_torch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch says once that CSR is in beta
        torch.eye(1).to_sparse_csr()

    class SparseCSR(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        """y = x W^T + b with W (out, in) in CSR; a convolution multiplies the windows of its image.

        values        (nnz,) stored weights, trained like others
        crow_indices  (out + 1,), col_indices (nnz,): their indices, as in torch.sparse_csr_tensor; those of a
                      convolution refer to a matrix (out, in kh kw), in which groups are blocks on the diagonal
        """

        def __init__(self, layer: Any) -> None:
            super().__init__()
            self.layer = layer.dense
            self.conv = isinstance(layer, nn.SparseConv2d)
            rows, each = layer.pattern.shape
            groups = layer.groups if self.conv else 1
            shift = layer.pattern.rows // max(rows // groups, 1) * each
            self.shape = rows, groups * each
            self.register_buffer("crow_indices", torch.tensor(layer.pattern.indptr.astype(np.int64)))
            self.register_buffer("col_indices", torch.tensor((layer.pattern.indices + shift).astype(np.int64)))
            self.values = torch.nn.Parameter(torch.zeros(layer.pattern.indices.size))
            self.bias = torch.nn.Parameter(torch.zeros(rows)) if layer.bias else None

        @property
        def weight(self) -> Any:
            """W as a sparse CSR tensor."""
            return torch.sparse_csr_tensor(
                self.crow_indices, self.col_indices, self.values, size=self.shape, check_invariants=True
            )

        def forward(self, x: Any) -> Any:
            bias = 0 if self.bias is None else self.bias[:, None]
            if not self.conv:
                return (self.weight @ x.T + bias).T
            kernel = pair("kernel_size", self.layer.kernel_size)
            options = {what: getattr(self.layer, what) for what in ("dilation", "padding", "stride")}
            windows = torch.nn.functional.unfold(x, kernel, **options)  # (N, in kh kw, P Q)
            y = self.weight @ windows.transpose(0, 1).flatten(1) + bias  # (out, N P Q)
            _, *grid = self.layer.output_shape(tuple(x.shape[1:]))
            return y.unflatten(1, (len(x), *grid)).transpose(0, 1)

    return SparseCSR


def is_sparse(module: Any) -> bool:
    """Return whether a module is one of `sparse_class`."""
    return type(module).__name__ == "SparseCSR" and type(module) is sparse_class()


def from_layer(layer: Any) -> Any:
    """Return the module of a sparse layer, whose arrays are filled in later."""
    if not isinstance(layer.pattern, Pattern):
        raise ArgumentError(f"model has {layer.name + '.weight'!r} in tiles, which CSR lacks; pass form='sparse'")
    return sparse_class()(layer)


def with_zeros(module: Any) -> tuple[Array, Array]:
    """Return weight and mask of a sparse module, in the shape of its layer."""
    torch = need_torch()
    layer, (rows, columns) = module.layer, module.shape
    groups = layer.groups if module.conv else 1
    shape = (
        (rows, layer.in_channels // groups, *pair("kernel_size", layer.kernel_size)) if module.conv else module.shape
    )
    at = module.crow_indices, module.col_indices
    ones = torch.sparse_csr_tensor(*at, torch.ones_like(module.values), size=module.shape, check_invariants=True)
    one = np.arange(groups)  # blocks on the diagonal
    blocks = groups, rows // groups, groups, columns // groups
    weight, kept = (
        t.detach().to_dense().numpy().reshape(blocks)[one, :, one].reshape(shape) for t in (module.weight, ones)
    )
    return weight, kept != 0
