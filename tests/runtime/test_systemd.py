"""The messages to systemd, and when its watchdog is fed."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from pathlib import Path

import pytest

from gatewayd.errors import Busy
from gatewayd.runtime.systemd import (
    MAX_STATUS,
    Notifier,
    feed_watchdog,
    merged,
    notify_socket,
    status_line,
    unresponsive,
    watchdog_interval,
)
from gatewayd.runtime.tasks import cancel_and_wait


class FakeSystemd:
    """Keeps what it gets.  error: raised instead."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.error: OSError | None = None

    def send(self, message: bytes) -> None:
        if self.error:
            raise self.error
        self.sent.append(message.decode())


def test_messages() -> None:
    systemd = FakeSystemd()
    notifier = Notifier(systemd.send, now=lambda: 12.5)
    notifier.ready("3 devices")
    notifier.status("fine\nREADY=1")
    notifier.reloading()
    notifier.more_time(30)
    notifier.watchdog()
    notifier.stopping("bye")
    assert systemd.sent == [
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
    systemd = FakeSystemd()
    sent, stuck = systemd.sent, False

    async def store() -> None:
        await (hung() if stuck else alive())

    feeding = asyncio.create_task(
        feed_watchdog(Notifier(systemd.send), 0.01, {"asyncio": alive, "store": store})
    )
    async with asyncio.timeout(60):
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


@pytest.mark.parametrize("error", [
    BlockingIOError(11, "Resource temporarily unavailable"),
    ConnectionRefusedError(111, "Connection refused"),
])  # fmt: skip
def test_what_cannot_be_sent_waits_and_is_logged_once(
    caplog: pytest.LogCaptureFixture, error: OSError
) -> None:
    systemd = FakeSystemd()
    notifier, systemd.error = Notifier(systemd.send), error
    notifier.ready("3 devices")
    for number in range(4, 50):
        notifier.watchdog()
        notifier.status(f"{number} devices")
        notifier.flush()
    assert len(caplog.records) == 1
    systemd.error = None
    notifier.flush()
    notifier.flush()
    assert systemd.sent == ["READY=1\nSTATUS=49 devices"]  # and no heartbeat of the past
    assert len(caplog.records) == 2


READY, RELOADING = {"READY": "1", "STATUS": "a"}, {"RELOADING": "1", "MONOTONIC_USEC": "7"}


@pytest.mark.parametrize(("messages", "expected"), [
    ((READY, {"STATUS": "b"}), {"READY": "1", "STATUS": "b"}),
    ((RELOADING, READY), READY),
    ((READY, RELOADING), {"STATUS": "a", **RELOADING}),
    ((READY, RELOADING, {"STOPPING": "1"}), {"STATUS": "a", "STOPPING": "1"}),
])  # fmt: skip
def test_one_message_says_what_several_would_say(
    messages: tuple[dict[str, str], ...], expected: dict[str, str]
) -> None:
    waiting: dict[str, str] = {}
    for message in messages:
        waiting = merged(waiting, message)
    assert waiting == expected


@pytest.mark.parametrize("kind", ["path", "abstract"])
async def test_a_socket_that_is_not_read_stops_nothing(tmp_path: Path, kind: str) -> None:
    name = str(tmp_path / "notify") if kind == "path" else f"@gatewayd-test-{os.getpid()}"
    unix = socket.AF_UNIX, socket.SOCK_DGRAM
    with socket.socket(*unix) as systemd, notify_socket({"NOTIFY_SOCKET": name}) as sender:
        systemd.bind(name.replace("@", "\0"))
        notifier = Notifier(sender.send)
        for number in range(100):
            notifier.status(str(number))
        systemd.setblocking(False)
        received = list[bytes]()
        while True:
            try:
                received.append(systemd.recv(4096))
            except BlockingIOError:
                break
        assert 1 <= len(received) < 100
        notifier.flush()
        assert systemd.recv(4096) == b"STATUS=99"


def test_without_systemd_nothing_is_sent() -> None:
    for environ in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}):
        with notify_socket(environ) as sender:
            notifier = Notifier(sender.send)
            notifier.ready("3 devices")
            assert not notifier._waiting


def test_a_long_status_is_not_cut_within_a_command() -> None:
    assert status_line("a\nb") == "a b"
    shown = status_line("fault: " + "run gatewayctl vault add-recovery; " * 20)
    assert len(shown) <= MAX_STATUS
    assert shown.split()[-1] == "…"
    assert set(shown.split()[1:-1]) <= {"run", "gatewayctl", "vault", "add-recovery;"}
