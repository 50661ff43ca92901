"""Safe files: replaced atomically when written, checked byte by byte when read, arrays and JSON only."""

from l0ref.archive.atomic import write_atomic
from l0ref.archive.npz import read_npz, write_npz
from l0ref.archive.strict_json import json_bytes, read_json

__all__ = ["json_bytes", "read_json", "read_npz", "write_atomic", "write_npz"]
