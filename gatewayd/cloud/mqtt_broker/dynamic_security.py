"""mosquitto's dynamic security: how clients and roles are managed over MQTT, and who they are.

Commands are JSON on one topic, answers on another, matched by "correlationData".  The broker hashes
a password and writes its file for each command that changes something, so commands leave in
batches, one batch at a time.
Source: the README of mosquitto's plugin "dynamic-security", releases 2.0.11 and 2.0.21.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeAlias

from gatewayd.cloud import command_json, mqtt
from gatewayd.cloud.mqtt_broker.templates import BrokerIdentity
from gatewayd.cloud.paho_socket import Gone
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError
from gatewayd.network.connect_errors import ConnectError
from gatewayd.runtime.tasks import cancel_and_wait

REQUEST, RESPONSE = "$CONTROL/dynamic-security/v1", "$CONTROL/dynamic-security/v1/response"
BATCH = 20
"""Commands in one request: the broker answers nothing else meanwhile, some 30 ms for each."""
MAX_WAITING = 4000
"""Commands that wait for their turn."""
LINGER = 1.0
"""Seconds that the connection stays open for further commands."""
MAX_RESPONSE = 1 << 20
"""Bytes of a response that is read."""

CLIENT_MISSING, CLIENT_EXISTS = "Client not found", "Client already exists"
ROLE_EXISTS, ROLE_MISSING = "Role already exists", "Role not found"

JsonCommand: TypeAlias = Mapping[str, object]
Send: TypeAlias = Callable[[Sequence[JsonCommand]], Awaitable[Sequence["CommandResult"]]]
OpenManagement: TypeAlias = Callable[[mqtt.Handler], Awaitable[mqtt.MqttConnection]]
"""Logs the manager in.  Raises ConnectError, ConfigError."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of one command.  error: the broker's words; "" where it is done."""

    error: str
    data: Mapping[str, object]


class ManagementFailed(Exception):
    """The broker was not asked, or has not answered.

    asked: whether it may have done what was requested.  denied: whether it lets this user manage
    nothing.
    """

    def __init__(self, *, asked: bool, denied: bool = False) -> None:
        super().__init__("no answer" if asked else "not asked")
        self.asked, self.denied = asked, denied


@dataclass(frozen=True, slots=True)
class ClientMark:
    """The mark of a client that a gateway has created.

    owner: the user that manages for this gateway.  child: "product/device".
    number: of the password, from 1: the higher one was made later.
    """

    owner: str
    child: str
    number: int

    @property
    def texts(self) -> tuple[str, str]:
        """The client's "textname" and "textdescription"."""
        return f"gatewayd {self.owner}", f"{self.child} password {self.number}"


def read_mark(client: Mapping[str, object]) -> ClientMark | None:
    """Return the mark of a client as the broker shows it; None where no gateway has created it."""
    name, description = client.get("textname"), client.get("textdescription")
    if not isinstance(name, str) or not isinstance(description, str):
        return None
    child, _, number = description.partition(" password ")
    if not (name.startswith("gatewayd ") and number.isascii() and number.isdecimal()):
        return None
    return ClientMark(name.removeprefix("gatewayd "), child, int(number[:9]))


def role_of(identity: BrokerIdentity) -> dict[str, object]:
    """Return the name and the access list of a client's role: its own topics, and nothing else."""
    up, down = (f"{topic}#" for topic in (identity.up, identity.down))
    reads = ("publishClientReceive", "subscribePattern", "unsubscribePattern")
    allowed = [
        ("publishClientSend", up),
        *((kind, topic) for topic in (up, down) for kind in reads),
    ]
    entries = [{"acltype": kind, "topic": topic, "allow": True} for kind, topic in allowed]
    return {"rolename": identity.user, "acls": entries}


def client_of(identity: BrokerIdentity, mark: ClientMark, password: Secret) -> dict[str, object]:
    """Return a client as it is to be at the broker.

    It is bound to no client id: a program that reads with a child's credentials needs its own, as
    it would end the child's session otherwise.
    """
    name, description = mark.texts
    return {
        "username": identity.user, "password": password.reveal().decode("ascii"),
        "textname": name, "textdescription": description,
        "roles": [{"rolename": identity.user}],
    }  # fmt: skip


async def look_up(send: Send, user: str) -> Mapping[str, object] | None:
    """Return a client as the broker shows it; None where there is none.

    Raises ManagementFailed, CommandRefused.
    """
    (found,) = await send([{"command": "getClient", "username": user}])
    if found.error == CLIENT_MISSING:
        return None
    _check(found, ())
    client = found.data.get("client")
    return client if isinstance(client, Mapping) else {}


async def make(
    send: Send, identity: BrokerIdentity, mark: ClientMark, password: Secret, *, exists: bool
) -> None:
    """Make a client what it is to be, or change one that exists, and its role.

    Raises ManagementFailed, CommandRefused.
    """
    role, client = role_of(identity), client_of(identity, mark, password)
    made = await send([{"command": "createRole", **role}])
    if made[0].error == ROLE_EXISTS:
        made = await send([{"command": "modifyRole", **role}])
    _check(made[0], ())
    (done,) = await send([{"command": "modifyClient" if exists else "createClient", **client}])
    _check(done, ())


async def remove(send: Send, identity: BrokerIdentity) -> None:
    """Remove a client and its role.  Raises ManagementFailed, CommandRefused."""
    gone, role = await send([
        {"command": "deleteClient", "username": identity.user},
        {"command": "deleteRole", "rolename": identity.user},
    ])  # fmt: skip
    _check(gone, (CLIENT_MISSING,))
    _check(role, (ROLE_MISSING,))


class CommandRefused(Exception):
    """The broker refused a command.  error: its words, without what does not print."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


def _check(result: CommandResult, harmless: Sequence[str]) -> None:
    if result.error and result.error not in harmless:
        raise CommandRefused(result.error)


def read_results(payload: bytes) -> dict[str, CommandResult]:
    """Return the results in a response, by their correlation data; none if it cannot be read."""
    response = command_json.load(payload, MAX_RESPONSE) or {}
    found, listed = {}, response.get("responses")
    for one in listed if isinstance(listed, list) else ():
        if not isinstance(one, dict):
            continue
        mark, error, data = (one.get(key) for key in ("correlationData", "error", "data"))
        if isinstance(mark, str):
            text = error if isinstance(error, str) else ""
            shown = "".join(c for c in text if c.isprintable())[:128]
            found[mark] = CommandResult(shown, data if isinstance(data, dict) else {})
    return found


class _Waiting:
    """A command, and its result once it is there."""

    __slots__ = ("command", "mark", "result")

    def __init__(self, command: JsonCommand, mark: str) -> None:
        self.command, self.mark = command, mark
        self.result: asyncio.Future[CommandResult] = asyncio.get_running_loop().create_future()


class DynamicSecurity:
    """The manager of a broker's clients: one connection, which is open while it is of use.

    open_connection: logs the manager in.  reply_timeout: seconds for the answer to one batch.
    """

    def __init__(self, open_connection: OpenManagement, reply_timeout: float) -> None:
        self._open, self._timeout = open_connection, reply_timeout
        self._numbers = count(1)
        self._waiting: deque[_Waiting] = deque()
        self._asked: dict[str, _Waiting] = {}
        self._news = asyncio.Event()
        self._working: asyncio.Task[None] | None = None

    async def send(self, commands: Sequence[JsonCommand]) -> Sequence[CommandResult]:
        """Have the broker execute commands in this order; return their results.

        Raises ConnectError and ConfigError where it cannot be reached, else ManagementFailed.
        """
        if len(self._waiting) + len(commands) > MAX_WAITING:
            raise ManagementFailed(asked=False)
        own = [_Waiting(one, f"g{next(self._numbers)}") for one in commands]
        self._waiting.extend(own)
        self._news.set()
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work(), name="broker management")
        try:
            return await asyncio.gather(*(one.result for one in own))
        finally:
            for one in own:
                one.result.cancel()

    async def close(self) -> None:
        """Close the connection; who waits is not answered any more."""
        if self._working is not None:
            await cancel_and_wait((self._working,))
        self._fail(ManagementFailed(asked=False))

    async def _work(self) -> None:
        """Log in and send what waits, as long as anything does."""
        try:
            while self._waiting:
                try:
                    await self._serve()
                except (ConnectError, ConfigError, ManagementFailed) as error:
                    self._fail(error)
                except (Gone, TimeoutError):
                    self._fail(ManagementFailed(asked=False))
        finally:
            self._fail(ManagementFailed(asked=False))

    async def _serve(self) -> None:
        """Log in, and send what waits until nothing has come for a while."""
        connection = await self._open(self._receive)
        try:
            await self._subscribe(connection)
            while await self._has_work():
                await self._send_batch(connection)
        finally:
            await connection.close()

    async def _subscribe(self, connection: mqtt.MqttConnection) -> None:
        async with asyncio.timeout(self._timeout):
            codes = await connection.subscribe([RESPONSE])
        if mqtt.REFUSED in codes:
            raise ManagementFailed(asked=False, denied=True)

    async def _has_work(self) -> bool:
        """Whether anything waits, now or soon."""
        self._news.clear()
        if not self._waiting:
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER):
                    await self._news.wait()
        return bool(self._waiting)

    async def _send_batch(self, connection: mqtt.MqttConnection) -> None:
        batch = [one for one in self._next() if not one.result.done()]
        if not batch:
            return
        self._asked = {one.mark: one for one in batch}
        commands = [{**one.command, "correlationData": one.mark} for one in batch]
        try:
            async with asyncio.timeout(self._timeout):
                await connection.publish(
                    REQUEST, json.dumps({"commands": commands}).encode(), qos=1
                )
                await self._answers(batch, connection)
        finally:
            self._asked = {}
            for one in batch:
                if not one.result.done():
                    one.result.set_exception(ManagementFailed(asked=True))

    @staticmethod
    async def _answers(batch: Sequence[_Waiting], connection: mqtt.MqttConnection) -> None:
        """Return when all answers are there, or the connection has ended.  Raises Gone."""
        missing: set[asyncio.Future[CommandResult]] = {one.result for one in batch}
        while missing:
            if connection.closed.done():
                raise Gone
            awaited: set[asyncio.Future[Any]] = {*missing, connection.closed}
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            missing = {one for one in missing if not one.done()}

    def _next(self) -> list[_Waiting]:
        return [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]

    def _receive(self, topic: str, payload: bytes) -> None:
        if topic != RESPONSE:
            return
        for mark, result in read_results(payload).items():
            waiting = self._asked.get(mark)
            if waiting is not None and not waiting.result.done():
                waiting.result.set_result(result)

    def _fail(self, error: BaseException) -> None:
        while self._waiting:
            one = self._waiting.popleft()
            if not one.result.done():
                one.result.set_exception(error)
