"""Brokers that are old, broken or hostile: a door stays bounded, says why, and comes back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from gatewayd.messages.door_settings import PayloadFormat
from gatewayd.messages.doors import connection
from gatewayd.messages.doors import door as door_module
from gatewayd.messages.doors.held import MOST_HELD
from gatewayd.messages.doors.packets import MAX_PACKET, V5, V311, PublishPacket
from gatewayd.messages.doors.site.topics import SiteTopics
from gatewayd.messages.doors.translation import Translated
from tests.messages.doors.intakes import Intake, until
from tests.messages.doors.own_door import running
from tests.messages.doors.scripted import (
    CONNACK,
    CONNACK_AGAIN,
    PINGRESP,
    SITE,
    Peer,
    Script,
    message,
    scripted,
    site_door,
    suback,
)


async def stay(peer: Peer) -> None:
    """Accept the door, and answer its PINGREQs."""
    await peer.accept()
    await answer_pings(peer)


async def answer_pings(peer: Peer) -> None:
    while True:
        if (await peer.packet())[0] == 0xC0:
            await peer.send(PINGRESP)


def answering(data: str) -> Script:
    async def play(peer: Peer) -> None:
        await peer.send(bytes.fromhex(data))
        await peer.gone()

    return play


async def hang_up(_peer: Peer) -> None:
    """Close without an answer."""


async def accept_and_leave(peer: Peer) -> None:
    """Close without a reason."""
    await peer.accept()


async def say_nothing(peer: Peer) -> None:
    await peer.gone()


async def test_what_ends_each_connection_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with scripted(answering("d0 00")) as broker:  # PINGRESP before CONNACK
        door = site_door(replace(SITE, port=broker.port, retry_last=0.2), Intake())
        async with running(door, ""):
            await until(lambda: broker.connections >= 4, door.status)
    (logged,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert "no CONNACK first" in logged
    assert str(door.status().reason) in logged


async def test_a_broker_that_has_lost_its_session_sends_no_repeats_of_it() -> None:
    async def play(peer: Peer, connack: bytes) -> None:
        await peer.send(connack)
        if connack == CONNACK:
            await peer.packet()
            await peer.send(suback())

    async def new(peer: Peer) -> None:
        await play(peer, CONNACK)

    async def kept(peer: Peer) -> None:
        await play(peer, CONNACK_AGAIN)

    intake = Intake()
    async with scripted(new, kept, new, answer_pings) as broker:
        door = site_door(replace(SITE, port=broker.port), intake)
        async with running(door, ""):
            await until(lambda: broker.connections == 4, door.status)
    assert intake.sessions == ["site", "site"]
    assert len(intake.absences) == 2, "what children have kept themselves comes at once, too"
    assert all(0 < one < 60 for one in intake.absences)


# The version of MQTT.


@pytest.mark.parametrize("first", [answering("20 02 00 01"), answering("20 03 00 84 00"), hang_up])
async def test_a_broker_of_3_1_1_is_used_as_one(first: Script) -> None:
    versions: list[int] = []

    async def old(peer: Peer) -> None:
        versions.append(peer.version)
        if peer.version == V5:
            await first(peer)
            return
        await peer.accept()
        payload = b'{"v":1}'
        await peer.send(
            b"\x32" + bytes((13 + len(payload),)) + b"\x00\x09s/kitchen\x00\x07" + payload
        )
        assert await peer.packet() == bytes.fromhex("40 02 0007")
        await answer_pings(peer)

    async with scripted(old) as broker:
        intake = Intake()
        async with running(site_door(replace(SITE, port=broker.port), intake)) as door:
            (received,) = await intake.until(1)
            assert (received.topic, received.packet) == ("properties", 7)
            assert versions == [V5, V311]
            assert door.status().state == "connected"


async def test_an_old_broker_that_was_updated_is_used_with_mqtt_5() -> None:
    versions: list[int] = []

    async def changing(peer: Peer) -> None:
        versions.append(peer.version)
        if len(versions) == 1:
            await answering("20 02 00 01")(peer)
        elif len(versions) == 2:
            await peer.accept()
        else:
            await stay(peer)

    async with (
        scripted(changing) as broker,
        running(site_door(replace(SITE, port=broker.port), Intake()), "") as door,
    ):
        await until(lambda: len(versions) == 3, door.status)
    assert versions == [V5, V311, V5]


# Refusals and faults, each with its reason.


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (answering("20 03 00 86 00"), "broker-password-refused"),
        (answering("20 02 00 04"), "broker-password-refused"),
        (answering("20 03 00 87 00"), "broker-not-authorised"),
        (answering("20 02 00 05"), "broker-not-authorised"),
        (answering("20 03 00 85 00"), "broker-client-id-refused"),
        (answering("20 03 00 88 00"), "broker-busy"),
        (answering("20 02 00 03"), "broker-busy"),
        (answering("20 03 00 97 00"), "broker-busy"),
        (answering("20 03 00 ff 00"), "broker-refused"),
        (answering("d0 00"), "broker-protocol-error"),
        (answering("48545450"), "broker-protocol-error"),
        (answering("20 03 00 00 00 20 03 00 00 00"), "broker-protocol-error"),
        (answering("e0 01 8e"), "broker-session-taken-over"),
        (answering("20 03 00 00 00 e0 01 8e"), "broker-session-taken-over"),
        (answering("20 03 00 00 00 e0 01 8b"), "broker-restarting"),
        (answering("20 03 00 00 00 ff ff ff ff ff"), "broker-protocol-error"),
        (answering("20 03 00 00 00 34 05 0001 74 0001 00"), "broker-protocol-error"),
        (answering("20 02 00 01"), "broker-version"),
        (hang_up, "broker-hung-up"),
        (accept_and_leave, "broker-connection-lost"),
    ],
)  # fmt: skip
async def test_a_broker_that_does_not_accept_is_named(script: Script, code: str) -> None:
    async with (
        scripted(script) as broker,
        running(site_door(replace(SITE, port=broker.port), Intake()), "") as door,
    ):
        await until(lambda: door.status().reason.code == code, door.status)
        await until(lambda: broker.connections > 2, door.status)  # and it is tried again
        assert door.status().state == "connecting"


async def test_a_broker_that_never_answers_is_left() -> None:
    settings = replace(SITE, reply_timeout=0.2)
    async with (
        scripted(say_nothing) as broker,
        running(site_door(replace(settings, port=broker.port), Intake()), "") as door,
    ):
        await until(lambda: door.status().reason.code == "broker-no-answer", door.status)
        await until(lambda: broker.connections > 1, door.status)


async def test_a_broker_that_never_grants_a_topic_is_left() -> None:
    async def accept_only(peer: Peer) -> None:
        await peer.send(CONNACK)
        await peer.gone()

    settings = replace(SITE, reply_timeout=0.2)
    async with (
        scripted(accept_only) as broker,
        running(site_door(replace(settings, port=broker.port), Intake()), "") as door,
    ):
        await until(lambda: door.status().reason.code == "broker-no-answer", door.status)


async def test_a_topic_that_is_refused_is_shown_while_connected() -> None:
    async def refuse(peer: Peer) -> None:
        await peer.send(CONNACK)
        await peer.packet()
        await peer.send(suback(code=0x87))
        await answer_pings(peer)

    async with (
        scripted(refuse) as broker,
        running(site_door(replace(SITE, port=broker.port), Intake())) as door,
    ):
        assert door.status().reason.code == "broker-subscription-refused"
        assert door.status().reason.remedy


async def test_topics_are_subscribed_to_again_only_where_the_session_is_new() -> None:
    subscribed: list[bool] = []

    async def lose(peer: Peer) -> None:
        await peer.send(CONNACK if broker.connections < 3 else CONNACK_AGAIN)
        packet = await peer.packet()
        subscribed.append(packet[0] == 0x82)
        if packet[0] == 0x82:
            await peer.send(suback())
        if packet[0] == 0xC0:  # the door has nothing else to say
            await peer.send(PINGRESP)
            await answer_pings(peer)

    async with (
        scripted(lose) as broker,
        running(site_door(replace(SITE, port=broker.port), Intake()), "") as door,
    ):
        await until(lambda: len(subscribed) == 3, door.status)
    assert subscribed == [True, True, False]


# Bounds.


async def test_a_broker_that_ignores_the_receive_maximum_is_not_read_further() -> None:
    async def flood(peer: Peer) -> None:
        await peer.accept()
        await peer.send(*(message(number) for number in range(1, 5001)))
        await answer_pings(peer)

    async with scripted(flood) as broker:
        intake = Intake(by_hand=True)
        async with running(site_door(replace(SITE, port=broker.port), intake)):
            await intake.until(MOST_HELD + 1)
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(intake.received) == MOST_HELD + 1
            while len(intake.received) < 5000:
                intake.settle(len(intake.waiting))
                await asyncio.sleep(0.001)
            assert [one.packet for one in intake.received] == list(range(1, 5001))
            assert intake.absences, "nothing was read while it was paused"


async def test_large_messages_are_bounded_by_their_bytes() -> None:
    large = bytes(200_000)

    async def flood(peer: Peer) -> None:
        await peer.accept()
        await peer.send(*(message(number, large) for number in range(1, 101)))
        await answer_pings(peer)

    async with scripted(flood) as broker:
        intake = Intake(by_hand=True)
        settings = replace(
            SITE, port=broker.port,
            topics=(replace(SITE.topics[0], format=PayloadFormat.RAW, into="user/x"),),
        )  # fmt: skip
        async with running(site_door(settings, intake)) as door:
            await intake.until(20)
            for _ in range(50):
                await asyncio.sleep(0.001)
            assert len(intake.received) < 60
            assert door.status().held == len(intake.received)


async def test_a_message_that_is_too_large_is_acknowledged_and_dropped() -> None:
    async def send(peer: Peer) -> None:
        await peer.accept()
        await peer.send(message(1, bytes(3 * MAX_PACKET)), message(2))
        assert await peer.packet() == bytes.fromhex("40 02 0001")
        assert await peer.packet() == bytes.fromhex("40 02 0002")
        await answer_pings(peer)

    async with scripted(send) as broker:
        intake = Intake()
        async with running(site_door(replace(SITE, port=broker.port), intake)) as door:
            (received,) = await intake.until(1)
            assert received.packet == 2
            assert door.status().dropped["too-large"] == 1


async def never_read(peer: Peer) -> None:
    """Send without end, and read nothing."""
    await peer.accept()
    peer.reader._transport.pause_reading()  # type: ignore[attr-defined]  # of asyncio's streams
    number = 0
    while True:
        await peer.send(*(message(number + n + 1) for n in range(100)))
        number = (number + 100) % 60_000


async def test_a_broker_that_never_reads_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it sends is acknowledged; that fills its buffers, then ours, and then it is not read."""
    monkeypatch.setattr(connection, "MAX_UNSENT", 4096)

    settings = replace(SITE, host="", socket=tmp_path / "socket")
    async with (
        scripted(never_read, stay, path=settings.socket) as broker,
        running(site_door(settings, Intake()), "") as door,
    ):
        await until(lambda: broker.connections > 1, door.status)
        await until(lambda: door.status().state == "connected", door.status)
        await until(lambda: door.status().held == 0, door.status)


async def test_a_broker_that_falls_silent_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatewayd.network.mqtt_rules.ANSWER_TIME", 0.2)

    async def fall_silent(peer: Peer) -> None:
        await peer.accept()
        await peer.gone()

    async with (
        scripted(fall_silent, fall_silent, stay) as broker,
        running(site_door(replace(SITE, port=broker.port), Intake()), "") as door,
    ):
        await until(lambda: door.status().reason.code == "broker-silent", door.status)
        await until(lambda: door.status().state == "connected", door.status)


async def test_a_broker_is_not_blamed_for_silence_while_it_is_not_read() -> None:
    """While nothing can be stored, its answers are not read; PINGREQs keep the session."""
    pings = 0

    async def count(peer: Peer) -> None:
        nonlocal pings
        await peer.accept()
        await peer.send(message(1))
        while True:
            pings += (await peer.packet())[0] == 0xC0

    async with scripted(count) as broker:
        intake = Intake(by_hand=True)
        door = site_door(replace(SITE, port=broker.port), intake)
        async with running(door):
            await intake.until(1)
            intake.blocked = True
            door._adjust()
            await until(lambda: pings >= 2, door.status)
            assert broker.connections == 1
            assert door.status().state == "paused"


async def test_a_pause_that_was_forgotten_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "WATCH", 0.05)

    async def send(peer: Peer) -> None:
        await peer.accept()
        await peer.send(message(1), message(2))
        await answer_pings(peer)

    async with scripted(send) as broker:
        intake = Intake()
        async with running(site_door(replace(SITE, port=broker.port), intake)) as door:
            await intake.until(2)
            assert door._session is not None
            door._session.connection.pause()
            door._is_paused = True
            await until(lambda: not door._is_paused, door.status)


async def test_a_fault_of_ours_costs_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    async def send(peer: Peer) -> None:
        await peer.accept()
        await peer.send(message(1, b'{"bad":1}'), message(2))
        assert await peer.packet() == bytes.fromhex("40 02 0001")
        assert await peer.packet() == bytes.fromhex("40 02 0002")
        await answer_pings(peer)

    translate = SiteTopics.translate

    def fail_once(self: SiteTopics, packet: PublishPacket) -> Translated:
        if b"bad" in packet.payload:
            raise ZeroDivisionError
        return translate(self, packet)

    monkeypatch.setattr(SiteTopics, "translate", fail_once)
    async with scripted(send) as broker:
        intake = Intake()
        async with running(site_door(replace(SITE, port=broker.port), intake)) as door:
            (received,) = await intake.until(1)
            assert received.packet == 2
            assert door.status().dropped == {"unreadable": 1}


async def test_a_broker_that_never_reads_keeps_no_door_from_closing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CLOSE_TIME", 0.05)

    settings = replace(SITE, host="", socket=tmp_path / "socket", keepalive=60)
    async with scripted(never_read, path=settings.socket):
        intake = Intake()
        async with running(site_door(settings, intake)) as door:
            await until(
                lambda: door._session is not None and door._session.connection.is_congested,
                door.status,
            )
