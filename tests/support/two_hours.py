"""A site in simulated time: the real flow and the real provider, and a cloud without sockets.

The cloud is the simulator's, with its rules and faults.  Only the way between the two is made up:
messages take a moment, are lost with their connection, and are counted where they arrive.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar, TypeVarTuple, cast

from gatewayd.cloud.mqtt import Login
from gatewayd.cloud.paho_socket import Gone
from gatewayd.network.connect_errors import ConnectError, ConnectFault, ConnectionEnd
from gatewayd.simulator.alibaba.cloud import AlibabaCloud
from gatewayd.simulator.alibaba.credentials import AlibabaConnectRefused, understand
from gatewayd.simulator.mqtt import codec
from gatewayd.simulator.mqtt.link import MqttLink, ReplyStep
from gatewayd.simulator.mqtt.packets import Connect, Publish
from gatewayd.testing.clock import JumpingLoop

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class InlineLoop(JumpingLoop):
    """Does at once what is meant for a thread, which would take real time."""

    def run_in_executor(
        self, _: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        done: asyncio.Future[T] = self.create_future()
        asyncio.events._set_running_loop(None)  # as in a thread, which may block
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  # border: the waiter gets it
            done.set_exception(error)
        finally:
            asyncio.events._set_running_loop(self)
        return done


SIZES = {
    "sub/register": 30, "topo/add": 30, "topo/delete": 30, "product_register": 10,
    "batch_login": 50, "batch_logout": 50,
}  # fmt: skip
"""Children in one request, at most, by the end of its topic."""


@dataclass
class Meter:
    """Counts what arrives at the cloud, by the limits of its documentation.

    broken: which limit was not kept, when and by whom.
    """

    now: Callable[[], float]
    broken: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    _moments: defaultdict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))

    def reset(self) -> None:
        """Count from nothing: a program that was just started knows of no earlier login."""
        self._moments.clear()

    def connect(self, connect: Connect) -> None:
        self.seen["connect"] += 1
        self._limit(f"connects of {connect.username}", 5, 60.0)

    def message(self, owner: str, topic: str, payload: bytes) -> None:
        self._limit(f"messages of {owner}", 30, 1.0)
        method = topic.partition("/gateway-1/")[2]
        if topic.endswith("_reply"):
            return
        self.seen[method] += 1
        children = children_in(json.loads(payload).get("params"))
        size = next((most for end, most in SIZES.items() if method.endswith(end)), len(children))
        if len(children) > size:
            self._break(f"{len(children)} children in {method}")
        if method.endswith("login"):
            for child in children:
                self._limit("logins of the gateway", 200, 1.0)
                self._limit(f"logins of {child}", 5, 60.0)

    def subscribe(self, topics: Sequence[str], held: set[str]) -> None:
        if len(topics) > 8 or len(held) > 100:
            self._break(f"{len(topics)} topics at once, {len(held)} in all")

    def _limit(self, what: str, most: int, seconds: float) -> None:
        moments, now = self._moments[what], self.now()
        while moments and moments[0] <= now - seconds:
            moments.popleft()
        moments.append(now)
        if len(moments) > most:
            self._break(f"{what}: {len(moments)} in {seconds:.0f} s")

    def _break(self, what: str) -> None:
        self.broken.append(f"{self.now():.1f} s: {what}")


def children_in(params: Any) -> list[str]:
    """The children that a request is about."""
    if isinstance(params, dict):
        params = params.get("proxieds", params.get("deviceList", [params]))
    return [one["deviceName"] for one in params if isinstance(one, dict) and "deviceName" in one]


class Network:
    """The way to the cloud.  down: no connection can be made.  lines: those that are open."""

    def __init__(self, cloud: AlibabaCloud, meter: Meter, random: Random) -> None:
        self.cloud, self.meter, self.random = cloud, meter, random
        self.down = False
        self.lines: dict[Line, None] = {}  # in the order in which they were opened

    async def open_connection(
        self,
        server: Any,
        login: Login,
        keepalive: int,
        on_message: Callable[[str, bytes], None] = lambda *_: None,
        **_bounds: int,
    ) -> Line:
        """Stand in for the one of cloud/mqtt.py."""
        await asyncio.sleep(self.random.uniform(0.02, 0.2))
        if self.down:
            raise ConnectError(ConnectFault.TCP_UNREACHABLE)
        line = Line(self, on_message)
        try:
            line.greet(login, keepalive)
            await asyncio.wait({line.answer}, timeout=server.reply_timeout)
        except BaseException:
            line.abort()
            raise
        if (refusal := line.refusal()) is not None:
            line.abort()
            raise refusal
        return line

    def cut(self, *, late: bool = False) -> None:
        """Cut every connection.  late: the cloud learns it only after a while."""
        for line in tuple(self.lines):
            line.break_off(self.random.uniform(1, 40) if late else 0.0)


class CloudEnd:
    """A connection as the cloud has it."""

    tls, server_name = object(), None

    def __init__(self, line: Line) -> None:
        self._line = line
        self.link = cast("MqttLink", self)

    def send(self, data: bytes) -> None:
        self._line.send(data)

    def close(self) -> None:
        self._line.close_by_cloud()


class Line:
    """One connection: in the place of a mqtt.Connection."""

    def __init__(self, network: Network, on_message: Callable[[str, bytes], None]) -> None:
        self._network, self._loop = network, asyncio.get_running_loop()
        self.on_message = on_message
        self.closed: asyncio.Future[ConnectionEnd] = self._loop.create_future()
        self.answer: asyncio.Future[int | None] = self._loop.create_future()
        self.owner, self.mute = "", False
        self._accepted = self._cloud_open = True
        self._ways = (deque[Callable[[], None]](), deque[Callable[[], None]]())
        self._parser = codec.Parser(1 << 20)
        self._topics: set[str] = set()
        self._end = CloudEnd(self)
        network.lines[self] = None

    def refusal(self) -> ConnectError | None:
        """Why this connection is not to be used; None if the cloud has accepted it."""
        if not self.answer.done():
            return ConnectError(ConnectFault.MQTT_TIMEOUT)
        code = self.answer.result()
        if code is None:
            return ConnectError(ConnectFault.MQTT_CLOSED)
        return ConnectError(ConnectFault.MQTT_REFUSED, code) if code else None

    # Our end.

    async def publish(self, topic: str, payload: bytes, qos: int = 0) -> None:
        if self.closed.done():
            raise Gone
        self._carry(0, lambda: self._published(topic, payload, qos))

    async def subscribe(self, topics: Sequence[str]) -> tuple[int, ...]:
        return await self._trip(lambda: self._subscribed(topics))

    async def unsubscribe(self, topics: Sequence[str]) -> None:
        await self._trip(lambda: self._unsubscribed(topics))

    async def wait_closed(self) -> ConnectionEnd:
        return await asyncio.shield(self.closed)

    async def close(self) -> None:
        self._carry(0, self._hang_up)
        await asyncio.sleep(0)
        self.abort()

    def abort(self) -> None:
        self._finish(ConnectionEnd.OURS)
        self._carry(0, self._hang_up)

    # The way between.

    def send(self, data: bytes) -> None:
        """Bring what the cloud sends."""
        if self._cloud_open:
            self._carry(1, lambda: self._received(data))

    def close_by_cloud(self) -> None:
        self._hang_up()
        self._carry(1, lambda: self._finish(ConnectionEnd.CLOUD))

    def greet(self, login: Login, keepalive: int) -> None:
        self.owner = login.user_name
        password = login.password.reveal()
        connect = Connect(
            "MQTT", 4, login.client_id, keepalive, username=login.user_name, password=password
        )
        self._carry(0, lambda: self._greeted(connect))

    def break_off(self, cloud_learns_in: float) -> None:
        self.mute = True
        self._finish(ConnectionEnd.LOST)
        self._loop.call_later(cloud_learns_in, self._hang_up)

    def _carry(self, way: int, what: Callable[[], None]) -> None:
        """In order, each after a moment."""
        self._ways[way].append(what)
        self._loop.call_later(self._network.random.uniform(0.005, 0.03), self._arrive, way)

    def _arrive(self, way: int) -> None:
        what = self._ways[way].popleft()
        if not self.mute:
            what()

    async def _trip(self, what: Callable[[], tuple[int, ...]]) -> tuple[int, ...]:
        if self.closed.done():
            raise Gone
        done: asyncio.Future[tuple[int, ...]] = self._loop.create_future()

        def there() -> None:
            result = what()
            self._carry(1, lambda: None if done.done() else done.set_result(result))

        self._carry(0, there)
        await asyncio.wait((done, self.closed), return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            raise Gone
        return done.result()

    def _greeted(self, connect: Connect) -> None:
        try:
            understand(connect, tls=True)
        except AlibabaConnectRefused as refused:
            raise AssertionError(refused) from refused
        self._network.meter.connect(connect)
        reply = self._network.cloud.on_connect(self._end.link, connect)
        self._accepted = reply.accepted
        self._play(reply.steps)

    def _play(self, steps: Sequence[ReplyStep]) -> None:
        after = 0.0
        for step in steps:
            after += step.after
            if after:
                self._loop.call_later(after, self._step, step)
            else:
                self._step(step)

    def _step(self, step: ReplyStep) -> None:
        if not self._cloud_open:
            return
        if step.data:
            self.send(step.data)
        if step.close:
            self.close_by_cloud()

    def _published(self, topic: str, payload: bytes, qos: int) -> None:
        if self._cloud_open and self._accepted:
            self._network.meter.message(self.owner, topic, payload)
            self._network.cloud.on_publish(self._end.link, Publish(topic, payload, qos))

    def _subscribed(self, topics: Sequence[str]) -> tuple[int, ...]:
        self._topics.update(topics)
        self._network.meter.subscribe(topics, self._topics)
        granted = self._network.cloud.on_subscribe(self._end.link, topics)
        return tuple(1 if one else 0x80 for one in granted)

    def _unsubscribed(self, topics: Sequence[str]) -> tuple[int, ...]:
        self._topics.difference_update(topics)
        self._network.cloud.on_unsubscribe(self._end.link, topics)
        return ()

    def _received(self, data: bytes) -> None:
        if data[:1] == b"\x20":
            if not self.answer.done():
                self.answer.set_result(data[3])
            data = data[4:]
        try:
            packets = list(self._parser.feed(data))
        except Exception:  # noqa: BLE001  # garbage is a fault that the cloud may have
            self._finish(ConnectionEnd.PROTOCOL)
            return
        for packet in packets:
            if isinstance(packet, Publish) and not self.closed.done():
                self.on_message(packet.topic, packet.payload)

    def _hang_up(self) -> None:
        if self._cloud_open:
            self._cloud_open = False
            self._network.cloud.on_close(self._end.link)

    def _finish(self, end: ConnectionEnd) -> None:
        self._network.lines.pop(self, None)
        if not self.answer.done():
            self.answer.set_result(None)
        if not self.closed.done():
            self.closed.set_result(end)
