"""The laws of any session over which a child is commanded, by each route."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from gatewayd.cloud.huawei.commanding.commands import COMMANDS, GET, SET
from gatewayd.device.command import ChildCommand, CommandKind
from gatewayd.device.message import Message
from gatewayd.simulator.huawei.cloud import HuaweiCloud
from gatewayd.simulator.huawei.exchange.device_messages import DeviceMessage
from gatewayd.simulator.huawei.platform.errors import PlatformError
from gatewayd.simulator.huawei.platform.instance import IotdaInstance
from gatewayd.testing.contracts.commands import CommandedSession, CommandsContract, SeenAnswer
from gatewayd.testing.waiting import PATIENCE
from tests.cloud.huawei import site as behind
from tests.cloud.huawei.site import GATEWAYS, INSTANCE, OWN_ID
from tests.cloud.huawei.speaking import (
    Speaking,
    as_sub_device,
    by_certificate,
    furnish_models,
    reading,
)
from tests.cloud.huawei.test_messages_contract import OwnFolder

_USES: Mapping[CommandKind, str] = {
    CommandKind.SERVICE: COMMANDS,
    CommandKind.SET: SET,
    CommandKind.GET: GET,
}


@dataclass
class Commanded:
    """The first of two children, logged in, at a platform that commands it.

    own: its device ID.  sender: that of the connection.
    """

    cloud: HuaweiCloud
    instance: IotdaInstance
    own: str
    sender: str
    session: CommandedSession
    kinds = (CommandKind.SERVICE, CommandKind.SET, CommandKind.GET, CommandKind.MESSAGE)

    async def ready(self) -> None:
        """Subscriptions were made with the login."""

    async def send(
        self, kind: CommandKind, number: int, seconds: float = PATIENCE
    ) -> SeenAnswer | None:
        device, channel = self.instance.devices.get(self.own), self.instance.channel
        assert channel is not None
        if kind is CommandKind.MESSAGE:
            code, now = self.instance.ids.code(), self.instance.ids.clock()
            channel.deliver(device, DeviceMessage(code, {"n": number}, now))
            return None
        try:
            async with asyncio.timeout(seconds):
                body = await channel.ask(device, _USES[kind], _body(kind, number))
        except (PlatformError, TimeoutError):
            return None
        assert isinstance(body, dict)
        done = body.get("result_code", 0) == 0
        return SeenAnswer(done, json.dumps(body, separators=(",", ":")).encode())

    def number(self, command: ChildCommand) -> int:
        sent: Any = json.loads(command.payload)
        if command.kind is CommandKind.MESSAGE:
            return int(sent["content"]["n"])
        if command.kind is CommandKind.GET:
            return int(command.name.removeprefix("climate"))
        return int(cast("Any", command.arguments["n"]))

    def own_form(self, command: ChildCommand) -> bytes:
        return b'{"own":1,"services":[],"result_code":0}'

    def message(self, number: int) -> Message:
        return reading(number)

    def garble(self) -> None:
        self.cloud.set_faults("command-garbled")

    def repeat(self) -> None:
        self.cloud.set_faults("command-twice")

    def mend(self) -> None:
        self.cloud.set_faults("")

    def discarded(self) -> int:
        truth: Any = self.cloud.truth()
        return int(truth["instances"][INSTANCE]["devices"][self.sender]["throttled"])

    def hold(self) -> None:
        self.cloud.set_faults("lose-puback")

    def stop(self) -> None:
        self.cloud.set_faults("down")


def _body(kind: CommandKind, number: int) -> Mapping[str, object]:
    match kind:
        case CommandKind.SERVICE:
            return {"service_id": "climate", "command_name": "count", "paras": {"n": number}}
        case CommandKind.SET:
            return {"services": [{"service_id": "climate", "properties": {"n": number}}]}
    return {"service_id": f"climate{number}"}


@asynccontextmanager
async def commanding(children: AbstractAsyncContextManager[Speaking]) -> AsyncIterator[Commanded]:
    async with children as one:
        session = cast("CommandedSession", await one.session())
        yield Commanded(one.cloud, one.instance, one.ids[0], one.sender, session)


class TestCertificateCommands(OwnFolder, CommandsContract):
    """A device with a session of its own."""

    def make_testbed(self) -> AbstractAsyncContextManager[Commanded]:
        return commanding(by_certificate(self._folder))


class TestSubDeviceCommands(OwnFolder, CommandsContract):
    """A child over the gateway's session."""

    def make_testbed(self) -> AbstractAsyncContextManager[Commanded]:
        return commanding(as_sub_device(self._folder))


@asynccontextmanager
async def as_gateway(folder: Path) -> AsyncIterator[Commanded]:
    await asyncio.to_thread(behind.furnish, folder)
    async with behind.site(folder, services={GATEWAYS: "climate"}) as one:
        furnish_models(one.instance)
        if one.session is None:
            await one.log_in()
        session = cast("CommandedSession", one.session)
        yield Commanded(one.cloud, one.instance, OWN_ID, OWN_ID, session)


class TestGatewayCommands(OwnFolder, CommandsContract):
    """The gateway itself."""

    def make_testbed(self) -> AbstractAsyncContextManager[Commanded]:
        return as_gateway(self._folder)
