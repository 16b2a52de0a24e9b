"""A door and commands, against a broker that does what a test says, and several doors."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from gatewayd.commands.door import AnswerFate, DoorCommand
from gatewayd.device.command import CommandAnswer, CommandOutcome
from gatewayd.messages.doors.access import SiteBrokerAccess
from gatewayd.messages.doors.commands import POSSIBLE, EncodedCommand
from gatewayd.messages.doors.door import Door, Retry
from gatewayd.messages.doors.packets import PublishPacket
from gatewayd.messages.doors.site.topics import SiteTopics
from gatewayd.messages.doors.translation import Translated
from gatewayd.runtime.clock import SYSTEM_CLOCK
from tests.commands.doubles import command
from tests.messages.doors.intakes import CHILD, Children, Intake, until
from tests.messages.doors.own_door import SOON, running
from tests.messages.doors.scripted import SITE, Peer, Script, no_secret, scripted

NO_LISTENER, FAILED = CommandOutcome.NO_LISTENER, CommandOutcome.FAILED
CONNACK_OF_1000_BYTES = bytes.fromhex("20 08 00 00 05 27 000003e8")
NO_MATCH = 0x10
NEVER = Retry(30.0, 30.0)


@dataclass
class Commands:
    """Commands at a broker: to the topic `x`, answered or not.  ended: those that are."""

    filters: Sequence[str] = ()
    payload: bytes = b"{}"
    response: str = "r"
    ended: list[DoorCommand] = field(default_factory=list)

    def priority(self, command: DoorCommand) -> int:
        return POSSIBLE

    def encode(self, command: DoorCommand) -> EncodedCommand | CommandAnswer:
        return EncodedCommand("x", self.payload, self.response, b"7")

    def receive(self, message: PublishPacket, translated: Translated) -> AnswerFate:
        return AnswerFate.NONE

    def end(self, command: DoorCommand) -> None:
        self.ended.append(command)


@dataclass
class Sent:
    """A command on its way through a door.  refused: how often another door was asked."""

    door: Door
    concluded: list[CommandAnswer | None] = field(default_factory=list)
    refused: int = 0

    def send(self, *, is_answered: bool = True) -> bool:
        deadline = SYSTEM_CLOCK.now() + 20
        self.command = DoorCommand(CHILD, command(), deadline, is_answered, self.concluded.append)
        return self.door.send(self.command, self._refuse)

    def _refuse(self) -> None:
        self.refused += 1


@contextlib.asynccontextmanager
async def door(
    script: Script,
    commands: Commands,
    intake: Intake | None = None,
    retry: Retry = NEVER,
) -> AsyncIterator[Sent]:
    async with scripted(script) as broker:
        settings = replace(SITE, port=broker.port)
        access = SiteBrokerAccess(settings, "gatewayd-test", no_secret)  # type: ignore[arg-type]  # it is never called
        made = Door(
            "site", access, SiteTopics(settings, Children()), intake or Intake(), SYSTEM_CLOCK,
            retry, commands=commands,
        )  # fmt: skip
        async with running(made):
            yield Sent(made)


async def puback(peer: Peer, code: int) -> bytes:
    """Receive a PUBLISH with topic x, and acknowledge it with a code."""
    packet = await peer.packet()
    assert packet[0] == 0x32
    identifier = (3 if packet[1] & 0x80 else 2) + len(b"\0\1x")
    await peer.send(b"\x40\x03" + packet[identifier : identifier + 2] + bytes((code,)))
    return packet


async def test_nothing_listens_and_its_answer_counts_no_more() -> None:
    commands = Commands()

    async def play(peer: Peer) -> None:
        await peer.accept()
        await puback(peer, NO_MATCH)
        await peer.gone()

    async with door(play, commands) as sent:
        assert sent.send()
        await until(lambda: sent.refused)
        assert commands.ended == [sent.command]
        assert not sent.concluded


async def test_a_connection_that_is_lost_amid_a_command() -> None:
    async def play(peer: Peer) -> None:
        await peer.accept()
        assert (await peer.packet())[0] == 0x32

    for is_answered, expected in ((True, []), (False, [CommandOutcome.NO_ANSWER])):
        async with door(play, Commands()) as sent:
            assert sent.send(is_answered=is_answered)
            await until(lambda: sent.door.status().state == "connecting")
            assert [one.outcome for one in sent.concluded if one] == expected
            assert not sent.refused, "the device may have it: no other door is asked"
            assert not sent.send(), "the door is closed now"


async def test_a_command_that_the_broker_would_close_the_connection_for() -> None:
    async def play(peer: Peer) -> None:
        await peer.send(CONNACK_OF_1000_BYTES)
        assert (await peer.packet())[0] == 0x82
        await peer.send(bytes.fromhex("90 04 ffff 00 01"))
        packet = await puback(peer, 0)
        assert len(packet) < 1000
        await peer.gone()

    commands = Commands(payload=b"x" * 990)
    async with door(play, commands) as sent:
        assert sent.send()
        assert [one.outcome for one in sent.concluded if one] == [FAILED]
        commands.payload, commands.response = b"", "é" * 480  # 960 bytes
        assert sent.send()
        assert [one.outcome for one in sent.concluded if one] == [FAILED, FAILED]
        commands.payload, commands.response = b"x" * 900, "r"
        assert sent.send()
        await until(lambda: sent.concluded[2:] == [None])


async def test_nothing_is_sent_while_no_answer_could_be_read() -> None:
    async def play(peer: Peer) -> None:
        await peer.accept()
        await peer.gone()

    intake = Intake()
    async with door(play, Commands(), intake) as sent:
        intake.blocked = True
        assert not sent.send()
        intake.unblock()


async def test_a_broker_of_mqtt_3_1_1_keeps_no_command_for_a_device_that_is_away() -> None:
    published: list[bytes] = []

    async def play(peer: Peer) -> None:
        if peer.version != 4:
            return  # it closes the connection, as it does not know MQTT 5
        await peer.accept()
        published.append(await peer.packet())
        await peer.gone()

    async with door(play, Commands(), retry=SOON) as sent:
        assert sent.send()
        assert sent.concluded == [None]
        await until(lambda: published, sent.door.status)
        assert published == [b"\x30\x05\0\1x{}"], "QoS 0, without properties"


async def test_a_fault_in_the_way_of_one_command_costs_that_command() -> None:
    class Faulty(Commands):
        """Commands of which the first cannot be encoded."""

        def encode(self, command: DoorCommand) -> EncodedCommand | CommandAnswer:
            if not self.ended:
                raise ValueError("a fault of ours")
            return super().encode(command)

    async def play(peer: Peer) -> None:
        await peer.accept()
        await peer.gone()

    commands = Faulty()
    async with door(play, commands) as one:
        assert one.send(), "another door would have it no better"
        assert [answer and answer.outcome for answer in one.concluded] == [FAILED]
        commands.ended.append(one.command)
        assert one.send()
        assert len(one.concluded) == 1
