"""Hostile files in formats of other tools: ONNX, written by hand as Protocol Buffers, and safetensors."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from typing import Any

from tests import test_archive_hostile as archives

MIB = 2**20
FLOAT, INT64, STRING = 1, 7, 8


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    found = b""
    while value >= 128:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def field(number: int, value: Any) -> bytes:
    """One field: a whole number, a float, or bytes and text."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    body = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(body)) + body


def node(kind: str, inputs: list[str], output: str, name: str = "n", attributes: bytes = b"") -> bytes:
    parts = [*(field(1, i) for i in inputs), field(2, output), field(3, name), field(4, kind), attributes]
    return field(1, b"".join(parts))


def ints(name: str, *values: int) -> bytes:
    return field(5, field(1, name) + b"".join(field(8, v) for v in values) + field(20, 7))


def tensor(dims: list[int], raw: bytes = b"", *, kind: int = FLOAT, name: str = "w", more: bytes = b"") -> bytes:
    return b"".join(field(1, d) for d in dims) + field(2, kind) + field(8, name) + field(9, raw) + more


def sparse(dims: list[int], at: list[int], name: str = "w") -> bytes:
    values = tensor([len(at)], struct.pack(f"<{len(at)}f", *[1.0] * len(at)), name=name)
    indices = tensor([len(at)], struct.pack(f"<{len(at)}q", *at), kind=INT64, name=name + "i")
    return field(15, field(1, values) + field(2, indices) + b"".join(field(3, d) for d in dims))


def value(name: str, dims: list[int]) -> bytes:
    shape = b"".join(field(1, field(1, d)) for d in dims)
    return field(1, name) + field(2, field(1, field(1, FLOAT) + field(2, shape)))


def model(body: bytes, *, shape: list[int] | None = None, output: str = "y", more: bytes = b"") -> bytes:
    """A file with one input x of these sizes and one output, whose graph begins with `body`."""
    graph = body + field(11, value("x", [1, *(shape or [4])])) + field(12, value(output, [1, 4]))
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 17)) + more


def product(held: bytes) -> bytes:
    return model(node("MatMul", ["x", "w"], "y") + held)


def dense(dims: list[int], raw: bytes = b"", **options: Any) -> bytes:
    return product(field(5, tensor(dims, raw, **options)))


def chained(count: int, *, last: str = "Gelu", name: str = "n") -> bytes:
    steps = [node("Relu", [f"v{i}" if i else "x"], f"v{i + 1}", name) for i in range(count)]
    return model(b"".join(steps) + node(last, [f"v{count}"], "y", name))


def ladder(count: int) -> bytes:
    """v(i+1) = tanh v(i) + relu v(i-1): branches that overlap in Fibonacci's number of ways."""
    steps = [node("Relu", ["x"], "v1")]
    names = ["x", "v1"]
    for i in range(count):
        steps += [node("Tanh", [names[-1]], f"a{i}"), node("Relu", [names[-2]], f"b{i}")]
        steps.append(node("Add", [f"a{i}", f"b{i}"], f"s{i}"))
        names.append(f"s{i}")
    return model(b"".join(steps), output=names[-1])


def nested(count: int) -> bytes:
    """Sums one inside another."""
    down = [node("Relu", [f"d{i}" if i else "x"], f"d{i + 1}") for i in range(count)]
    up = [node("Add", [f"u{i + 1}" if i < count - 1 else f"d{count}", f"d{i}" if i else "x"], f"u{i}")
          for i in reversed(range(count))]  # fmt: skip
    return model(b"".join(down + up), output="u0")


def graphs(depth: int) -> bytes:
    body = b""
    for _ in range(depth):
        body = field(
            1, field(1, "x") + field(2, "y") + field(4, "If") + field(5, field(1, "then_branch") + field(6, body))
        )
    return model(body)


def window(kind: str, *, pads: tuple[int, ...] = (0,) * 4, kernel: tuple[int, ...] = (2, 2), steps: int = 1) -> bytes:
    given = ints("kernel_shape", *kernel) + ints("pads", *pads) + ints("strides", steps, steps)
    weight = field(5, tensor([1, 1, 1, 1], bytes(4)))
    inputs = ["x", "w"] if kind == "Conv" else ["x"]
    return model(node(kind, inputs, "y", attributes=given) + weight, shape=[1, 4, 4])


def tensors(header: Any, data: bytes = b"") -> bytes:
    """A safetensors file."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def described(kind: str, shape: list[int], start: int, stop: int) -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [start, stop]}


ELSEWHERE = field(13, field(1, "location") + field(2, "/etc/passwd"))
ONNX: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty nodes": ("5 MiB that are 75 times as much in memory", lambda: field(7, b"\x0a\0" * (5 * MIB // 2))),
    "empty initialisers": ("the same as tensors", lambda: model(field(5, b"") * (5 * MIB // 2))),
    "empty attributes": ("the same within one node", lambda: model(field(1, field(5, b"") * (5 * MIB // 2)))),
    "empty metadata": ("the same beside the graph", lambda: model(b"", more=field(14, b"") * (5 * MIB // 2))),
    "empty entries of a tensor": ("the same within one tensor", lambda: dense([4], more=field(13, b"") * (2 * MIB))),
    "huge tensor": ("12 TiB that are not there", lambda: dense([2**40, 3])),
    "large tensor": ("3 GiB that are not there", lambda: dense([2**28, 3])),
    "sizes that overflow": ("2^64 numbers", lambda: dense([2**32, 2**32])),
    "no numbers of a huge size": ("2^62 rows of no columns", lambda: dense([0, 2**62])),
    "negative sizes": ("a tensor of -4 x -4", lambda: dense([-4, -4], bytes(64))),
    "more numbers than sizes": ("a tensor of 2 x 2 with 5 numbers", lambda: dense([2, 2], bytes(20))),
    "text as weights": ("a tensor of strings", lambda: dense([1], kind=STRING, more=field(6, "a"))),
    "unknown type": ("type 99", lambda: dense([4, 4], bytes(64), kind=99)),
    "external data": ("a file outside, read as weights", lambda: dense([4, 4], more=ELSEWHERE + field(14, 1))),
    "external data that is not declared": ("the same", lambda: dense([4, 4], bytes(64), more=ELSEWHERE)),
    "external data of a sparse tensor": ("the same", lambda: product(
        field(15, field(1, tensor([1], more=ELSEWHERE + field(14, 1))) + field(2, tensor([1], bytes(8), kind=INT64))
              + field(3, 4) + field(3, 4)))),
    "external data of a constant": ("the same", lambda: model(node("Constant", [], "w", attributes=field(
        5, field(1, "value") + field(5, tensor([4, 4], more=ELSEWHERE + field(14, 1))) + field(20, 4))))),
    "sparse tensor of 4 GiB": ("one number stored", lambda: product(sparse([2**15, 2**15], [3]))),
    "hundred sparse tensors": ("16 million zeros each", lambda: product(
        b"".join(sparse([2**12, 2**12], [], f"w{i}") for i in range(100)))),
    "sparse index beyond": ("a number outside of its tensor", lambda: product(sparse([4, 4], [16]))),
    "sparse index below": ("a number before its tensor", lambda: product(sparse([4, 4], [-1]))),
    "sparse, twice": ("one place for two numbers", lambda: product(sparse([4, 4], [3, 3]))),
    "sparse, negative sizes": ("a tensor of -4 x -4", lambda: product(sparse([-4, -4], [3]))),
    "cycle": ("two nodes that wait for each other", lambda: model(node("Relu", ["b"], "y") + node("Relu", ["y"], "b"))),
    "node that reads itself": ("a cycle of one", lambda: model(node("Relu", ["y"], "y"))),
    "value given twice": ("a cycle of names", lambda: model(node("Relu", ["x"], "y") + node("Tanh", ["y"], "y"))),
    "input given again": ("a cycle through the input", lambda: model(node("Relu", ["x"], "x"), output="x")),
    "identity of itself": ("a cycle of names", lambda: model(node("Identity", ["y"], "y"))),
    "identity, given again": ("a cycle of names through a node", lambda: model(
        node("Relu", ["x"], "y") + node("Identity", ["y"], "y"))),
    "branches that overlap": ("300 sums to be walked in 2^200 ways", lambda: ladder(300)),
    "sums 1,500 deep": ("recursion without end", lambda: nested(1500)),
    "graphs 2,000 deep": ("recursion in the parser", lambda: graphs(2000)),
    "2,000 nodes of one name": ("a name sought for each, from the first", lambda: chained(2000)),
    "20,000 nodes": ("more than any network has", lambda: chained(20_000)),
    "name of 1 MiB": ("a message of 1 MiB", lambda: model(node("Gelu", ["x"], "y", "n" * MIB))),
    "name of many lines": ("a message of many lines", lambda: model(node("Gelu\nGelu", ["x"], "y", "a\nb"))),
    "huge samples": ("an input of 2^62 numbers", lambda: model(node("Flatten", ["x"], "y"), shape=[2**31, 2**31])),
    "negative samples": ("an input of -4", lambda: model(node("Relu", ["x"], "y"), shape=[-4])),
    "huge window": ("a window of 2^62", lambda: window("MaxPool", kernel=(2**31, 2**31))),
    "huge padding": ("an image of 2^120", lambda: window("Conv", kernel=(1, 1), pads=(2**60,) * 4)),
    "negative padding": ("an image of less than nothing", lambda: window("AveragePool", pads=(-4,) * 4)),
    "stride 0": ("a division by zero", lambda: window("MaxPool", steps=0)),
    "window of three sizes": ("an axis that images lack", lambda: window("MaxPool", kernel=(2, 2, 2))),
    "no inputs": ("a node without what it computes from", lambda: model(node("Relu", [], "y"))),
    "identity of nothing": ("the same", lambda: model(node("Identity", [], "y"))),
    "slope that is no number": ("NaN in every result", lambda: model(
        node("LeakyRelu", ["x"], "y", attributes=field(5, field(1, "alpha") + field(2, float("nan")) + field(20, 1))))),
    "operator of others": ("code of others under a name of ONNX", lambda: model(
        field(1, field(1, "x") + field(2, "y") + field(4, "Relu") + field(7, "com.evil")))),
    "cut": ("half a file", lambda: dense([64, 64], bytes(2**14))[:9000]),
    "pickle": ("a pickle under another name", lambda: pickle.dumps(archives.Trap())),
    "zeros": ("1 MiB of zeros", lambda: bytes(MIB)),
}  # fmt: skip
SAFETENSORS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "header of 2^63": ("a size beyond the file", lambda: struct.pack("<Q", 2**63) + b"{}"),
    "header of 9 MiB": ("memory, 25 times as much", lambda: tensors(b'{"a":[' + b"[]," * (3 * MIB) + b"0]}")),
    "header of lists": ("recursion without end", lambda: tensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")),
    "header of many tensors": ("140,000 tensors of nothing", lambda: tensors(
        {f"{i}": described("F32", [0], 0, 0) for i in range(140_000)})),
    "huge tensor": ("4 TiB that are not there", lambda: tensors({"a": described("F32", [2**40], 0, 2**42)})),
    "sizes that lie": ("more numbers than bytes", lambda: tensors({"a": described("F32", [2**40], 0, 16)}, bytes(16))),
    "sizes that overflow": ("2^64 numbers", lambda: tensors({"a": described("F32", [2**32, 2**32], 0, 0)})),
    "negative sizes": ("-4 numbers", lambda: tensors({"a": described("F32", [-4], 0, 16)}, bytes(16))),
    "tensors that overlap": ("one number for two", lambda: tensors(
        {"a": described("F32", [4], 0, 16), "b": described("F32", [4], 8, 24)}, bytes(24))),
    "tensor twice": ("two values for one name", lambda: tensors(
        b"{" + b",".join(2 * [b'"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}']) + b"}", b"a")),
    "unknown type": ("a type that NumPy lacks", lambda: tensors({"a": described("BF16", [1], 0, 2)}, bytes(2))),
    "no configuration": ("arrays alone", lambda: tensors({"a": described("F32", [1], 0, 4)}, bytes(4))),
    "configuration that is a number": ("metadata of another kind", lambda: tensors({"__metadata__": {"l0ref": 1}})),
    "configuration that is a list": ("the same", lambda: tensors({"__metadata__": {"l0ref": "[]", "sha256": "0"}})),
    "pickle": ("a pickle under another name", lambda: pickle.dumps(archives.Trap())),
    "nothing": ("an empty file", lambda: b""),
}  # fmt: skip
