"""ONNX files, written field by field in protocol buffers: the package onnx is not needed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

Field = tuple[int, int | str | bytes]

OPERATORS = {"mean": ("GlobalAveragePool", "image"), "pooled": ("Flatten", "mean"), "tap0": ("Relu", "image")}
"""Unary operators, {output: (operator, input)}: the mean colour of each image, and a feature map."""


def varint(value: int) -> bytes:
    data = b""
    while value > 127:
        data, value = data + bytes([value & 127 | 128]), value >> 7
    return data + bytes([value])


def message(*fields: Field) -> bytes:
    """A message of (field number, value): integers as varints, texts, bytes and messages with their length."""
    encoded = b""
    for number, value in fields:
        if isinstance(value, int):
            encoded += varint(number << 3) + varint(value)
            continue
        data = value.encode() if isinstance(value, str) else value
        encoded += varint(number << 3 | 2) + varint(len(data)) + data
    return encoded


def described(name: str, sizes: tuple[int | str, ...], element: int = 1) -> bytes:
    """The name, type and shape of an input or an output."""
    dims = [(1, message((1, size) if isinstance(size, int) else (2, size))) for size in sizes]
    return message((1, name), (2, message((1, message((1, element), (2, message(*dims)))))))


def onnx(
    path: Path,
    shape: tuple[int | str, ...],
    operators: Mapping[str, tuple[str, str]],
    element: int = 1,
    nodes: tuple[bytes, ...] = (),
    tensors: tuple[bytes, ...] = (),
) -> Path:
    """Write a network of unary operators, {output: (operator, input)}; `nodes` and `tensors` are further messages."""
    made = [(1, message((1, fed), (2, name), (4, kind))) for name, (kind, fed) in operators.items()]
    sizes = {name: tuple(f"{name}{i}" for i in range(2 if name == "pooled" else 4)) for name in operators}
    outputs = [(12, described(name, sizes[name], element)) for name in operators]
    more = [*((1, node) for node in nodes), *((5, tensor) for tensor in tensors)]
    graph = message(*more, *made, (2, "g"), (11, described("image", shape, element)), *outputs)
    path.write_bytes(message((1, 8), (8, message((2, 13))), (7, graph)))
    return path
