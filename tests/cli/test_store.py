"""`gatewayctl store status`, over a real bus, and in words."""

from __future__ import annotations

import pytest

from gatewayd.cli import output
from gatewayd.dbus.names import STORE
from gatewayd.dbus.objects import ExportedObject
from gatewayd.device.views import StoreView
from gatewayd.secretstore.store import Protection
from gatewayd.simulator.bus import PrivateBus
from tests.dbus.support import RecordingCommands, served
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
