"""A recovery key as words to write down: eight words of six letters, each with its own check.

The letters are modhex, as systemd-cryptenroll(1) shows its recovery keys: they lie on the same keys
of nearly all keyboards.  A word has five letters of the key, 20 bits, and one that checks them: a
sum over GF(16) with a weight of its own for each letter and for the number of the word.  So every
wrong letter, every two letters exchanged, and every two words exchanged are found, and the word is
named.  What the check misses is found by the vault: its slot is named after the key.

The 160 bits are the input of HKDF (RFC 5869), which gives the private key of X25519 (RFC 7748), a
curve of 128 bits of strength.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gatewayd.errors import ConfigError
from gatewayd.secretstore.vault import crypto

LETTERS = "cbdefghijklnrtuv"
"""The letter of each value of four bits."""
WORDS, LENGTH = 8, 6
SEED_SIZE = WORDS * (LENGTH - 1) // 2
"""Bytes of the key in the words."""

MAX_TEXT = 1024
"""Characters of a text that may be the words: those, and what separates them."""

_WEIGHTS = (2, 3, 4, 5, 6)
"""Of the letters of a word, in GF(16): different, and none that of the check itself, 1, or of the
number of the word, 7."""
_NUMBER_WEIGHT = 7
_MODULUS = 0b10011  # x^4 + x + 1


def make(random: Callable[[int], bytes]) -> tuple[str, ...]:
    """Return a new recovery key.  random: returns so many unpredictable bytes."""
    return encode(random(SEED_SIZE))


def encode(seed: bytes) -> tuple[str, ...]:
    """Return the words of a key of SEED_SIZE bytes."""
    values = [int(digit, 16) for digit in seed.hex()]
    size = LENGTH - 1
    parts = [values[at : at + size] for at in range(0, len(values), size)]
    return tuple(
        "".join(LETTERS[value] for value in (*part, _check(number, part)))
        for number, part in enumerate(parts)
    )


def decode(text: str) -> bytes:
    """Return the key in the words, which blanks, hyphens or ends of line separate, in either case.

    Raises ConfigError, which names the word that is wrong, and never says what it is.
    """
    words = split(text)
    if len(words) == 1 and len(words[0]) == WORDS * LENGTH:
        words = [words[0][at : at + LENGTH] for at in range(0, WORDS * LENGTH, LENGTH)]
    for number, word in enumerate(words[:WORDS]):
        if fault := fault_of(number, word):
            raise ConfigError(fault)
    if len(words) != WORDS:
        raise ConfigError(
            f"a recovery key has {WORDS} words, and here are {len(words)}: type all of them"
        )
    values = (LETTERS.index(letter) for word in words for letter in word[:-1])
    return bytes.fromhex("".join(f"{value:x}" for value in values))


def split(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return text[:MAX_TEXT].replace("-", " ").lower().split()


def fault_of(number: int, word: str) -> str:
    """Return what is wrong with a word, as a sentence; "" for nothing.

    number: of the word, from 0.
    """
    name = f"word {number + 1} of the recovery key"
    if len(word) != LENGTH:
        return f"{name} must have {LENGTH} letters, not {len(word)}"
    if not set(word) <= set(LETTERS):
        return f"{name} has a letter that none has: they are {LETTERS}"
    values = [LETTERS.index(letter) for letter in word]
    if _check(number, values[:-1]) != values[-1]:
        return f"{name} is mistyped, or not in its place: compare it with what was written down"
    return ""


def is_words(data: bytes) -> bool:
    """Whether a file has the words of a recovery key, rather than a private key as PEM."""
    return len(data) <= MAX_TEXT and b"-----BEGIN" not in data


def private_pem(seed: bytes) -> bytes:
    """Return the private key of a key in words, PKCS#8."""
    return _key(seed).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(seed: bytes) -> bytes:
    """Return its public key: all that a vault gets of it."""
    public = _key(seed).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def lines(words: Sequence[str], each: int = 4) -> Iterator[str]:
    """Yield the lines by which the words are shown.  each: words of a line."""
    for at in range(0, len(words), each):
        yield "    " + " ".join(words[at : at + each])


def _key(seed: bytes) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(crypto.derive(seed, b"gatewayd-recovery-words"))


def _check(number: int, values: Sequence[int]) -> int:
    """Return the value of the letter that checks a word."""
    total = _product(_NUMBER_WEIGHT, number)
    for weight, value in zip(_WEIGHTS, values, strict=True):
        total ^= _product(weight, value)
    return total


def _product(a: int, b: int) -> int:
    """Multiply in GF(16)."""
    total = 0
    while b:
        total ^= a if b & 1 else 0
        a = a << 1 ^ (_MODULUS if a & 8 else 0)
        b >>= 1
    return total
