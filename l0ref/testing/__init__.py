"""The checkers the library holds itself to, for operations of your own."""

from l0ref.testing.vjp import check_vjp

__all__ = ["check_vjp"]
