"""The built-in real data: 1,797 handwritten digits of 8 x 8 pixels, shipped with the package.

Ref  E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
     Repository, 1998, doi 10.24432/C50P49, CC BY 4.0; see DIGITS_LICENSE.md beside this file
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from l0ref.data.idx import checksum, read_idx
from l0ref.errors import DataError

SHA256 = "663fb76c4498a2e6a9ea2c09e2b4c4ed5dacbb5707e8f598be22c9624f62bb4e"  # decoded bytes, images then labels


def read_digits(folder: Path = Path(__file__).parent) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (1797, 8, 8) with values 0 to 16 and labels (1797,) with values 0 to 9, in the order of the source."""
    images = read_idx(folder / "digits-images-idx3-ubyte.gz")
    labels = read_idx(folder / "digits-labels-idx1-ubyte.gz")
    found = checksum(images, labels)
    if found != SHA256:
        raise DataError(f"{folder} holds digits with SHA-256 {found}, expected {SHA256}; install l0ref again")
    return images, labels
