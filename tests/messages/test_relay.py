"""What a door hands over is durable when it is settled, and reaches the cloud in order."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.relays import ALICE, running_relay


async def test_a_message_is_settled_and_reaches_the_cloud(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as running:
        running.connect()
        running.say("1")
        running.say("2")
        await running.accepted(2)
        assert running.settled == [(b"1", None), (b"2", None)]
        assert [m.late for m in running.cloud.received[ALICE]] == [False, False]
        await running.empty()
        counts = running.relay.statistics().total
        assert (counts.received, counts.sent, counts.bytes) == (2, 2, 0)


async def test_what_waits_survives_a_restart(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as running:
        for number in range(10):
            running.say(str(number))
        await running.all_settled()
        assert running.relay.statistics().total.waiting == 10
    async with running_relay(tmp_path) as running:
        assert running.relay.statistics().total.waiting == 10
        running.connect()
        await running.accepted(10)
        assert running.cloud.accepted[ALICE] == [b"%d" % n for n in range(10)]
        assert all(m.late and m.at for m in running.cloud.received[ALICE])
        await running.empty()
    async with running_relay(tmp_path) as running:
        assert running.relay.statistics().total.waiting == 0
        await asyncio.sleep(0)


async def test_statistics_are_made_again_only_when_they_have_changed(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as running:
        running.say("1")
        await running.all_settled()
        before = running.relay.statistics()
        assert before.children[ALICE].waiting == 1
        assert running.relay.statistics() is before
        running.connect()
        await running.empty()
        now = running.relay.statistics()
        assert (now.children[ALICE].waiting, now.children[ALICE].sent) == (0, 1)
        assert running.relay.statistics() is now
