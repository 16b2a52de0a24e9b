"""kill -9 while the key is changed and secrets are written: what was acknowledged is there."""

from __future__ import annotations

import random
from contextlib import closing
from functools import partial
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.secretstore.vault import admin, offline
from gatewayd.secretstore.vault.vault import Vault
from gatewayd.testing.contracts.secretstore import group, keep
from tests.support.killed_process import acknowledged_before_kill
from tests.support.vaults import DEVELOPMENT

ROUNDS = 15
PER_ROUND = 100_000  # more than a round can do before it is killed

pytestmark = pytest.mark.integration


def ref(number: int) -> SecretRef:
    return SecretRef("cloud", DeviceId(f"child-{number}"), 1)


def secret(number: int) -> bytes:
    return f"secret of {number}".encode()


def write_and_rotate(directory: Path, first: int, acknowledge: Connection) -> None:
    """Write secrets and change the key all the time; acknowledge each secret that is durable."""
    with closing(Vault(DEVELOPMENT, directory)) as vault:
        for number in count(first):
            keep(vault, ref(number), secret(number))
            acknowledge.send(number)
            with group(vault):
                if vault.rotating:
                    vault.tend(0)
                else:
                    admin.rotate(vault)


def test_what_was_acknowledged_survives_any_generation(tmp_path: Path) -> None:
    chance = random.Random(20261122)  # the same moments in each run
    acknowledged: set[int] = set()
    for number in range(ROUNDS):
        work = partial(write_and_rotate, tmp_path, number * PER_ROUND)
        acknowledged.update(acknowledged_before_kill(chance.randrange(1, 40), work))
    with closing(Vault(DEVELOPMENT, tmp_path)) as vault:
        offline.finish_rotation(vault)
        assert all(vault.get(ref(n)) == Secret(secret(n)) for n in acknowledged)
        found = admin.report(vault)
        assert (found.generations, found.quarantined) == (1, 0)
        assert found.generation > ROUNDS
    assert len(acknowledged) >= ROUNDS
