"""`gatewayctl store status`, over a real bus, and in words."""

from __future__ import annotations

import asyncio

import pytest

from gatewayd.cli import output
from gatewayd.cli.client import CUT_SHORT
from gatewayd.cli.vault.recovery import SHOWN_ONCE
from gatewayd.dbus.dispatch import BUS_LOST, STOPPING
from gatewayd.dbus.methods import SECRET_STORE_METHODS
from gatewayd.dbus.names import STORE
from gatewayd.dbus.objects import ExportedObject
from gatewayd.device.views import StoreView
from gatewayd.secretstore.store import Protection
from gatewayd.simulator.bus import PrivateBus
from tests.dbus.support import RecordingCommands, UnsupportedStore, served
from tests.support.gatewayctl import ctl

FACTS = {
    "Backend": "vault", "Protection": "tpm2", "State": "unsealed", "Explanation": "", "NSecrets": 3,
    "KeyId": 2, "KeyCreatedTimestamp": 1_700_000_000_000_000, "RecoverySlots": 1,
}  # fmt: skip


@pytest.mark.integration
async def test_the_store(bus: PrivateBus) -> None:
    store = ExportedObject(STORE, StoreView("vault", "key-on-disk", "unsealed", "", n_secrets=2))
    async with served(bus, RecordingCommands(), further=(store,)):
        status, printed = await ctl(bus, "store", "status")
    assert status == 0
    assert printed.splitlines() == [
        "State: unsealed",
        "Secrets: 2, in the store vault",
        f"Protected: {output.PROTECTION_TEXTS['key-on-disk']}",
        "Recovery keys: none",
    ]


@pytest.mark.integration
async def test_no_recovery_key_is_shown_that_the_daemon_refuses(bus: PrivateBus) -> None:
    store = ExportedObject(
        STORE,
        StoreView("vault", "none", "sealed", ""),
        SECRET_STORE_METHODS.bind(UnsupportedStore()),
    )
    async with served(bus, RecordingCommands(), further=(store,)):
        status, printed = await ctl(bus, "store", "add-recovery")
    assert (status, printed) == (1, "gatewayctl: This store has no key\n")


def test_what_the_daemon_says_of_a_call_that_it_cuts_short_is_known() -> None:
    assert set(CUT_SHORT) == {STOPPING, BUS_LOST}


class _Vanishing(UnsupportedStore):
    """A store whose daemon ends while a key is added: whether it was is not known."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def add_recovery_key(self, public_key: str, caller: str) -> None:
        self.asked.set()
        await asyncio.Event().wait()


@pytest.mark.integration
async def test_a_recovery_key_is_shown_where_the_daemon_ends_meanwhile(bus: PrivateBus) -> None:
    commands = _Vanishing()
    view = StoreView("vault", "key-on-disk", "unsealed", "")
    store = ExportedObject(STORE, view, SECRET_STORE_METHODS.bind(commands))
    async with served(bus, RecordingCommands(), further=(store,)):
        adding = asyncio.ensure_future(ctl(bus, "store", "add-recovery"))
        await commands.asked.wait()
    status, printed = await adding
    assert status == 1
    assert SHOWN_ONCE in printed
    assert "It is not known whether this key slot was added" in printed
    assert "Added the key slot" not in printed


def test_the_store_in_words() -> None:
    lines = list(output.store(FACTS))
    assert lines[0] == "State: unsealed"
    assert lines[2] == f"Protected: {output.PROTECTION_TEXTS['tpm2']}"
    assert lines[3].startswith("Data key: number 2, created 2023-11-1")
    assert lines[4] == "Recovery keys: 1"
    sealed = list(output.store(FACTS | {"State": "sealed", "Explanation": "There is no key.\x1b"}))
    assert sealed[:2] == ["State: sealed", r"Why: There is no key.\x1b"]
    unknown = list(output.store(FACTS | {"Protection": "hsm", "KeyId": 0}))
    assert unknown[2:] == ["Protected: hsm", "Recovery keys: 1"]


def test_every_protection_has_its_text() -> None:
    assert set(output.PROTECTION_TEXTS) == {str(one) for one in Protection}
