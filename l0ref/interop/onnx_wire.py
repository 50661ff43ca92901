"""The size of an ONNX file's structure, found before it is parsed.

A message of two bytes takes 150 bytes in memory, so a file of many megabytes of empty messages would take gigabytes.
The numbers of initialisers make up almost all of a sound file; everything else together is small.
Format: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

GRAPH, INITIALIZER, SPARSE = 7, 5, 15  # numbers of fields of onnx.ModelProto and onnx.GraphProto
MAX_STRUCTURE, MAX_FIELDS = 2**21, 2**16


def is_too_large(data: bytes) -> bool:
    """Return whether names, nodes, shapes and so on exceed 2 MiB or 65,536 fields; stop counting there."""
    left, structure = MAX_FIELDS, len(data)

    def few(start: int, end: int) -> list[tuple[int, int, int]]:
        nonlocal left
        found = list(islice(_fields(data, start, end), left + 1))
        left -= len(found)
        return found if left >= 0 else []

    graphs = [part for number, *part in few(0, len(data)) if number == GRAPH]
    for held in [part for graph in graphs for number, *part in few(*graph) if number in (INITIALIZER, SPARSE)]:
        structure -= max((end - start for _, start, end in few(*held)), default=0)  # its numbers
    return left < 0 or structure > MAX_STRUCTURE


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field of a message; of bytes that are not a message, some of them."""
    while at < end:
        key, at = _varint(data, at)
        if key & 7 == 2:
            size, at = _varint(data, at)
        else:
            size = {0: _varint(data, at)[1] - at, 1: 8, 5: 4}.get(key & 7, end)
        yield key >> 3, at, min(at + size, end)
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(10):
        byte = data[at + i] if at + i < len(data) else 0
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, at + i + 1
    return value, len(data)
