"""mosquitto's dynamic security: how clients and roles are managed over MQTT, and who they are.

Commands are JSON on one topic, answers on another, matched by "correlationData".  The broker hashes
a password and writes its file for each command that changes something, so commands leave in
batches, one batch at a time.
Source: the README of mosquitto's plugin "dynamic-security", releases 2.0.11 and 2.0.21.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from enum import Enum, auto
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

CLIENT_MISSING, ROLE_MISSING = "Client not found", "Role not found"
MAX_NUMBER = 999_999_999
"""The number of a password, at most."""
_NUMBERED = re.compile(r"(.*) password ([1-9][0-9]{0,8})", re.ASCII)

JsonCommand: TypeAlias = Mapping[str, object]
Send: TypeAlias = Callable[[Sequence[JsonCommand]], Awaitable[Sequence["CommandResult"]]]
OpenManagement: TypeAlias = Callable[[mqtt.Handler], Awaitable[mqtt.MqttConnection]]
"""Logs the manager in.  Raises ConnectError, ConfigError."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of one command.  error: the broker's words; "" where it is done."""

    error: str
    data: Mapping[str, object]


class ManagementFault(Enum):
    """How it comes that a command has no result."""

    BUSY = auto()  # too many wait
    DENIED = auto()  # this user may manage nothing
    SILENT = auto()  # no answer in time, to this command or to one before it
    INTERRUPTED = auto()  # the connection has ended


class ManagementFailed(Exception):
    """A command has no result; the broker may have executed it, or not."""

    def __init__(self, fault: ManagementFault) -> None:
        super().__init__(fault)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Owner:
    """The mark of a role, and of a client, that a gateway has created.

    manager: the user that manages for this gateway.  child: "product/device".
    """

    manager: str
    child: str

    def mark(self, number: int = 0) -> dict[str, object]:
        """Return the texts of a role or, with the number of its password, of a client."""
        described = f"{self.child} password {number}" if number else self.child
        return {"textname": f"gatewayd {self.manager}", "textdescription": described}


@dataclass(frozen=True, slots=True)
class FoundChild:
    """What the broker has by the user name of a child, as it shows it; None for nothing."""

    client: Mapping[str, object] | None
    role: Mapping[str, object] | None

    def number(self, owner: Owner) -> int | None:
        """Return the number of the password, from 1: the higher one was made later; 0 for none.

        None: the client, or the role, is not of this owner.
        """
        if self.role is not None and not _shows(self.role, owner.mark()):
            return None
        if self.client is None:
            return 0
        found = _NUMBERED.fullmatch(str(self.client.get("textdescription")))
        number = int(found[2]) if found else 0
        own = 0 < number < MAX_NUMBER and _shows(self.client, owner.mark(number))
        return number if own else None


def _shows(shown: Mapping[str, object], mark: Mapping[str, object]) -> bool:
    return all(shown.get(key) == text for key, text in mark.items())


def role_of(identity: BrokerIdentity, owner: Owner) -> dict[str, object]:
    """Return a client's role: it may use its own topics, and nothing else."""
    up, down = (f"{topic}#" for topic in (identity.up, identity.down))
    reads = ("publishClientReceive", "subscribePattern", "unsubscribePattern")
    allowed = [
        ("publishClientSend", up),
        *((kind, topic) for topic in (up, down) for kind in reads),
    ]
    entries = [{"acltype": kind, "topic": topic, "allow": True} for kind, topic in allowed]
    return {"rolename": identity.user, **owner.mark(), "acls": entries}


def client_of(
    identity: BrokerIdentity, owner: Owner, number: int, password: Secret
) -> dict[str, object]:
    """Return a client as it is to be at the broker.

    It is bound to no client id: a program that reads with a child's credentials needs its own, as
    it would end the child's session otherwise.
    """
    return {
        "username": identity.user, "password": password.reveal().decode("ascii"),
        **owner.mark(number), "roles": [{"rolename": identity.user}],
    }  # fmt: skip


async def look_up(send: Send, user: str) -> FoundChild:
    """Return the client and the role of a user name.

    Raises ConnectError, ConfigError, ManagementFailed, CommandRefused.
    """
    client, role = await send([
        {"command": "getClient", "username": user}, {"command": "getRole", "rolename": user},
    ])  # fmt: skip
    _check(client, (CLIENT_MISSING,))
    _check(role, (ROLE_MISSING,))
    return FoundChild(_shown(client, "client"), _shown(role, "role"))


def _shown(result: CommandResult, what: str) -> Mapping[str, object] | None:
    """Return what the broker shows; {} if it has something that it does not show."""
    shown = result.data.get(what)
    return None if result.error else shown if isinstance(shown, Mapping) else {}


async def make(
    send: Send,
    identity: BrokerIdentity,
    found: FoundChild,
    owner: Owner,
    password: tuple[int, Secret],
) -> None:
    """Make a client and its role what they are to be.

    found: what is there; it must be of this owner.  password: its number, and itself.
    Raises ConnectError, ConfigError, ManagementFailed, CommandRefused.
    """
    verbs = ("modify" if one is not None else "create" for one in (found.role, found.client))
    role, client = (f"{verb}{what}" for verb, what in zip(verbs, ("Role", "Client"), strict=True))
    for done in await send([
        {"command": role, **role_of(identity, owner)},
        {"command": client, **client_of(identity, owner, *password)},
    ]):  # fmt: skip
        _check(done, ())


async def remove(send: Send, identity: BrokerIdentity) -> None:
    """Remove a client and its role, of which either may be gone.

    Raises ConnectError, ConfigError, ManagementFailed, CommandRefused.
    """
    client, role = await send([
        {"command": "deleteClient", "username": identity.user},
        {"command": "deleteRole", "rolename": identity.user},
    ])  # fmt: skip
    _check(client, (CLIENT_MISSING,))
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
        self._closed = False

    async def send(self, commands: Sequence[JsonCommand]) -> Sequence[CommandResult]:
        """Have the broker execute commands in this order; return their results.

        Raises ConnectError and ConfigError where it cannot be reached, else ManagementFailed.
        """
        if self._closed:
            raise ManagementFailed(ManagementFault.INTERRUPTED)
        if len(self._waiting) + len(commands) > MAX_WAITING:
            raise ManagementFailed(ManagementFault.BUSY)
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
        """Close the connection; who waits is not answered any more, and no one else begins."""
        self._closed = True
        if self._working is not None:
            await cancel_and_wait((self._working,))
        self._fail(ManagementFailed(ManagementFault.INTERRUPTED))

    async def _work(self) -> None:
        """Log in and send what waits, as long as anything does."""
        try:
            while self._waiting:
                try:
                    connection = await self._open(self._receive)
                except (ConnectError, ConfigError) as error:
                    self._fail(error)
                else:
                    await self._serve(connection)
        finally:
            self._fail(ManagementFailed(ManagementFault.INTERRUPTED))

    async def _serve(self, connection: mqtt.MqttConnection) -> None:
        """Send what waits, until nothing has come for a while, or this connection is of no use.

        What waits then is not asked; what comes while it is closed gets another connection.
        """
        try:
            await self._subscribe(connection)
            await self._send_batch(connection)
            while await self._has_work() and not connection.closed.done():
                await self._send_batch(connection)
        except ManagementFailed as error:
            self._fail(error)
        except TimeoutError:
            self._fail(ManagementFailed(ManagementFault.SILENT))
        except Gone:
            self._fail(ManagementFailed(ManagementFault.INTERRUPTED))
        finally:
            await connection.close()

    async def _subscribe(self, connection: mqtt.MqttConnection) -> None:
        async with asyncio.timeout(self._timeout):
            codes = await connection.subscribe([RESPONSE])
        if mqtt.REFUSED in codes:
            raise ManagementFailed(ManagementFault.DENIED)

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
        fault = ManagementFault.INTERRUPTED
        try:
            async with asyncio.timeout(self._timeout):
                await connection.publish(
                    REQUEST, json.dumps({"commands": commands}).encode(), qos=1
                )
                await self._answers(batch, connection)
        except TimeoutError:
            fault = ManagementFault.SILENT
            raise
        finally:
            self._asked = {}
            for one in batch:
                if not one.result.done():
                    one.result.set_exception(ManagementFailed(fault))

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

    def _fail(self, error: Exception) -> None:
        """Fail what waits: each with an exception of its own, as its traceback grows."""
        while self._waiting:
            one = self._waiting.popleft()
            if not one.result.done():
                one.result.set_exception(copy(error))
