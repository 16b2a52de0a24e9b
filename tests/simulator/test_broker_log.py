"""The log of a real broker as a journal: who came by which gateway, what was said, who went."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from gatewayd.simulator.broker.broker_log import BrokerLog
from gatewayd.simulator.mqtt.journal import CloudJournal

OURS, THEIRS = "10.88.0.1", "10.88.0.2"
ONE = "sensor-TH20-0001A7"


def _lines(path: Path) -> Sequence[tuple[object, ...]]:
    lines = [json.loads(line) for line in (path / "journal").read_text().splitlines()]
    return [(one["do"], one["peer"], one["link"]) for one in lines]


def test_a_client_that_is_taken_over_is_another_connection(tmp_path: Path) -> None:
    """As mosquitto 2.0.11 writes it; what it has written in part is read when it is whole."""
    log = tmp_path / "mosquitto.log"
    journal = CloudJournal(tmp_path / "journal", lambda: 1.0)
    read = BrokerLog(log, journal)
    read.carried(50232, OURS)
    read.carried(50248, THEIRS)
    came = f"New client connected from 127.0.0.1:%d as {ONE} (p2, c1, k60, u'{ONE}').\n"
    said = f"Received PUBLISH from {ONE} (d0, q1, r0, m1, 'devices/sensor/x/up/y', ... (9 bytes))\n"
    watcher = "New client connected from 127.0.0.1:40001 as observer (p2, c1, k60, u'observer').\n"
    over = f"Client {ONE} already connected, closing old connection.\n"
    with journal:
        log.write_text(watcher + came % 50232 + said + over[:20])
        read.read_on()
        assert read.online == {ONE, "observer"}
        with log.open("a") as more:
            more.write(over[20:] + came % 50248 + said)
        read.read_on()
        assert ONE in read.online
        with log.open("a") as more:
            more.write(f"Client {ONE} closed its connection.\n{said}")
        read.read_on()
    assert read.online == {"observer"}
    assert read.seen == {ONE, "observer"}
    assert _lines(tmp_path) == [
        ("connect", OURS, 1), ("publish", OURS, 1), ("close", OURS, 1),
        ("connect", THEIRS, 2), ("publish", THEIRS, 2), ("close", THEIRS, 2),
    ]  # fmt: skip
