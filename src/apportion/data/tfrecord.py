"""TFRecord files and the tf.train.Example in each record, without TensorFlow.

A record is [length: uint64][masked CRC32C of length: uint32][data][masked CRC32C of data: uint32], little-endian.
An Example is a protocol buffer: a map from names to one list each, of bytes, floats (packed) or int64 (packed varints).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from apportion.data.optional import need

Values = np.ndarray | list[memoryview]  # (n,) float32 or int64; or n byte strings, which are views into the record
_HEADER, _FOOTER = struct.Struct("<QI"), struct.Struct("<I")


class Damaged(ValueError):
    """Bytes that are no TFRecord, or no Example; the message says what is wrong and nothing about where."""


def masked_crc(data: bytes) -> int:
    """CRC32C as TFRecord stores it: rotated right by 15 bits, plus a constant."""
    crc = need("google_crc32c", "RLDS").value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def record_offsets(path: Path) -> tuple[list[tuple[int, int]], str]:
    """(offset of the data, bytes of the data) of each whole record, found by skipping from length to length.

    Second: what ends the list before the end of the file ("" if nothing does). Only lengths' checksums are looked at.
    """
    found: list[tuple[int, int]] = []
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            at = 0
            while at < size:
                file.seek(at)
                header = file.read(_HEADER.size)
                if len(header) < _HEADER.size:
                    return found, f"the file is cut short at byte {size}"
                length, crc = _HEADER.unpack(header)
                if crc != masked_crc(header[:8]):
                    return found, f"damaged at byte {at}: the checksum of a record's length is wrong"
                start, at = at + _HEADER.size, at + _HEADER.size + length + _FOOTER.size
                if at > size:
                    return found, f"the file is cut short at byte {size}"
                found.append((start, length))
    except OSError as error:
        return found, f"it cannot be read ({error.strerror or error})"
    return found, "" if found else "the file is empty"


def read_record(path: Path, start: int, length: int) -> bytes:
    """The data of one record, its checksum compared. Raises Damaged."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            data, footer = file.read(length), file.read(_FOOTER.size)
    except OSError as error:
        raise Damaged(f"it cannot be read ({error.strerror or error})") from error
    if len(footer) < _FOOTER.size:
        raise Damaged("the file is cut short")
    if _FOOTER.unpack(footer)[0] != masked_crc(data):
        raise Damaged("its checksum (CRC32C) is wrong: the bytes on disk are damaged")
    return data


def write_record(file: BinaryIO, data: bytes) -> None:
    """Appends one record."""
    length = struct.pack("<Q", len(data))
    file.write(length + struct.pack("<I", masked_crc(length)))
    file.write(data)
    file.write(struct.pack("<I", masked_crc(data)))


def parse_example(record: bytes) -> dict[str, Values]:
    """Name -> list of one tf.train.Example. Raises Damaged for what is none."""
    values: dict[str, Values] = {}
    for number, features in fields(memoryview(record)):
        if number != 1:
            continue
        for _, entry in fields(nested(features)):
            pair = {n: nested(value) for n, value in fields(nested(entry))}
            try:
                name = str(pair.get(1, b""), "utf-8")
            except UnicodeDecodeError as error:
                raise Damaged("a feature's name is no text") from error
            values[name] = _feature(pair.get(2, memoryview(b"")))
    return values


def _feature(data: memoryview) -> Values:
    for number, body in fields(data):
        if number == 1:
            return [nested(value) for n, value in fields(nested(body)) if n == 1]
        if number == 2:
            return _floats(nested(body))
        if number == 3:
            return _integers(nested(body))
    return []


def _floats(data: memoryview) -> np.ndarray:
    """FloatList: packed runs, or one fixed32 each in files of old writers."""
    runs = [value for number, value in fields(data) if number == 1]
    if any(isinstance(run, int) or len(run) % 4 for run in runs):
        raise Damaged("a list of floats has bytes left over")
    parts = [np.frombuffer(run, "<f4") for run in runs if not isinstance(run, int)]
    return (parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, "<f4"), *parts])).astype(np.float32)


def _integers(data: memoryview) -> np.ndarray:
    """Int64List: packed varints, or one varint each in files of old writers."""
    parts = [np.empty(0, np.int64)]
    for number, run in fields(data):
        if number == 1:
            parts.append(np.array([run], np.uint64).view(np.int64) if isinstance(run, int) else _varints(run))
    return np.concatenate(parts)


def _varints(data: memoryview) -> np.ndarray:
    raw = np.frombuffer(data, np.uint8)
    last = np.flatnonzero(raw < 128)  # the last byte of each number: its high bit is 0
    if len(last) == len(raw):
        return raw.astype(np.int64)
    if raw[-1] >= 128:
        raise Damaged("a list of whole numbers is cut short")
    first = np.concatenate([[0], last[:-1] + 1])
    place = np.arange(len(raw)) - np.repeat(first, last - first + 1)
    if place.max() > 9:
        raise Damaged("a whole number has more than 64 bits")
    shifted = (raw & 127).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.bitwise_or.reduceat(shifted, first).view(np.int64)


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) of one protocol-buffer message: an int for a varint, else the value's bytes."""
    at, size = 0, len(data)
    while at < size:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            length, at = _varint(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise Damaged(f"a field of wire type {wire}: this is no tf.train.Example")
        if at + length > size:
            raise Damaged("a field reaches beyond the end of the record")
        yield number, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
    raise Damaged("a number is cut short")


def nested(value: int | memoryview) -> memoryview:
    """The bytes of a message within a message. Raises Damaged for a number."""
    if isinstance(value, int):
        raise Damaged("a number where a message belongs: this is no tf.train.Example")
    return value


def message(number: int, data: bytes) -> bytes:
    """A field of bytes, or a message within a message, to be written."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
