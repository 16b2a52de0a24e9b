"""The laws of any session over which a child speaks, by each route."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from gatewayd.device.message import Message
from gatewayd.testing.contracts.messages import MessagesContract, SpeakingSession
from tests.cloud.huawei.speaking import Speaking, as_sub_device, by_certificate, reading


@dataclass
class MessagesStage:
    """The first of two children, logged in."""

    children: Speaking
    session: SpeakingSession

    def message(self, number: int) -> Message:
        return reading(number)

    def unfit(self) -> Message:
        return Message("sys/no/such/topic", b"{}", 0)

    def arrived(self) -> Sequence[int]:
        bodies = [one.body for one in self.children.arrived()]
        return [int(str(body["n"])) for body in bodies if not isinstance(body, bytes)]

    def hold(self) -> None:
        self.children.cloud.set_faults("lose-puback")

    def stop(self) -> None:
        self.children.cloud.set_faults("down")


@asynccontextmanager
async def staged(children: AbstractAsyncContextManager[Speaking]) -> AsyncIterator[MessagesStage]:
    async with children as one:
        yield MessagesStage(one, cast("SpeakingSession", await one.session()))


class OwnFolder:
    """A folder of its own for each test."""

    @pytest.fixture(autouse=True)
    def _own_folder(self, tmp_path: Path) -> None:
        self._folder = tmp_path


class TestCertificateMessages(OwnFolder, MessagesContract):
    """A device with a session of its own."""

    def make_testbed(self) -> AbstractAsyncContextManager[MessagesStage]:
        return staged(by_certificate(self._folder))


class TestSubDeviceMessages(OwnFolder, MessagesContract):
    """A child over the gateway's session."""

    def make_testbed(self) -> AbstractAsyncContextManager[MessagesStage]:
        return staged(as_sub_device(self._folder))
