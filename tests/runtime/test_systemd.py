"""The messages to systemd, and when its watchdog is fed."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gatewayd.errors import Busy
from gatewayd.runtime.systemd import Notifier, feed_watchdog, unresponsive, watchdog_interval
from gatewayd.runtime.tasks import cancel_and_wait


def test_messages() -> None:
    sent: list[str] = []
    notifier = Notifier(sent.append, now=lambda: 12.5)
    notifier.ready("3 devices")
    notifier.status("fine\nREADY=1")
    notifier.reloading()
    notifier.more_time(30)
    notifier.watchdog()
    notifier.stopping("bye")
    assert sent == [
        "READY=1\nSTATUS=3 devices",
        "STATUS=fine READY=1",
        "RELOADING=1\nMONOTONIC_USEC=12500000",
        "EXTEND_TIMEOUT_USEC=30000000",
        "WATCHDOG=1",
        "STOPPING=1\nSTATUS=bye",
    ]


@pytest.mark.parametrize(("environ", "interval"), [
    ({"WATCHDOG_USEC": "60000000"}, 20.0),
    ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}, 20.0),
    ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}, None),
    ({"WATCHDOG_USEC": "0"}, None),
    ({"WATCHDOG_USEC": "soon"}, None),
    ({}, None),
])  # fmt: skip
def test_interval(environ: dict[str, str], interval: float | None) -> None:
    assert watchdog_interval(environ, pid=7) == interval


async def alive() -> None:
    await asyncio.sleep(0)


async def hung() -> None:
    await asyncio.Event().wait()


async def failing() -> None:
    raise Busy("no")


async def test_a_part_that_does_not_answer_is_named() -> None:
    pings = {"asyncio": alive, "dbus": hung, "store": failing}
    assert await unresponsive(pings, 0.05) == ["dbus", "store"]
    assert await unresponsive({}, 0.05) == []


async def test_the_watchdog_is_fed_only_if_all_answer(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[str] = []
    stuck = False

    async def store() -> None:
        await (hung() if stuck else alive())

    feeding = asyncio.create_task(
        feed_watchdog(Notifier(sent.append), 0.01, {"asyncio": alive, "store": store})
    )
    async with asyncio.timeout(20):
        while len(sent) < 2:
            await asyncio.sleep(0.01)
        stuck = True
        while not caplog.records:
            await asyncio.sleep(0.01)
        fed = len(sent)
        caplog.clear()
        while not caplog.records:
            await asyncio.sleep(0.01)
    await cancel_and_wait([feeding])
    assert len(sent) == fed
    assert "store" in caplog.text
    assert caplog.records[0].levelno == logging.ERROR


def test_a_systemd_that_is_gone_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    def send(_: str) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    Notifier(send).stopping("on the way out")
    assert "Connection refused" in caplog.text
