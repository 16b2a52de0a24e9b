"""A stand-in for systemd-creds(1) of a machine that is a file: python systemd_creds.py MACHINE ...

It encrypts with the content of the file, writes the --with-key it was given before the result, and
decrypts nothing of another machine.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import sys
from pathlib import Path


def mask(machine: bytes, name: str, size: int) -> bytes:
    return hashlib.shake_256(machine + name.encode()).digest(size)


def encrypt(machine: bytes, name: str, with_key: str, secret: bytes) -> bytes:
    hidden = bytes(a ^ b for a, b in zip(secret, mask(machine, name, len(secret)), strict=True))
    stamp = hmac.digest(machine, hidden, "sha256")
    return b" ".join((with_key.encode(), base64.b64encode(hidden), base64.b64encode(stamp)))


def decrypt(machine: bytes, name: str, encrypted: bytes) -> bytes:
    _, hidden, stamp = encrypted.split()
    secret = base64.b64decode(hidden)
    if hmac.digest(machine, secret, "sha256") != base64.b64decode(stamp):
        sys.exit("Failed to decrypt: encrypted on another machine")
    return bytes(a ^ b for a, b in zip(secret, mask(machine, name, len(secret)), strict=True))


def main(words: list[str]) -> None:
    machine = Path(words[0]).read_bytes()
    options = dict(word.lstrip("-").split("=") for word in words[1:] if "=" in word)
    commands = [word for word in words[1:] if not word.startswith("-")]
    if commands == ["has-tpm2"]:
        sys.exit(b"tpm" not in machine)
    data, name = sys.stdin.buffer.read(), options["name"]
    if commands == ["encrypt"]:
        sys.stdout.buffer.write(encrypt(machine, name, options["with-key"], data))
    else:
        sys.stdout.buffer.write(decrypt(machine, name, data))


if __name__ == "__main__":
    main(sys.argv[1:])
