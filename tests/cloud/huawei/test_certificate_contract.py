"""The laws of any provider, for devices that register themselves by certificate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gatewayd.cloud.provider import CloudProvider
from gatewayd.device.record import CloudName
from gatewayd.testing.contracts.cloud import LoginContract
from tests.cloud.huawei.certified import Certified, certified, child, furnish


@dataclass
class CertificateStage:
    """A device has one connection for each session."""

    site: Certified
    names: tuple[CloudName, CloudName]

    @property
    def provider(self) -> CloudProvider:
        return self.site.provider

    def connections(self) -> int:
        return len(self.site.cloud._service.links)

    def refuse(self) -> None:
        self.site.cloud.set_faults("refuse:5@* login.refuse:5@*")

    def silence(self) -> None:
        self.site.cloud.set_faults("silent@* login.silent@*")

    def stop(self) -> None:
        self.site.cloud.set_faults("down")


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[CertificateStage]:
    async with certified(folder, connect_timeout=1.0, reply_timeout=1.0) as one:
        yield CertificateStage(one, (child(0), child(1)))


class TestCertificate(LoginContract):
    """The certificate vouches for the device."""

    @pytest.fixture(autouse=True)
    def _own_folder(self, tmp_path: Path) -> None:
        self._folder = furnish(tmp_path)

    def make_testbed(self) -> AbstractAsyncContextManager[CertificateStage]:
        return staged(self._folder)
