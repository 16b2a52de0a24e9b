"""The laws of any provider, for children that are served over the gateway's own session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gatewayd.cloud.provider import CloudProvider, Keep, Outcome, Requests, Session
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.testing.contracts.cloud import CloudProviderContract
from tests.cloud.alibaba.site import GATEWAY, Site, child, furnish, site


class Counted:
    """A provider that counts the calls for children which are under way.  Passes all on."""

    def __init__(self, provider: CloudProvider) -> None:
        self._provider = provider
        self.name, self.own = provider.name, provider.own
        self.under_way = 0

    def listen(self, requests: Requests) -> None:
        self._provider.listen(requests)

    def found(self, name: CloudName) -> None:
        self._provider.found(name)

    def why_not(self, name: CloudName) -> Reason | None:
        return self._provider.why_not(name)

    async def obstacle(self, name: CloudName) -> Reason | None:
        return await self._provider.obstacle(name)

    async def register(self, name: CloudName, keep: Keep) -> Outcome:
        self.under_way += 1
        try:
            return await self._provider.register(name, keep)
        finally:
            self.under_way -= 1

    def renew_at(self, name: CloudName, secret: Secret) -> float | None:
        return self._provider.renew_at(name, secret)

    async def connect(self, name: CloudName, secret: Secret) -> Session:
        self.under_way += 1
        try:
            return await self._provider.connect(name, secret)
        finally:
            self.under_way -= 1

    async def forget(self, name: CloudName) -> Reason | None:
        return await self._provider.forget(name)

    async def close(self) -> None:
        await self._provider.close()


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

    def stage(self) -> AbstractAsyncContextManager[SubDeviceStage]:
        return staged(self._folder, "sub-device")


class TestSubDeviceSecret(CloudProviderContract):
    """The secret of its product vouches for the child."""

    @pytest.fixture(autouse=True)
    def _own_folder(self, tmp_path: Path) -> None:
        self._folder = furnish(tmp_path)

    def stage(self) -> AbstractAsyncContextManager[SubDeviceStage]:
        return staged(self._folder, "sub-device-secret")
