"""gatewayd's own broker as a door, on a real mosquitto: what children say arrives, and is held."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewayd.device.message import DropReason
from gatewayd.device.secret import Secret
from gatewayd.messages.doors.access import OwnBrokerAccess
from gatewayd.messages.doors.door import Door
from gatewayd.messages.doors.faults import DoorError
from gatewayd.messages.doors.held import MOST_HELD
from gatewayd.messages.doors.translation import OwnTopics, status_topic
from gatewayd.runtime.clock import SYSTEM_CLOCK
from tests.messages.doors.intakes import CHILD, OTHER, Children, Intake, until
from tests.messages.doors.own_door import SOON, USERS, make_door, own_broker, running
from tests.support.mosquitto import Mosquitto

pytestmark = pytest.mark.integration


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with own_broker() as one:
        yield one


def publisher(broker: Mosquitto, topic: str, *more: str) -> tuple[str, ...]:
    """Return how a child publishes by mosquitto_pub."""
    return (
        "mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port), "-u", CHILD,
        "-P", USERS[CHILD], "-q", "1", "-t", topic, *more,
    )  # fmt: skip


async def say(broker: Mosquitto, topic: str, *lines: str, more: tuple[str, ...] = ()) -> None:
    """Publish a message for each line, and return when the broker has acknowledged all."""
    await feed(publisher(broker, topic, *more, "-l"), "".join(f"{one}\n" for one in lines).encode())


async def publish(broker: Mosquitto, topic: str, payload: bytes) -> None:
    """Publish one message of any bytes."""
    await feed(publisher(broker, topic, "-s"), payload)


async def feed(command: tuple[str, ...], data: bytes) -> None:
    client = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    written, _ = await client.communicate(data)
    assert (client.returncode, written) == (0, b"")


async def test_what_a_child_says_arrives_in_order(broker: Mosquitto) -> None:
    intake = Intake()
    async with running(make_door(broker, intake)) as door:
        await say(broker, f"c/{CHILD}/up/properties", *(str(n) for n in range(500)))
        received = await intake.until(500)
        assert [message.payload for message in received] == [b"%d" % n for n in range(500)]
        assert {(one.door, one.child, one.topic) for one in received} == {
            ("own", CHILD, "properties")
        }
        assert all(message.packet for message in received)
        await until(lambda: not door.status().held, door.status)


async def test_what_is_not_settled_comes_again_and_says_so(broker: Mosquitto) -> None:
    intake = Intake(by_hand=True)
    async with running(make_door(broker, intake)):
        await say(broker, f"c/{CHILD}/up/user/x", "1", "2", "3")
        await intake.until(3)
        intake.settle(1)
    first = intake.received
    again = Intake()
    async with running(make_door(broker, again)):
        received = await again.until(2)
        await say(broker, f"c/{CHILD}/up/user/x", "4")
        await again.until(3)
    assert [one.payload for one in received] == [b"2", b"3", b"4"]
    assert [one.repeated for one in received] == [True, True, False]
    assert [one.packet for one in received[:2]] == [one.packet for one in first[1:]]


async def test_acknowledgements_leave_in_the_order_of_arrival(broker: Mosquitto) -> None:
    intake = Intake(by_hand=True)
    async with running(make_door(broker, intake)):
        await say(broker, f"c/{CHILD}/up/user/x", "1", "2", "3")
        await intake.until(3)
        intake.waiting.rotate(-1)
        intake.settle(2)  # 2 and 3, before 1
    again = Intake()
    async with running(make_door(broker, again)):
        assert [one.payload for one in await again.until(3)] == [b"1", b"2", b"3"]


async def test_no_more_is_read_than_can_be_answered_for(broker: Mosquitto) -> None:
    intake = Intake(by_hand=True)
    async with running(make_door(broker, intake)) as door:
        sent = asyncio.create_task(
            say(broker, f"c/{CHILD}/up/properties", *(str(n) for n in range(2000)))
        )
        await intake.until(150)
        settled = 0
        while len(intake.received) < 2000 or intake.waiting:
            assert len(intake.waiting) <= MOST_HELD + 1
            settled += (count := min(len(intake.waiting), 37))
            intake.settle(count)
            await asyncio.sleep(0.001)
        await sent
        assert [one.payload for one in intake.received] == [b"%d" % n for n in range(2000)]
        assert door.status().received == 2000


async def test_nothing_is_read_while_nothing_can_be_stored(broker: Mosquitto) -> None:
    intake = Intake()
    async with running(make_door(broker, intake)) as door:
        intake.blocked = True
        await say(broker, f"c/{CHILD}/up/properties", *(str(n) for n in range(100)))
        await until(lambda: door.status().state == "paused", door.status)
        assert len(intake.received) <= 1
        intake.unblock()
        await intake.until(100)


async def test_a_door_waits_for_its_intake_before_it_connects(broker: Mosquitto) -> None:
    intake = Intake()
    intake.blocked = True
    async with running(make_door(broker, intake), "paused") as door:
        intake.unblock()
        await until(lambda: door.status().state == "connected", door.status)


@pytest.mark.parametrize(
    ("topic", "counter"),
    [
        ("c/child-ffffffffffff/up/properties", "unknown-child"),
        (f"c/{CHILD}/up/", "topic-not-read"),
        (f"c/{CHILD}/up/{'x' * 300}", "topic-not-read"),
    ],
)
async def test_what_no_child_says_is_dropped_and_counted(
    broker: Mosquitto, topic: str, counter: str
) -> None:
    intake = Intake()
    async with running(make_door(broker, intake)) as door:
        await say(broker, topic, "1")
        await until(lambda: door.status().dropped.get(counter), door.status)
        await say(broker, f"c/{CHILD}/up/properties", "2")
        (message,) = await intake.until(1)
        assert message.payload == b"2"


@pytest.mark.parametrize("payload", [b"\xff\xfe\x00", b"x" * 200_000, "ü".encode("latin-1"), b"\n"])
async def test_odd_payloads_pass_unchanged(broker: Mosquitto, payload: bytes) -> None:
    intake = Intake()
    async with running(make_door(broker, intake)):
        await publish(broker, f"c/{CHILD}/up/user/raw", payload)
        assert [one.payload for one in await intake.until(1)] == [payload]


async def test_an_old_retained_message_is_not_read(broker: Mosquitto) -> None:
    await say(broker, f"c/{CHILD}/up/properties", "old", more=("-r",))
    intake = Intake()
    async with running(make_door(broker, intake)):
        await say(broker, f"c/{CHILD}/up/properties", "new", more=("-r",))
        (message,) = await intake.until(1)
        assert message.payload == b"new"


# Receipts.


async def ask(broker: Mosquitto, topic: str, response: str, *, wait: int = 20) -> str:
    """Send a message by mosquitto_rr, and return the receipt; "" for none in time."""
    client = await asyncio.create_subprocess_exec(
        "mosquitto_rr", "-h", "127.0.0.1", "-p", str(broker.port), "-u", CHILD, "-P", USERS[CHILD],
        "-V", "5", "-q", "1", "-t", topic, "-e", response, "-m", "1", "-W", str(wait),
        "-D", "publish", "correlation-data", "abc", "-F", "%p %D",
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    written, _ = await client.communicate()
    return written.decode().strip()


async def test_a_receipt_says_what_became_of_a_message(broker: Mosquitto) -> None:
    intake = Intake()
    intake.reasons = {"user/full": DropReason.TOTAL}
    async with running(make_door(broker, intake)):
        down = f"c/{CHILD}/down/receipt"
        for topic, receipt in (
            ("up/properties", "stored"),
            ("up/user/full", "refused total"),
        ):
            assert (await ask(broker, f"c/{CHILD}/{topic}", down)).split(" abc")[0] == receipt


async def test_a_receipt_goes_to_its_own_child_only(broker: Mosquitto) -> None:
    intake = Intake()
    async with running(make_door(broker, intake)):
        listener = await asyncio.create_subprocess_exec(
            "mosquitto_sub", "-h", "127.0.0.1", "-p", str(broker.port), "-u", OTHER,
            "-P", USERS[OTHER], "-t", "c/#", "-v",
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert not await ask(broker, f"c/{CHILD}/up/x", f"c/{OTHER}/down/receipt", wait=1)
            await intake.until(1)
            await ask(broker, f"c/{CHILD}/up/x", f"c/{CHILD}/down/r")
        finally:
            listener.terminate()
            written, _ = await listener.communicate()
        topics = [line.split()[0].decode() for line in written.splitlines()]
        assert f"c/{CHILD}/down/r" in topics
        assert f"c/{OTHER}/down/receipt" not in topics


# The status of a child.


async def retained(broker: Mosquitto, topic: str) -> str:
    """Return what the broker has retained; "" for nothing."""
    client = await asyncio.create_subprocess_exec(
        "mosquitto_sub", "-h", "127.0.0.1", "-p", str(broker.port), "-u", CHILD, "-P", USERS[CHILD],
        "-t", topic, "-C", "1", "-W", "1", "--retained-only",
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    written, _ = await client.communicate()
    return written.decode().strip()


async def test_a_child_is_shown_its_status_until_it_is_forgotten(broker: Mosquitto) -> None:
    door, topic = make_door(broker, Intake()), status_topic(CHILD)
    door.show(topic, b"before")  # the door is not connected yet
    async with running(door):
        assert await retained(broker, topic) == "before"
        door.show(topic, b"after")
        await say(broker, f"c/{CHILD}/up/x", "1")
        assert await retained(broker, topic) == "after"
        door.show(topic, b"")
        await say(broker, f"c/{CHILD}/up/x", "1")
        assert await retained(broker, topic) == ""


# Reconnecting.


async def test_a_broker_that_comes_back_is_used_again(broker: Mosquitto) -> None:
    intake = Intake()
    async with running(make_door(broker, intake)) as door:
        await say(broker, f"c/{CHILD}/up/x", "1")
        await intake.until(1)
        await asyncio.to_thread(broker.kill)
        await until(lambda: door.status().state == "connecting", door.status)
        await until(lambda: door.status().reason.code == "broker-socket-refused", door.status)
        assert door.status().reason.remedy
        await asyncio.to_thread(broker.start)
        await until(lambda: door.status().state == "connected", door.status)
        assert not door.status().reason.code
        await say(broker, f"c/{CHILD}/up/x", "2")
        assert [one.payload for one in await intake.until(2)] == [b"1", b"2"]


async def test_a_wrong_password_is_named(broker: Mosquitto) -> None:
    async with running(make_door(broker, Intake(), "wrong"), "") as door:
        await until(
            lambda: (
                door.status().reason.code in ("broker-password-refused", "broker-not-authorised")
            ),
            door.status,
        )


async def test_a_missing_socket_is_named(broker: Mosquitto) -> None:
    access = OwnBrokerAccess(broker.directory / "none", lambda: Secret(b"x"))
    door = Door("own", access, OwnTopics(Children()), Intake(), SYSTEM_CLOCK, SOON)
    async with running(door, ""):
        await until(lambda: door.status().reason.code == "broker-socket-missing", door.status)


def test_a_door_says_first_that_it_is_connecting() -> None:
    access = OwnBrokerAccess(Path("/run/x"), lambda: Secret(b"x"))
    door = Door("own", access, OwnTopics(Children()), Intake(), SYSTEM_CLOCK, SOON)
    assert (door.status().state, door.status().reason.code) == ("connecting", "broker-connecting")


async def test_a_socket_that_may_not_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The superuser may use each, so the kernel's answer is played."""

    async def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", refuse)
    access = OwnBrokerAccess(Path("/run/x"), lambda: Secret(b"x"))
    with pytest.raises(DoorError) as raised:
        await access.open()
    assert raised.value.reason.code == "broker-socket-denied"
