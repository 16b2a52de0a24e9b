"""Damage of vault.db: never a wrong secret, never a crash, never more lost than was damaged."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import ConfigError, StoreError
from gatewayd.secretstore.vault import admin
from gatewayd.secretstore.vault.vault import Vault
from gatewayd.testing.contracts.secretstore import group, tend
from tests.support.vaults import DEVELOPMENT

REFS = [SecretRef("cloud", DeviceId(f"child-{n}"), 1) for n in range(40)]


def secret(ref: SecretRef) -> Secret:
    return Secret(f"the secret of {ref.device}".encode())


@cache
def healthy() -> tuple[bytes, bytes]:
    """A vault in the middle of a rotation, and its key."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with closing(Vault(DEVELOPMENT, directory)) as vault:
            with group(vault):
                for ref in REFS:
                    vault.put(ref, secret(ref))
            with group(vault):
                admin.rotate(vault)
            with group(vault):
                vault.put(REFS[0], secret(REFS[0]))
        return (directory / "vault.db").read_bytes(), (directory / "development.key").read_bytes()


def served(whole: bytes) -> int:
    """Open a file and read what can be read; return how many secrets were right."""
    directory = Path(tempfile.mkdtemp())
    try:
        (directory / "vault.db").write_bytes(whole)
        (directory / "development.key").write_bytes(healthy()[1])
        (directory / "development.key").chmod(0o600)
        return _served(directory)
    finally:
        shutil.rmtree(directory)


def _served(directory: Path) -> int:
    right = 0
    try:
        with closing(Vault(DEVELOPMENT, directory)) as vault:
            for _ in range(3):
                tend(vault, 0)
            for ref in REFS:
                try:
                    assert vault.get(ref) == secret(ref)
                    right += 1
                except StoreError:
                    pass  # it is reported, and not guessed
    except (ConfigError, StoreError):
        return right
    return right


def test_a_healthy_file_serves() -> None:
    assert served(healthy()[0]) == len(REFS)


@settings(max_examples=150)
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_gives_no_wrong_secret(at: float, bit: int) -> None:
    damaged = bytearray(healthy()[0])
    damaged[int(at * len(damaged))] ^= 1 << bit
    served(bytes(damaged))


@settings(max_examples=50)
@given(size=st.floats(0, 1))
def test_a_file_cut_short_gives_no_wrong_secret(size: float) -> None:
    whole = healthy()[0]
    served(whole[: int(size * len(whole))])


@settings(max_examples=50)
@given(one=st.integers(0), two=st.integers(0))
def test_swapped_pages_give_no_wrong_secret(one: int, two: int) -> None:
    whole, size = healthy()[0], 4096
    pages = [whole[at : at + size] for at in range(0, len(whole), size)]
    a, b = one % len(pages), two % len(pages)
    pages[a], pages[b] = pages[b], pages[a]
    served(b"".join(pages))
