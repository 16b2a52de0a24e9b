"""The laws of any session over which a child is commanded, by every route."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from gatewayd.device.command import ChildCommand, CommandKind
from gatewayd.device.message import Message
from gatewayd.testing.contracts.commands import CommandedSession, CommandsContract, SeenAnswer
from gatewayd.testing.waiting import PATIENCE, until
from tests.cloud.alibaba import direct, site
from tests.cloud.alibaba.site import at_cloud
from tests.cloud.alibaba.speaking import TSL, Speaking, as_gateway, behind_the_gateway, directly

NUMBER = [{"identifier": "Number", "dataType": {"type": "int"}}]
MODEL: dict[str, Any] = {
    **TSL,
    "services": [{"identifier": "Count", "callType": "async", "inputData": NUMBER}],
}


@dataclass
class Commanded:
    """A child that is online, at a cloud that commands it."""

    stage: Speaking
    kinds = (CommandKind.SERVICE, CommandKind.SET, CommandKind.REQUEST, CommandKind.MESSAGE)

    @property
    def session(self) -> CommandedSession:
        return cast("CommandedSession", self.stage.session)

    async def ready(self) -> None:
        own = at_cloud(self.stage.name)
        await until(lambda: self.stage.cloud.subscribes(*own, f"/{own[0]}/{own[1]}/user/get"))

    async def send(
        self, kind: CommandKind, number: int, seconds: float = PATIENCE
    ) -> SeenAnswer | None:
        own, cloud = at_cloud(self.stage.name), self.stage.cloud
        try:
            if kind is CommandKind.MESSAGE:
                cloud.publish(*own, "user/get", b"%d" % number)
                return None
            if kind is CommandKind.REQUEST:
                answer = await cloud.rrpc(*own, b"%d" % number, seconds=seconds)
                return SeenAnswer(done=True, content=answer)
            values = {"Number": number}
            if kind is CommandKind.SET:
                command = cloud.set_properties(*own, values)
            else:
                command = cloud.invoke(*own, "Count", values)
            async with asyncio.timeout(seconds):
                seen = await command.reply
        except (ConnectionError, TimeoutError):
            return None
        return SeenAnswer(done=seen["code"] == 200, content=command.payload)

    def number(self, command: ChildCommand) -> int:
        found = command.arguments.get("Number", command.payload)
        return int(cast("Any", found))

    def own_form(self, command: ChildCommand) -> bytes:
        if command.kind is CommandKind.REQUEST:
            return b"\x00any"
        number = json.loads(command.payload)["id"]
        return b'{"code":200, "data":{"own":1}, "id":"%b"}' % number.encode()

    def message(self, number: int) -> Message:
        return self.stage.message(number)

    def garble(self) -> None:
        self.stage.cloud.set_faults("command-garbled")

    def repeat(self) -> None:
        self.stage.cloud.set_faults("command-twice")

    def mend(self) -> None:
        self.stage.cloud.set_faults("")

    def discarded(self) -> int:
        return int(self.stage.ledger["discarded"].get("rate", 0))

    def hold(self) -> None:
        self.stage.cloud.set_faults("lose-puback")

    def stop(self) -> None:
        self.stage.stop()


@asynccontextmanager
async def commanding(stage: AbstractAsyncContextManager[Speaking]) -> AsyncIterator[Commanded]:
    async with stage as one:
        one.cloud.set_model(one.name.product, MODEL)
        yield Commanded(one)


class OwnFolder(ABC):
    """A folder of its own for each test, with what settings name."""

    @pytest.fixture(autouse=True)
    def _own_folder(self, tmp_path: Path) -> None:
        self._folder = self.furnish(tmp_path)

    @abstractmethod
    def furnish(self, folder: Path) -> Path:
        """Write what settings name."""


class OfDirect(OwnFolder):
    def furnish(self, folder: Path) -> Path:
        return direct.furnish(folder)


class OfSite(OwnFolder):
    def furnish(self, folder: Path) -> Path:
        return site.furnish(folder)


class TestDirect(OfDirect, CommandsContract):
    def make_testbed(self) -> AbstractAsyncContextManager[Commanded]:
        return commanding(directly(self._folder))


class TestPreregistrationFree(OfDirect, CommandsContract):
    def make_testbed(self) -> AbstractAsyncContextManager[Commanded]:
        return commanding(directly(self._folder, "direct-preregistration-free"))


class TestSubDevice(OfSite, CommandsContract):
    def make_testbed(self) -> AbstractAsyncContextManager[Commanded]:
        return commanding(behind_the_gateway(self._folder))


class TestGateway(OfSite, CommandsContract):
    def make_testbed(self) -> AbstractAsyncContextManager[Commanded]:
        return commanding(as_gateway(self._folder))
