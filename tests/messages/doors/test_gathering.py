"""What comes while the outbox waits stays with the broker, and is read at once."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from gatewayd.messages.doors import connection
from gatewayd.messages.doors import door as door_module
from gatewayd.messages.intake import IncomingMessage, MessageIntake, Settled
from gatewayd.messages.outbox.file import Changes, OutboxFile
from gatewayd.messages.settings import MessageSettings
from tests.messages.doors.intakes import CHILD, Intake, until
from tests.messages.doors.own_door import running
from tests.messages.doors.scripted import (
    PINGRESP,
    SITE,
    Peer,
    ScriptedBroker,
    message,
    scripted,
    site_door,
)
from tests.support.relays import FakeCloud, running_relay

MORE = connection.AT_ONCE * 2 + 5


class Gathering(Intake):
    """An intake that gathers from its first message on."""

    def offer(self, message: IncomingMessage, settled: Settled) -> None:
        self.gathering = True
        super().offer(message, settled)


def at(broker: ScriptedBroker, intake: MessageIntake) -> AbstractAsyncContextManager[object]:
    """Run a door at a broker."""
    return running(site_door(replace(SITE, port=broker.port), intake))


async def speak_again(peer: Peer, intake: Intake) -> None:
    """Send a message, and another one when the first was received."""
    await peer.accept()
    await peer.send(message(1))
    await until(lambda: len(intake.received) == 1)
    await peer.send(message(2))


async def test_what_comes_meanwhile_is_read_when_it_is_due() -> None:
    sent, intake = asyncio.Event(), Gathering()

    async def play(peer: Peer) -> None:
        await peer.accept()
        await peer.send(message(1))
        await until(lambda: len(intake.received) == 1)
        await peer.send(*(message(n) for n in range(2, MORE)))
        sent.set()
        await peer.gone()

    async with scripted(play) as broker, at(broker, intake):
        await sent.wait()
        await asyncio.sleep(0.1)
        assert len(intake.received) == 1, "the door rests"
        while len(intake.received) < MORE - 1:
            intake.gather()
            await asyncio.sleep(0)
        assert [one.packet for one in intake.received] == list(range(1, MORE))


async def test_a_door_that_rests_keeps_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its broker has answered to a PINGREQ is not read meanwhile."""
    intake, pinged = Gathering(), 0

    async def play(peer: Peer) -> None:
        nonlocal pinged
        await peer.accept()
        await peer.send(message(1))
        while True:
            if (await peer.packet())[0] == 0xC0:
                pinged += 1
                await peer.send(PINGRESP)

    monkeypatch.setattr(door_module, "WATCH", 1000.0)
    async with scripted(play) as broker:
        door = site_door(replace(SITE, port=broker.port), intake)
        async with running(door):
            await until(lambda: pinged >= 4, door.status)
            assert broker.connections == 1


async def test_a_rest_that_was_forgotten_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    intake = Gathering()

    async def play(peer: Peer) -> None:
        await speak_again(peer, intake)
        intake.gathering = False
        await peer.gone()

    monkeypatch.setattr(door_module, "WATCH", 0.05)
    async with scripted(play) as broker, at(broker, intake):
        await intake.until(2)


async def test_a_pause_and_a_rest_end_in_any_order() -> None:
    intake = Gathering()

    async def play(peer: Peer) -> None:
        await speak_again(peer, intake)
        await peer.gone()

    for order in ("unblock gather", "gather unblock"):
        intake = Gathering()
        async with scripted(play) as broker, at(broker, intake):
            await intake.until(1)
            intake.blocked = True
            for step in order.split():
                intake.blocked = intake.blocked and step != "unblock"
                getattr(intake, step)()
                await asyncio.sleep(0)
            await intake.until(2)


async def test_what_comes_together_is_one_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits, apply = list[int](), OutboxFile.apply

    def count(self: OutboxFile, changes: Changes) -> None:
        commits.append(len(changes.stored))
        apply(self, changes)

    async def play(peer: Peer) -> None:
        await peer.accept()
        for number in range(1, 11):
            await peer.send(message(number))
            await asyncio.sleep(0.01)
        await peer.gone()

    monkeypatch.setattr(OutboxFile, "apply", count)
    settings, cloud = MessageSettings(commit_delay=0.5), FakeCloud()
    cloud.admitted.add(CHILD)
    async with (
        running_relay(tmp_path, settings, cloud) as relay,
        scripted(play) as broker,
        at(broker, relay.relay),
    ):
        await until(lambda: sum(commits) == 10, lambda: commits)
    assert len([one for one in commits if one]) < 5
