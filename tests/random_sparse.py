"""Random sparse matrices for property tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st


@st.composite
def matrices(draw: Any, most: int = 9) -> Any:
    """A float matrix of 0 to `most` rows and columns, of any density, empty rows and columns among them."""
    rows, columns = draw(st.integers(0, most)), draw(st.integers(0, most))
    density = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    w = rng.uniform(0.5, 2.0, (rows, columns)) * rng.choice([-1, 1], (rows, columns))
    w *= rng.random(w.shape) < density
    if rows and draw(st.booleans()):
        w[draw(st.integers(0, rows - 1))] = 0
    if columns and draw(st.booleans()):
        w[:, draw(st.integers(0, columns - 1))] = 0
    return w.astype(draw(st.sampled_from([np.float32, np.float64])))


def blocksizes() -> st.SearchStrategy[tuple[int, int]]:
    """Rows and columns of a tile, 1 to 5."""
    return st.tuples(st.integers(1, 5), st.integers(1, 5))
