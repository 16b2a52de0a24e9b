"""The laws of any provider, for children that are served over the gateway's own session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gatewayd.device.record import CloudName
from gatewayd.simulator.huawei.platform.device import HuaweiDeviceStatus
from gatewayd.testing.contracts.cloud import CloudProviderContract
from tests.cloud.huawei.site import OWN_ID, Site, child, furnish, site
from tests.cloud.stand_ins import Counted


@dataclass
class SubDeviceStage:
    """What a child has open at the cloud stands for a connection: a session, or a call.

    A child counts as online as long as its gateway is.
    """

    site: Site
    provider: Counted
    names: tuple[CloudName, CloudName]

    def connections(self) -> int:
        if self.site.status(OWN_ID) is not HuaweiDeviceStatus.ONLINE:
            return 0
        return len(self.site.online_there()) + self.provider.under_way

    def refuse(self) -> None:
        self.site.cloud.set_faults(
            "reply:14000@add_sub_device_request reply:21104@sub_device_update_status"
        )

    def silence(self) -> None:
        self.site.cloud.set_faults("lose-request@*")

    def stop(self) -> None:
        self.site.cloud.set_faults("down")


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[SubDeviceStage]:
    async with site(folder, reply_timeout=1.0) as one:
        yield SubDeviceStage(one, Counted(one.provider), (child(0), child(1)))


class TestSubDevice(CloudProviderContract):
    """The gateway's session vouches for the child."""

    @pytest.fixture(autouse=True)
    def _own_folder(self, tmp_path: Path) -> None:
        self._folder = furnish(tmp_path)

    def make_testbed(self) -> AbstractAsyncContextManager[SubDeviceStage]:
        return staged(self._folder)
