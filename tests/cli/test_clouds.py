"""`gatewayctl clouds` and `cloud test`, over a real bus."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gatewayd.dbus.bus import Bus
from gatewayd.dbus.methods import PROVIDER_METHODS
from gatewayd.dbus.names import PROVIDER, STORE, ObjectInterface, provider_path
from gatewayd.dbus.objects import ExportedObject
from gatewayd.device.views import ProviderView, StoreView
from gatewayd.errors import CloudUnreachable
from gatewayd.simulator.bus import PrivateBus
from tests.dbus.support import RecordingCommands, served
from tests.support.gatewayctl import ctl

PLACES = {name: ObjectInterface(provider_path(name), PROVIDER) for name in ("alibaba", "huawei")}
ALIBABA = ProviderView("alibaba", "alibaba", "h:8883", "ready", n_devices=12, n_queued=3)
HUAWEI = ProviderView(
    "huawei", "huawei", "h:8883", "failed", "tls-\x1b[31m", certificate_expiry=1_700_000_000_000_000
)


class Cloud:
    """A cloud, and why it cannot be reached."""

    def __init__(self, obstacle: str = "") -> None:
        self._obstacle = obstacle

    async def test(self, caller: str) -> None:
        if self._obstacle:
            raise CloudUnreachable(self._obstacle)


@pytest.fixture
async def service(bus: PrivateBus) -> AsyncIterator[Bus]:
    further = (
        ExportedObject(PLACES["alibaba"], ALIBABA, PROVIDER_METHODS.bind(Cloud()), "alibaba"),
        ExportedObject(
            PLACES["huawei"], HUAWEI, PROVIDER_METHODS.bind(Cloud("timed out")), "huawei"
        ),
        ExportedObject(STORE, StoreView("vault", "key-on-disk", "unsealed", "", n_secrets=2)),
    )
    async with served(bus, RecordingCommands(), further=further, gather=0.02) as ours:
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
    assert failed == (1, "gatewayctl: timed out\n")
    status, said = await ctl(bus, "cloud", "test", "azure")
    assert (status, said.count("\n")) == (1, 1)
    assert "'azure'" in said
    assert "alibaba, huawei" in said
