"""Without mpmath (extra `crosscheck`) the generator cannot be imported, so its doctests are left out."""

from __future__ import annotations

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("mpmath") else ["*.py"]
