"""The former name of `l0ref.vectors`: importing it gives that package."""

import sys

from l0ref import vectors

sys.modules[__name__] = vectors
