"""How children become clients of a real broker: what is lost, killed or wrong meanwhile."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cloud.mqtt_broker.dynamic_security import FoundChild, Owner, read_results
from gatewayd.cloud.mqtt_broker.preflight import preflight
from gatewayd.cloud.mqtt_broker.provider import MqttBroker
from gatewayd.cloud.preflight import Check, PreflightContext
from gatewayd.cloud.provider import (
    Failed,
    Issued,
    LoginFailed,
    LoginRefused,
    MessageAccepted,
    Outcome,
    Refused,
    SupportsCommands,
    SupportsMessages,
    Unknown,
)
from gatewayd.device.command import ChildCommand, CommandAnswer, CommandOutcome
from gatewayd.device.message import Message
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.testing.contracts.cloud import RecordingKeeper
from gatewayd.testing.waiting import until
from tests.cloud.mqtt_broker.brokers import MANAGER, NAMES, ManagedBroker, managed_broker

integration = pytest.mark.integration
ONE, OTHER = NAMES
SPEAKER = "speaker", "-P", "speak"
"""The user, and its password, who reads and says everything to children."""


async def registered(one: ManagedBroker, name: CloudName = ONE) -> Secret:
    kept = RecordingKeeper()
    assert await one.provider.register(name, kept.keep) == Issued()
    return kept.secrets[0]


async def outcome(one: ManagedBroker, name: CloudName = ONE) -> tuple[Outcome, RecordingKeeper]:
    kept = RecordingKeeper()
    return await one.provider.register(name, kept.keep), kept


async def preflight_of(provider: MqttBroker, one: ManagedBroker) -> dict[str, Check]:
    context = PreflightContext(
        "root", one._read, credentials=True, time=time.time, synchronised=lambda: True
    )
    return {check.step: check async for check in preflight(provider._settings, context)}


async def listener(one: ManagedBroker, secret: Secret, *topics: str) -> asyncio.subprocess.Process:
    """Subscribe as the first child does, with its own credentials, by a client of another hand."""
    words = [word for topic in topics for word in ("-t", topic)]
    return await asyncio.create_subprocess_exec(
        "mosquitto_sub", "-h", "localhost", "-p", str(one.broker.port), "--cafile",
        one.directory / "ca.pem", "-u", "meter-PM-0001", "-P", secret.reveal().decode(),
        "-v", "-C", "1", "-W", "20", *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def say(one: ManagedBroker, topic: str, payload: str, *more: str) -> None:
    """Publish as the speaker."""
    saying = await asyncio.create_subprocess_exec(
        "mosquitto_pub", "-h", "localhost", "-p", str(one.broker.port), "--cafile",
        one.directory / "ca.pem", "-u", *SPEAKER, "-q", "1",
        "-t", topic, "-m", payload, *more,
    )  # fmt: skip
    assert await saying.wait() == 0


async def manage(one: ManagedBroker, *words: str) -> None:
    """Do what an operator does at the broker."""
    managing = await asyncio.create_subprocess_exec(
        "mosquitto_ctrl", "-h", "localhost", "-p", str(one.broker.port), "--cafile",
        one.directory / "ca.pem", "-u", MANAGER, "-P", one.secrets[MANAGER], "dynsec", *words,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await managing.communicate()
    assert managing.returncode == 0, said


async def let_speak(one: ManagedBroker) -> None:
    """Create the speaker.  To change the manager's own role would end the manager's connection."""
    await manage(one, "createRole", "speakers")
    for kind in ("publishClientSend", "subscribePattern"):
        await manage(one, "addRoleACL", "speakers", kind, "devices/#", "allow", "5")
    await manage(one, "createClient", SPEAKER[0], "-p", SPEAKER[2])
    await manage(one, "addClientRole", SPEAKER[0], "speakers", "5")


@integration
async def test_a_child_speaks_and_is_commanded_on_its_own_topics() -> None:
    async with managed_broker() as one:
        await let_speak(one)
        session = await one.provider.connect(ONE, await registered(one))
        assert isinstance(session, SupportsMessages)
        assert isinstance(session, SupportsCommands)
        received: list[ChildCommand] = []
        session.receive_commands(received.append)
        watching = await asyncio.create_subprocess_exec(
            "mosquitto_sub", "-h", "localhost", "-p", str(one.broker.port), "--cafile",
            one.directory / "ca.pem", "-u", *SPEAKER, "-v", "-W", "20",
            "-t", "devices/#", stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await asyncio.sleep(0.5)  # nothing says that a subscription of another is there
        message = Message("properties", b'{"temperature":21.5}', 1_790_000_000_000)
        assert await session.publish(message) == MessageAccepted()
        await say(one, "devices/meter/PM-0001/down/set/7", '{"limit":5}')
        await until(lambda: bool(received))
        assert received[0].arguments == {"limit": 5}
        assert await session.answer(received[0], CommandAnswer(CommandOutcome.DONE))
        assert watching.stdout is not None
        assert [(await watching.stdout.readline()).decode() for _ in range(3)] == [
            'devices/meter/PM-0001/up/properties {"temperature": 21.5, "time": 1790000000000}\n',
            'devices/meter/PM-0001/down/set/7 {"limit":5}\n',
            'devices/meter/PM-0001/up/answer/7 {"ok":true,"result":{}}\n',
        ]
        watching.kill()  # on SIGTERM it waits for the end of -W
        await watching.wait()
        await session.close()


@integration
async def test_a_child_reads_its_own_topics_and_no_others() -> None:
    async with managed_broker() as one:
        secret = await registered(one)
        await registered(one, OTHER)
        session = await one.provider.connect(ONE, secret)
        assert isinstance(session, SupportsMessages)
        own = await listener(one, secret, "devices/meter/PM-0001/up/#")
        for other in ("devices/meter/PM-0002/up/#", "devices/meter/+/up/#", "#", "$CONTROL/#"):
            sub = await listener(one, secret, other)
            _, fault = await sub.communicate()
            assert "denied" in fault.decode(), f"the broker refuses {other}"
        assert await session.publish(Message("properties", b'{"a":1}', 0)) == MessageAccepted()
        said, _ = await own.communicate()
        assert said == b'devices/meter/PM-0001/up/properties {"a":1}\n'
        await session.close()


@integration
async def test_what_was_killed_before_the_broker_knew_is_made_known_at_the_login() -> None:
    async with managed_broker() as one:

        async def hang() -> None:
            await asyncio.Event().wait()

        kept = RecordingKeeper(hang)
        dying = asyncio.create_task(one.provider.register(ONE, kept.keep))
        await until(lambda: bool(kept.secrets))
        dying.cancel()
        assert "meter-PM-0001" not in one.clients()
        again = one.make()
        session = await again.connect(ONE, kept.secrets[0])
        assert one.clients()["meter-PM-0001"]["textname"] == f"gatewayd {MANAGER}"
        await session.close()
        await again.close()


@integration
async def test_a_second_password_holds_once_it_is_made_and_the_first_does_not_come_back() -> None:
    async with managed_broker() as one:
        first = await registered(one)
        second = await registered(one)
        with pytest.raises(LoginRefused):
            await one.provider.connect(ONE, first)
        await (await one.provider.connect(ONE, second)).close()
        with pytest.raises(LoginRefused):
            await one.provider.connect(ONE, Secret(b"none of ours"))


@integration
async def test_a_client_that_is_not_ours_is_left_alone() -> None:
    async with managed_broker() as one:
        await manage(one, "createClient", "meter-PM-0001", "-p", "own")
        before = one.clients()["meter-PM-0001"]
        ended, kept = await outcome(one)
        assert isinstance(ended, Refused)
        assert ended.reason.code == "client-exists"
        assert not kept.secrets
        assert await one.provider.unbind(ONE) is None
        assert one.clients()["meter-PM-0001"] == before


@integration
async def test_two_children_of_one_user_name_are_not_one() -> None:
    async with managed_broker(products=("a", "a-b")) as one:
        await registered(one, CloudName("plant", "a", "b-c"))
        ended, _ = await outcome(one, CloudName("plant", "a-b", "c"))
        assert isinstance(ended, Refused)
        assert ended.reason.code == "client-exists"


@integration
async def test_a_child_that_is_forgotten_is_a_client_no_more() -> None:
    async with managed_broker() as one:
        secret = await registered(one)
        assert await one.provider.unbind(ONE) is None
        assert "meter-PM-0001" not in one.clients()
        assert await one.provider.unbind(ONE) is None, "it is gone already"
        known = json.loads(one.store.read_text())["roles"]
        assert "meter-PM-0001" not in [role["rolename"] for role in known]
        assert secret.reveal()


@integration
async def test_many_at_once_are_all_made() -> None:
    async with managed_broker(reply_timeout=20.0) as one:
        names = [CloudName("plant", "meter", f"PM-{n:04}") for n in range(60)]
        kept = await asyncio.gather(*(registered(one, name) for name in names))
        assert len(set(map(Secret.reveal, kept))) == 60
        assert len(one.clients()) == 61
        session = await one.provider.connect(names[-1], kept[-1])
        await session.close()


@integration
@pytest.mark.parametrize(
    ("wrong", "code"),
    [("password", "management-refused"), ("role", "management-denied"),
     ("plugin", "management-no-answer"), ("down", "tcp-refused"), ("ca", "tls-unknown-ca")],
)  # fmt: skip
async def test_each_mistake_has_a_reason_and_a_remedy(wrong: str, code: str) -> None:
    async with managed_broker() as one:
        more: dict[str, Any] = {}
        if wrong == "password":
            one.secrets[MANAGER] = "other"
        elif wrong == "role":
            await manage(one, "createClient", "weak", "-p", "weak")
            one.secrets[MANAGER] = "weak"
            more["manager"] = "weak"
        elif wrong == "plugin":
            await asyncio.to_thread(one.without_plugin)
        elif wrong == "down":
            one.stop()
        else:
            more["ca_file"] = one.foreign_ca()
        provider = one.make(**more)
        kept = RecordingKeeper()
        ended = await provider.register(ONE, kept.keep)
        assert isinstance(ended, Failed | Unknown)
        assert ended.reason.code == code
        assert ended.reason.remedy
        assert not kept.secrets
        await provider.close()
        found = (await preflight_of(provider, one))["management"]
        reached = wrong not in ("down", "ca")
        assert found.verdict == ("failed" if reached else "unsure")
        assert (found.text == ended.reason.text) == reached


@integration
async def test_the_preflight_logs_the_manager_in_beside_a_gatewayd_that_runs() -> None:
    async with managed_broker() as one:
        await registered(one)
        before = await asyncio.to_thread(one.store.read_bytes)
        found = await preflight_of(one.provider, one)
        assert (found["secret"].verdict, found["management"].verdict) == ("ok", "ok")
        assert await asyncio.to_thread(one.store.read_bytes) == before
        await registered(one, OTHER)
        assert await one.provider.unbind(ONE) is None


@integration
async def test_a_login_says_what_keeps_a_password_from_being_made_known() -> None:
    async with managed_broker() as one:
        secret = await registered(one)
        await manage(one, "deleteClient", "meter-PM-0001")
        one.secrets[MANAGER] = "other"
        again = one.make()
        with pytest.raises(LoginFailed) as failed:
            await again.connect(ONE, secret)
        await again.close()
        assert failed.value.reason.code == "management-refused"


@given(st.binary(max_size=200))
def test_no_response_breaks_the_reader(payload: bytes) -> None:
    assert isinstance(read_results(payload), dict)


@given(st.dictionaries(st.sampled_from(["textname", "textdescription"]), st.text(max_size=40)))
def test_a_mark_is_read_as_it_was_written_and_no_other(client: dict[str, str]) -> None:
    owner = Owner("g", "a/b")
    assert FoundChild(client, None).number(owner) is None
    assert FoundChild(None, client).number(owner) is None
    assert FoundChild(owner.mark(7), owner.mark()).number(owner) == 7
    assert FoundChild(None, owner.mark()).number(owner) == 0
    for other in (Owner("g", "a/c"), Owner("h", "a/b"), Owner("g", "a/b password 7")):
        assert FoundChild(owner.mark(7), None).number(other) is None
        assert FoundChild(None, owner.mark()).number(other) is None
