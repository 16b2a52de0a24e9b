"""gatewayctl about clouds, the store and diagnostics."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gatewayd.cli import output
from gatewayd.dbus.bus import Bus
from gatewayd.dbus.names import PROVIDER, STORE, ObjectInterface, provider_path
from gatewayd.dbus.objects import ExportedObject
from gatewayd.device.views import ProviderView, StoreView
from gatewayd.errors import CloudUnreachable
from gatewayd.secretstore.store import Protection
from gatewayd.simulator.bus import PrivateBus
from tests.dbus.served import Asked, private_bus, served
from tests.support.gatewayctl import ctl

PLACES = {name: ObjectInterface(provider_path(name), PROVIDER) for name in ("alibaba", "huawei")}
ALIBABA = ProviderView("alibaba", "alibaba", "h:8883", "ready", n_devices=12, n_queued=3)
HUAWEI = ProviderView(
    "huawei", "huawei", "h:8883", "failed", "tls-\x1b[31m", certificate_expiry=1_700_000_000_000_000
)
FACTS = {
    "Backend": "vault", "Protection": "tpm2", "State": "unsealed", "Why": "", "NSecrets": 3,
    "KeyId": 2, "KeyCreatedTimestamp": 1_700_000_000_000_000, "RecoverySlots": 1,
}  # fmt: skip


class Cloud:
    """A cloud, and what keeps it out of reach."""

    def __init__(self, obstacle: str = "") -> None:
        self._obstacle = obstacle

    async def test(self, caller: str) -> None:
        if self._obstacle:
            raise CloudUnreachable(self._obstacle)


@pytest.fixture
def bus() -> Iterator[PrivateBus]:
    with private_bus() as made:
        yield made


@pytest.fixture
async def service(bus: PrivateBus) -> AsyncIterator[Bus]:
    further = (
        ExportedObject(PLACES["alibaba"], ALIBABA, Cloud(), "alibaba"),
        ExportedObject(PLACES["huawei"], HUAWEI, Cloud("h does not answer. Look."), "huawei"),
        ExportedObject(STORE, StoreView("vault", "development", "unsealed", "", n_secrets=2)),
    )
    async with served(bus, Asked(), further=further, gather=0.02) as ours:
        yield ours


@pytest.mark.integration
async def test_clouds(bus: PrivateBus, service: Bus) -> None:
    status, printed = await ctl(bus, "clouds")
    head, first, second = printed.splitlines()
    assert status == 0
    assert head.split() == ["CLOUD", "STATE", "REASON", "DEVICES", "QUEUED", "CERTIFICATE", "UNTIL"]
    assert first.split() == ["alibaba", "ready", "-", "12", "3", "-"]
    assert second.split()[:5] == ["huawei", "failed", r"tls-\x1b[31m", "0", "0"]
    assert second.split()[5].startswith("2023-11-1")


@pytest.mark.integration
async def test_a_cloud_is_tested_by_its_name(bus: PrivateBus, service: Bus) -> None:
    assert await ctl(bus, "cloud", "test", "alibaba") == (0, "The cloud alibaba can be used.\n")
    failed = await ctl(bus, "cloud", "test", "huawei")
    assert failed == (1, "gatewayctl: h does not answer. Look.\n")
    assert await ctl(bus, "cloud", "test", "azure") == (
        1, "gatewayctl: There is no such cloud: configured are alibaba, huawei\n",
    )  # fmt: skip


@pytest.mark.integration
async def test_the_store(bus: PrivateBus, service: Bus) -> None:
    status, printed = await ctl(bus, "store", "status")
    assert status == 0
    assert printed.splitlines() == [
        "State: unsealed",
        "Kept: 2 secrets, in the store vault",
        "Protected: by a key in a file beside it, which is no protection",
        "Recovery keys: none",
    ]


def test_the_store_in_words() -> None:
    told = list(output.store(FACTS))
    assert told[0] == "State: unsealed"
    assert told[2] == "Protected: by this machine's TPM"
    assert told[3].startswith("Data key: number 2, made 2023-11-1")
    assert told[4] == "Recovery keys: 1"
    sealed = list(output.store(FACTS | {"State": "sealed", "Why": "There is no key.\x1b"}))
    assert sealed[:2] == ["State: sealed", r"Why: There is no key.\x1b"]
    unknown = list(output.store(FACTS | {"Protection": "hsm", "KeyId": 0}))
    assert unknown[2:] == ["Protected: hsm", "Recovery keys: 1"]


def test_every_protection_has_its_words() -> None:
    assert set(output.PROTECTIONS) == {str(one) for one in Protection}


@pytest.mark.integration
async def test_diagnostics_are_printed_or_written(
    bus: PrivateBus, service: Bus, tmp_path: Path
) -> None:
    assert await ctl(bus, "dump") == (0, "{}\n")
    report = tmp_path / "report.json"
    assert await ctl(bus, "dump", "--output", str(report)) == (0, "")
    assert report.read_text() == "{}"
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    status, said = await ctl(bus, "dump", "--output", str(tmp_path / "nowhere" / "report"))
    assert (status, said.count("\n")) == (1, 1)
    assert "report cannot be written: No such file or directory" in said
