"""AMQP 1.0 for the Service Bus double: types, frames and message sections, written from the specification and independent of any client's codec."""

from __future__ import annotations

import struct
import uuid
from typing import Any


class Symbol(str):
    """A symbol."""

    __slots__ = ()


class UInt(int):
    """A 32-bit unsigned."""


class ULong(int):
    """A 64-bit unsigned."""


class UByte(int):
    """An 8-bit unsigned."""


class UShort(int):
    """A 16-bit unsigned."""


class Int(int):
    """A 32-bit signed; a plain int is a 64-bit signed."""


class Stamp(int):
    """Milliseconds since 1970."""


class Raw(bytes):
    """An encoded value."""


class Symbols(list[str]):
    """An array of symbols."""


class Described:
    """A described value."""

    def __init__(self, code: Any, value: Any) -> None:
        self.code, self.value = code, value


def encode(value: Any) -> bytes:
    """Return a value as AMQP has it; its Python type chooses the AMQP type."""
    match value:
        case None:
            return b"\x40"
        case Raw():
            return bytes(value)
        case bool():
            return b"\x41" if value else b"\x42"
        case Described():
            return (
                b"\x00" + (encode(ULong(value.code)) if isinstance(value.code, int) else encode(value.code)) + encode(value.value)
            )
        case UInt():
            return b"\x70" + struct.pack(">I", value)
        case ULong():
            return b"\x53" + bytes([value]) if value < 256 else b"\x80" + struct.pack(">Q", value)
        case UByte():
            return b"\x50" + bytes([value])
        case UShort():
            return b"\x60" + struct.pack(">H", value)
        case Int():
            return b"\x71" + struct.pack(">i", value)
        case Stamp():
            return b"\x83" + struct.pack(">q", value)
        case int():
            return b"\x81" + struct.pack(">q", value)
        case float():
            return b"\x82" + struct.pack(">d", value)
        case uuid.UUID():
            return b"\x98" + value.bytes
        case Symbol():
            raw = value.encode()
            return b"\xb3" + struct.pack(">I", len(raw)) + raw
        case str():
            raw = value.encode()
            return b"\xb1" + struct.pack(">I", len(raw)) + raw
        case bytes():
            return b"\xb0" + struct.pack(">I", len(value)) + value
        case Symbols():
            items = b"".join(bytes([len(one)]) + one.encode() for one in value)
            return b"\xf0" + struct.pack(">II", len(items) + 5, len(value)) + b"\xa3" + items
        case list() | tuple():
            items = b"".join(encode(one) for one in value)
            return b"\xd0" + struct.pack(">II", len(items) + 4, len(value)) + items
        case dict():
            items = b"".join(encode(name) + encode(one) for name, one in value.items())
            return b"\xd1" + struct.pack(">II", len(items) + 4, len(value) * 2) + items
        case _:
            raise TypeError(type(value))


_FIXED: dict[int, tuple[str, type]] = {
    0x50: (">B", UByte), 0x60: (">H", UShort), 0x70: (">I", UInt), 0x80: (">Q", ULong), 0x51: (">b", Int), 0x61: (">h", Int),
    0x71: (">i", Int), 0x81: (">q", int), 0x72: (">f", float), 0x82: (">d", float), 0x83: (">q", Stamp), 0x52: (">B", UInt),
    0x53: (">B", ULong), 0x54: (">b", Int), 0x55: (">b", int),
}  # fmt: skip
_CONSTANT: dict[int, Any] = {0x40: None, 0x41: True, 0x42: False, 0x43: UInt(0), 0x44: ULong(0), 0x45: []}


def decode(data: bytes, at: int = 0) -> tuple[Any, int]:
    """Return a value and where it ends."""
    code = data[at]
    at += 1
    if code == 0x00:
        descriptor, at = decode(data, at)
        value, at = decode(data, at)
        return Described(descriptor, value), at
    return _value(code, data, at)


def _value(code: int, data: bytes, at: int) -> tuple[Any, int]:
    if code in _CONSTANT:
        return _CONSTANT[code], at
    if code in _FIXED:
        shape, kind = _FIXED[code]
        size = struct.calcsize(shape)
        return kind(struct.unpack_from(shape, data, at)[0]), at + size
    if code == 0x56:
        return data[at] == 1, at + 1
    if code == 0x98:
        return uuid.UUID(bytes=bytes(data[at : at + 16])), at + 16
    wide = code & 0xF0 in {0xB0, 0xD0, 0xF0}
    size = struct.unpack_from(">I", data, at)[0] if wide else data[at]
    at += 4 if wide else 1
    end = at + size
    match code & 0x0F, code & 0xF0:
        case 0x0, 0xA0 | 0xB0:
            return bytes(data[at:end]), end
        case 0x1, 0xA0 | 0xB0:
            return bytes(data[at:end]).decode(), end
        case 0x3, 0xA0 | 0xB0:
            return Symbol(bytes(data[at:end]).decode()), end
        case _:
            pass
    count = struct.unpack_from(">I", data, at)[0] if wide else data[at]
    at += 4 if wide else 1
    if code in {0xE0, 0xF0}:
        inner, at = data[at], at + 1
        found = []
        for _ in range(count):
            one, at = _value(inner, data, at)
            found.append(one)
        return found, end
    found = []
    for _ in range(count):
        one, at = decode(data, at)
        found.append(one)
    return (found if code in {0xC0, 0xD0} else dict(zip(found[::2], found[1::2], strict=True))), end


def fields(data: bytes) -> tuple[int, list[Any], list[bytes], bytes]:
    """Return a performative's code, its fields, their encodings, and the payload after it."""
    descriptor, at = decode(data, 1)
    code = data[at]
    at += 1
    if code == 0x45:
        return int(descriptor), [], [], data[at:]
    wide = code == 0xD0
    size = struct.unpack_from(">I", data, at)[0] if wide else data[at]
    at += 4 if wide else 1
    end = at + size
    count = struct.unpack_from(">I", data, at)[0] if wide else data[at]
    at += 4 if wide else 1
    values, raws = [], []
    for _ in range(count):
        begin = at
        value, at = decode(data, at)
        values.append(value)
        raws.append(bytes(data[begin:at]))
    return int(descriptor), values, raws, data[end:]


WIDTH = {0x10: 10, 0x11: 8, 0x12: 14, 0x13: 11, 0x14: 11, 0x15: 6, 0x16: 3, 0x17: 1, 0x18: 1, 0x40: 1, 0x44: 2}


def frame(channel: int, code: int, values: list[Any], payload: bytes = b"", *, sasl: bool = False) -> bytes:
    """Return a frame with one performative."""
    body = encode(Described(code, [*values, *[None] * (WIDTH[code] - len(values))])) + payload
    return struct.pack(">IBBH", len(body) + 8, 2, 1 if sasl else 0, channel) + body


def sections(data: bytes) -> dict[int, list[tuple[Any, bytes]]]:
    """Return a message's sections by code, each as value and encoding."""
    found: dict[int, list[tuple[Any, bytes]]] = {}
    at = 0
    while at < len(data):
        begin = at
        one, at = decode(data, at)
        found.setdefault(int(one.code), []).append((one.value, bytes(data[begin:at])))
    return found
