"""The worker that manages clients: callers that leave, a broker that restarts, one that lies."""

from __future__ import annotations

import asyncio
import gc
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gatewayd.cloud import mqtt
from gatewayd.cloud.mqtt_broker.dynamic_security import (
    MAX_WAITING,
    REQUEST,
    RESPONSE,
    CommandResult,
    DynamicSecurity,
    ManagementFailed,
    ManagementFault,
)
from gatewayd.cloud.paho_socket import Gone
from gatewayd.device.record import CloudName
from gatewayd.network.connect_errors import ConnectError, ConnectFault, ConnectionEnd
from tests.cloud.mqtt_broker.brokers import managed_broker

LOOK = {"command": "getClient", "username": "x"}
Answer = Callable[["Line", list[dict[str, Any]]], None]


class Line:
    """A connection whose broker is a function of this test."""

    def __init__(self, handler: mqtt.Handler, answer: Answer, *, refuses: bool = False) -> None:
        self.handler, self._answer, self._refuses = handler, answer, refuses
        self.closed: asyncio.Future[ConnectionEnd] = asyncio.get_running_loop().create_future()

    async def subscribe(self, topics: Sequence[str]) -> tuple[int, ...]:
        assert list(topics) == [RESPONSE]
        return (mqtt.REFUSED if self._refuses else 1,)

    async def publish(self, topic: str, payload: bytes, qos: int = 0) -> None:
        assert (topic, qos) == (REQUEST, 1)
        await asyncio.sleep(0)
        if self.closed.done():
            raise Gone
        self._answer(self, json.loads(payload)["commands"])

    def end(self) -> None:
        if not self.closed.done():
            self.closed.set_result(ConnectionEnd.CLOUD)

    def say(self, *responses: object, topic: str = RESPONSE) -> None:
        self.handler(topic, json.dumps({"responses": responses}).encode())

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.end()


def done(line: Line, commands: list[dict[str, Any]]) -> None:
    """Answer all."""
    line.say(*({"correlationData": one["correlationData"], "data": one} for one in commands))


@asynccontextmanager
async def worker(*answers: Answer, patience: float = 0.2) -> AsyncIterator[DynamicSecurity]:
    """Run a worker; its connections are answered by these in turn, and then by the last."""
    lines: list[Line] = []

    async def open_connection(handler: mqtt.Handler) -> Any:
        lines.append(Line(handler, answers[min(len(lines), len(answers) - 1)]))
        return lines[-1]

    one = DynamicSecurity(open_connection, patience)
    faults: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: faults.append(context))
    try:
        yield one
        await one.close()
        gc.collect()
        await asyncio.sleep(0)
        assert not faults, "each exception was retrieved"
        assert all(line.closed.done() for line in lines)
    finally:
        loop.set_exception_handler(None)


async def test_callers_that_leave_take_nothing_from_the_others() -> None:
    chance = random.Random(7)
    async with worker(done) as one:
        callers = [
            asyncio.create_task(one.send([{**LOOK, "n": n}, {**LOOK, "n": -n}])) for n in range(500)
        ]
        left = set()
        while not all(caller.done() for caller in callers):
            gone = chance.randrange(500)
            if not callers[gone].done():
                callers[gone].cancel()
                left.add(gone)
            await asyncio.sleep(0)
        assert left
        for n, caller in enumerate(callers):
            if caller.cancelled():
                assert n in left
                continue
            first, second = caller.result()
            assert (first.data["n"], second.data["n"]) == (n, -n), "each has its own answers"


async def test_a_lying_broker_answers_for_no_one() -> None:
    def lies(line: Line, commands: list[dict[str, Any]]) -> None:
        (own,) = [one["correlationData"] for one in commands]
        for junk in (b"", b"[]", b"{", b"\xff", b'{"responses":{}}', b"[" * 5000, b"x" * (1 << 20)):
            line.handler(RESPONSE, junk)
        line.say({"correlationData": own, "error": "another topic"}, topic="devices/a/up/b")
        line.say({"correlationData": 1}, {"correlationData": ["g1"]}, 7, None, [], {})
        line.say(*({"correlationData": f"g{n}", "error": "late"} for n in range(100, 1900)))
        line.say({"correlationData": own, "error": 3, "data": [1]})
        line.say({"correlationData": own, "error": "twice"})

    async with worker(lies) as one:
        assert await one.send([LOOK]) == [CommandResult("", {})]


async def test_an_answer_that_comes_late_is_for_no_later_command() -> None:
    late: list[str] = []

    def silent(_: Line, commands: list[dict[str, Any]]) -> None:
        late.extend(one["correlationData"] for one in commands)

    def both(line: Line, commands: list[dict[str, Any]]) -> None:
        line.say(*({"correlationData": mark, "error": "late"} for mark in late))
        done(line, commands)

    async with worker(silent, both, patience=0.05) as one:
        with pytest.raises(ManagementFailed) as failed:
            await one.send([LOOK])
        assert failed.value.fault is ManagementFault.SILENT
        (result,) = await one.send([LOOK])
        assert not result.error


async def test_a_connection_that_ends_fails_its_batch_and_later_commands_get_another() -> None:
    def dies(line: Line, _: list[dict[str, Any]]) -> None:
        line.end()

    async with worker(dies, done) as one:
        with pytest.raises(ManagementFailed) as failed:
            await one.send([LOOK])
        assert failed.value.fault is ManagementFault.INTERRUPTED
        assert len(await one.send([LOOK])) == 1


async def test_a_connection_that_ends_while_it_is_idle_fails_nothing() -> None:
    lines: list[Line] = []

    def keeps(line: Line, commands: list[dict[str, Any]]) -> None:
        lines.append(line)
        done(line, commands)

    async with worker(keeps) as one:
        await one.send([LOOK])
        lines[0].end()
        assert len(await one.send([LOOK])) == 1
        assert lines[0] is not lines[1]


async def test_a_broker_that_always_hangs_up_is_not_asked_for_ever() -> None:
    asked = 0

    def dies(line: Line, _: list[dict[str, Any]]) -> None:
        nonlocal asked
        asked += 1
        line.end()

    async with worker(dies) as one:
        ended = await asyncio.gather(*(one.send([LOOK]) for _ in range(60)), return_exceptions=True)
        assert all(isinstance(error, ManagementFailed) for error in ended)
        assert asked == 1


async def test_a_table_that_is_full_takes_no_more() -> None:
    async with worker(done) as one:
        many = [asyncio.create_task(one.send([LOOK])) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(ManagementFailed) as busy:
            await one.send([LOOK])
        assert busy.value.fault is ManagementFault.BUSY
        assert len(await asyncio.gather(*many)) == MAX_WAITING


async def test_who_waits_when_it_is_closed_is_answered() -> None:
    async with worker(lambda *_: None, patience=20.0) as one:
        waiting = [asyncio.create_task(one.send([LOOK, LOOK])) for _ in range(50)]
        await asyncio.sleep(0.05)
        await one.close()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(error, ManagementFailed) for error in ended)


async def test_many_that_fail_together_share_no_exception() -> None:
    async def open_connection(_: mqtt.Handler) -> Any:
        raise ConnectError(ConnectFault.DNS)

    one = DynamicSecurity(open_connection, 1.0)
    ended = await asyncio.gather(*(one.send([LOOK]) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(error, ConnectError) for error in ended)
    assert len({id(error) for error in ended}) == 3
    await one.close()


@pytest.mark.integration
async def test_a_restart_of_the_broker_leaves_no_caller_without_an_answer() -> None:
    async with managed_broker(reply_timeout=5.0, connect_timeout=5.0) as one:
        names = [CloudName("plant", "meter", f"PM-{n:04}") for n in range(300)]
        asking = [asyncio.create_task(one.provider.unbind(name)) for name in names]
        await asyncio.sleep(0.1)
        await asyncio.to_thread(one.broker.stop)
        await asyncio.to_thread(one.broker.start)
        async with asyncio.timeout(30):
            ended = await asyncio.gather(*asking)
        codes = {reason.code for reason in ended if reason is not None}
        assert codes <= {"management-interrupted", "tcp-refused", "cloud-hung-up"}
        assert await one.provider.unbind(names[0]) is None
