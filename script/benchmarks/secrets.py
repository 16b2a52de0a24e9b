"""What it costs to keep a secret: the vault, beside plain SQLite and beside keyrings."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import StoreError
from gatewayd.runtime.sqlite import PRAGMAS
from gatewayd.secretstore.keyring.store import KeyringSettings, KeyringStore
from gatewayd.secretstore.store import SecretStore, entry_name
from gatewayd.secretstore.vault.vault import Vault, VaultSettings
from script.benchmarks.table import Figure
from tests.support.keyrings import PASSWORD, FileKeyring, SecretService

ROUNDS = 5
SINGLE = 200  # puts, each in a transaction of its own
GROUP = 100  # puts in one transaction
MANY = 10_000
RING = 50  # of each measurement of a keyring
DISK = "/var/tmp"  # noqa: S108  # a disk: /tmp may lie in memory, whose sync costs nothing
SESSION_BUS = "DBUS_SESSION_BUS_ADDRESS"
SECRET = b"vIqp0cGZjbqHPiLoxUYkEKQ5C6p5DwWC"


class Plain:
    """Text in an SQLite file, as durable as the vault, in the clear."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        for pragma in PRAGMAS:
            self._db.execute(pragma)
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS secret "
            "(username TEXT, service TEXT, value BLOB, UNIQUE (username, service))"
        )

    def begin(self) -> None:
        self._db.execute("BEGIN")

    def commit(self) -> None:
        self._db.execute("COMMIT")

    def put(self, ref: SecretRef, secret: Secret) -> None:
        service, username = entry_name(ref)
        row = (username, service, secret.reveal())
        self._db.execute("REPLACE INTO secret VALUES (?, ?, ?)", row)

    def get(self, ref: SecretRef) -> Secret:
        service, username = entry_name(ref)
        sql = "SELECT value FROM secret WHERE username = ? AND service = ?"
        return Secret(self._db.execute(sql, (username, service)).fetchone()[0])

    def close(self) -> None:
        self._db.close()


async def measure() -> list[Figure]:
    """Measure all; in a thread, as all of it blocks."""
    return await asyncio.to_thread(_measure)


def _measure() -> list[Figure]:
    logging.getLogger("gatewayd").addHandler(logging.NullHandler())
    with tempfile.TemporaryDirectory(prefix="gatewayd-bench-", dir=DISK) as directory:
        return [*_vault(Path(directory)), *_keyrings(Path(directory))]


def _vault(directory: Path) -> Iterator[Figure]:
    with closing(_open(directory)) as vault, closing(Plain(directory / "plain.db")) as plain:
        refs = _refs(MANY)
        single = _beside(lambda store, n: _put(store, _part(refs, n, SINGLE), 1), vault, plain)
        grouped = _beside(
            lambda store, n: _put(store, _part(refs, n, MANY // ROUNDS), GROUP), vault, plain
        )
        gets = _beside(lambda store, _: _get(store, refs), vault, plain)
    yield from _figures("durable puts, one at a time", SINGLE, single, 3.0)
    yield from _figures(f"durable puts, {GROUP} at a time", MANY // ROUNDS, grouped)
    yield from _figures("gets", MANY, gets)
    opened = _timed(lambda: _open(directory).close())
    yield Figure(f"vault: open with {MANY:,} secrets", opened * 1000, "ms", 500,
                 note="with SQLite's check of the whole file")  # fmt: skip


def _keyrings(directory: Path) -> Iterator[Figure]:
    (directory / "opener").write_text(PASSWORD)
    ring = FileKeyring()
    ring.file_path = str(directory / "ring.cfg")
    yield from _ring("encrypted file of keyrings.alt", ring, directory)
    if shutil.which("gnome-keyring-daemon") is None:
        return
    (directory / "service").mkdir()
    service = SecretService(directory / "service")
    with _session_bus(service.address), service.running():
        from keyring.backends.SecretService import Keyring  # noqa: PLC0415  # it is not everywhere

        yield from _ring("Secret Service (gnome-keyring)", Keyring(), directory)
        settings = KeyringSettings("SecretService")
        with closing(KeyringStore(settings, directory / "store")) as store:
            took = _put(store, _refs(RING), 1) / RING
            yield Figure("  as our store, listed and read back: puts", 1 / took, "a second")


@contextmanager
def _session_bus(address: str) -> Iterator[None]:
    """Name the session bus in the environment for a while."""
    before = os.environ.get(SESSION_BUS)
    os.environ[SESSION_BUS] = address
    try:
        yield
    finally:
        del os.environ[SESSION_BUS]
        if before is not None:
            os.environ[SESSION_BUS] = before


def _ring(name: str, ring: Any, directory: Path) -> Iterator[Figure]:  # noqa: ANN401  # keyring has no types
    """Measure a backend without anything of ours."""
    refs = [entry_name(ref) for ref in _refs(RING)]
    puts = _timed(lambda: [ring.set_password(*ref, SECRET.decode()) for ref in refs]) / RING
    gets = _timed(lambda: [ring.get_password(*ref) for ref in refs]) / RING
    with closing(_open(directory)) as vault:
        ours = _put(vault, _refs(SINGLE), 1) / SINGLE
        read = _get(vault, _refs(SINGLE)) / SINGLE
    held = f"with up to {RING} entries; it grows with them"
    yield Figure(f"beside it: {name}: puts", 1 / puts, "a second",
                 note=f"{puts / ours:.1f} times the time of the vault's, {held}")  # fmt: skip
    yield Figure("  gets", 1 / gets, "a second",
                 note=f"{gets / read:.0f} times the time of the vault's")  # fmt: skip


def _figures(
    what: str, number: int, took: tuple[float, float], budget: float | None = None
) -> Iterator[Figure]:
    ours, plain = took
    yield Figure(f"vault: {what}", number / ours, "a second")
    yield Figure(f"  plain SQLite: {what}", number / plain, "a second")
    yield Figure("  time of a plain one", ours / plain, "times", budget)


def _beside(
    work: Callable[[Any, int], float], ours: SecretStore, plain: Plain
) -> tuple[float, float]:
    """Return the median seconds of either, measured in turn."""
    pairs = [(work(ours, n), work(plain, n)) for n in range(ROUNDS)]
    return median(one for one, _ in pairs), median(other for _, other in pairs)


def _put(store: Any, refs: Sequence[SecretRef], together: int) -> float:  # noqa: ANN401  # a store, or what looks like one
    began = time.perf_counter()
    for first in range(0, len(refs), together):
        store.begin()
        for ref in refs[first : first + together]:
            store.put(ref, Secret(SECRET))
        store.commit()
    return time.perf_counter() - began


def _get(store: Any, refs: Sequence[SecretRef]) -> float:  # noqa: ANN401  # a store, or what looks like one
    began = time.perf_counter()
    if any(store.get(ref).reveal() != SECRET for ref in refs):
        raise StoreError("a secret is another one")
    return time.perf_counter() - began


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _open(directory: Path) -> Vault:
    return Vault(VaultSettings(key="development-file"), directory)


def _refs(number: int) -> list[SecretRef]:
    return [SecretRef("alibaba", DeviceId(f"child-{n:012x}"), 1) for n in range(number)]


def _part(refs: Sequence[SecretRef], number: int, size: int) -> Sequence[SecretRef]:
    return refs[number * size : (number + 1) * size]
