"""Conformance vectors: inputs and exact results against which any implementation of l0 compression can be checked.

    names()               the sets, in order
    load(name)            one set: its cases, checked entry by entry as it is read
    run(adapter)          check an implementation against the sets: passed, failed, or not provided
    load_adapter(where)   "package.module" or "package.module:Name" -> the adapter in it
    export(folder)        copy the files

The results were computed at 50 digits or in rational arithmetic by a script that does not use this
package, and rounded once. The pages of the documentation describe the files and every function.
"""

from l0ref.vectors.adapter import load_adapter
from l0ref.vectors.files import Case, Expected, VectorSet, export, load, names
from l0ref.vectors.results import Deviation, Report, SetResult
from l0ref.vectors.runner import run

__all__ = [
    "Case",
    "Deviation",
    "Expected",
    "Report",
    "SetResult",
    "VectorSet",
    "export",
    "load",
    "load_adapter",
    "names",
    "run",
]
