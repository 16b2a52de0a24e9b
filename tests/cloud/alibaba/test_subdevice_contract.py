"""The laws of any provider, for children that are served over the gateway's own session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gatewayd.device.record import CloudName
from gatewayd.testing.contracts.cloud import CloudProviderContract
from tests.cloud.alibaba.site import GATEWAY, Site, child, furnish, site
from tests.cloud.stand_ins import Counted


@dataclass
class SubDeviceStage:
    """What a child has open at the cloud stands for a connection: a session, or a call.

    All of them end with the gateway's connection.
    """

    site: Site
    provider: Counted
    names: tuple[CloudName, CloudName]

    def connections(self) -> int:
        if GATEWAY not in self.site.cloud.online:
            return 0
        return len(self.site.cloud.online) - 1 + self.provider.under_way

    def refuse(self) -> None:
        self.site.cloud.set_faults(
            "reply:6288@thing.sub.register reply:6600@thing.proxy.provisioning.product_register "
            "reply:6287@combine.login reply:6287@combine.batch_login"
        )

    def silence(self) -> None:
        self.site.cloud.set_faults("lose-request@*")

    def stop(self) -> None:
        self.site.cloud.set_faults("down")


@asynccontextmanager
async def staged(folder: Path, route: str) -> AsyncIterator[SubDeviceStage]:
    async with site(folder, reply_timeout=1.0) as one:
        names = child(0, route), child(1, route)
        yield SubDeviceStage(one, Counted(one.provider), names)


class TestSubDevice(CloudProviderContract):
    """The gateway's session vouches for the child."""

    @pytest.fixture(autouse=True)
    def _own_folder(self, tmp_path: Path) -> None:
        self._folder = furnish(tmp_path)

    def make_testbed(self) -> AbstractAsyncContextManager[SubDeviceStage]:
        return staged(self._folder, "sub-device")


class TestSubDeviceSecret(CloudProviderContract):
    """The secret of its product vouches for the child."""

    @pytest.fixture(autouse=True)
    def _own_folder(self, tmp_path: Path) -> None:
        self._folder = furnish(tmp_path)

    def make_testbed(self) -> AbstractAsyncContextManager[SubDeviceStage]:
        return staged(self._folder, "sub-device-secret")
