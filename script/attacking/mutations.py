"""How an input is made from others: bits, bytes, numbers, blocks, words, and two inputs in one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeAlias

Mutation: TypeAlias = Callable[[random.Random, bytearray, Sequence[bytes]], None]
"""Changes an input.  The last argument: words of its format, and other inputs."""

LONGEST = 8192
"""Bytes of an input."""

_NUMBERS = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff\xff",
    b"\0\0",
    b"\x7f\xff\xff\xff",
    b"\xff" * 4,
)
_TEXTS = (
    b"-1", b"0", b"1e999", b"NaN", b"99999999999999999999", b"null", b"true", b"{}", b"[]", b'""',
    b"\xc0\x80", b"\xed\xa0\x80", b"\xef\xbb\xbf", "\u202e".encode(), b"\x1b[31m", b"\r\n", b"'",
    b'"', b"\\", b"../", b"%s", b"{0}", b".",
)  # fmt: skip


def mutated(chance: random.Random, data: bytes, words: Sequence[bytes]) -> bytes:
    """Return another input, by some changes of one.  words: of its format, and other inputs."""
    changed = bytearray(data)
    for _ in range(1 << chance.randrange(5)):
        chance.choice(MUTATIONS)(chance, changed, words)
    return bytes(changed[:LONGEST])


def _flip(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _replace(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[chance.randrange(len(data))] = chance.randrange(256)


def _number(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    number, at = chance.choice(_NUMBERS), chance.randrange(len(data) + 1)
    data[at : at + len(number)] = number


def _delete(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    del data[at : at + 1 + chance.randrange(16)]


def _repeat(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at, length = chance.randrange(len(data) + 1), 1 + chance.randrange(32)
    data[at:at] = data[at : at + length] * (1 + chance.randrange(8))


def _insert(chance: random.Random, data: bytearray, words: Sequence[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    data[at:at] = chance.choice((*words, *_TEXTS))


def _overwrite(chance: random.Random, data: bytearray, words: Sequence[bytes]) -> None:
    at, word = chance.randrange(len(data) + 1), chance.choice((*words, *_TEXTS))
    data[at : at + len(word)] = word


def _splice(chance: random.Random, data: bytearray, words: Sequence[bytes]) -> None:
    if words:
        other = chance.choice(words)
        data[chance.randrange(len(data) + 1) :] = other[chance.randrange(len(other) + 1) :]


MUTATIONS: Sequence[Mutation] = (
    _flip, _replace, _number, _delete, _repeat, _insert, _overwrite, _splice,
)  # fmt: skip
