"""Who may change something: a polkit on a real bus, and an unprivileged caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gatewayd.dbus.bus import Bus
from gatewayd.dbus.callers import authorization
from gatewayd.simulator.bus import PrivateBus
from gatewayd.testing.waiting import until
from tests.dbus.fake_polkit import CHALLENGE, NO, YES, FakeAuthority, polkit
from tests.dbus.support import OTHERS, RecordingCommands, error_of, run, served, view
from tests.support.fakes import MemoryDecisions

pytestmark = [
    pytest.mark.integration,
    pytest.mark.parametrize("other", OTHERS, ids=["nobody"] * len(OTHERS)),
]
MANAGER = ("org.gatewayd1", "/org/gatewayd1", "org.gatewayd1.Manager")
DEVICE = ("org.gatewayd1", "/org/gatewayd1/device/child_2d1a", "org.gatewayd1.Device")


@pytest.fixture
async def asked() -> RecordingCommands:
    return RecordingCommands("child-1a", "child-2b")


@pytest.fixture
async def service(bus: PrivateBus, asked: RecordingCommands) -> AsyncIterator[Bus]:
    async with served(bus, asked, view("child-1a"), gather=0.02, commands=1) as ours:
        yield ours


class OtherUser:
    """An unprivileged user."""

    def __init__(self, bus: PrivateBus, prefix: tuple[str, ...]) -> None:
        self.prefix, self._bus = prefix, bus

    async def __call__(self, *words: str, interactive: bool = False) -> tuple[int, str]:
        """Call; the exit status, and what is printed."""
        allow = f"--allow-interactive-authorization={'yes' if interactive else 'no'}"
        start = (*self.prefix, "busctl", f"--address={self._bus.address}")
        return await run(*start, allow, "call", *words)


@pytest.fixture
def other_user(bus: PrivateBus, other: tuple[str, ...]) -> OtherUser:
    return OtherUser(bus, other)


async def root(bus: PrivateBus, *words: str) -> tuple[int, str]:
    return await run("busctl", f"--address={bus.address}", "call", *words)


async def test_polkit_is_asked_and_its_yes_is_enough(
    bus: PrivateBus, service: Bus, asked: RecordingCommands, other_user: OtherUser
) -> None:
    authority = FakeAuthority(approve_device=YES)
    async with polkit(bus, authority):
        done = await other_user(*MANAGER, "Approve", "ss", "child-1", "alibaba", interactive=True)
        assert done == (0, "")
        assert await other_user(*DEVICE, "Approve", "s", "") == (0, "")
    assert asked.asked == [
        ("approve", "child-1", "alibaba", "nobody"),
        ("approve", "child-1a", "", "nobody"),
    ]
    first, second = authority.checks
    assert first.action == second.action == "org.gatewayd1.approve-device"
    assert first.subject[0] == "system-bus-name"
    assert first.subject[1]["name"].startswith(":1.")
    assert first.details == {"device": "child-1a", "provider": "alibaba"}
    assert second.details == {"device": "child-1a"}
    assert (first.flags, second.flags) == (1, 0)


async def test_a_refusal_of_polkit_names_the_action(
    bus: PrivateBus, service: Bus, asked: RecordingCommands, other_user: OtherUser
) -> None:
    async with polkit(bus, FakeAuthority(forget_device=CHALLENGE, configure=NO)):
        name, sentence = await error_of(bus, DEVICE[1:], "Forget", prefix=other_user.prefix)
        assert name == "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
        assert sentence.endswith("org.gatewayd1.forget-device")
        name, sentence = await error_of(bus, MANAGER[1:], "Reload", prefix=other_user.prefix)
    assert name == "org.freedesktop.DBus.Error.AccessDenied"
    assert sentence == "Not authorized: org.gatewayd1.configure"
    assert asked.asked == []


async def test_to_reject_the_gateway_itself_is_an_action_of_its_own(
    bus: PrivateBus, other_user: OtherUser
) -> None:
    """Whether it is named in full or not."""
    asked = RecordingCommands("gateway-west", "child-1a")
    authority = FakeAuthority(manage_devices=YES, reject_gateway=NO)
    async with served(bus, asked, view("gateway-west")), polkit(bus, authority):
        prefix = other_user.prefix
        for named in ("gateway-west", "gateway"):
            refused = await error_of(bus, MANAGER[1:], "Reject", named, "", prefix=prefix)
            assert refused[1] == "Not authorized: org.gatewayd1.reject-gateway"
        path = "/org/gatewayd1/device/gateway_2dwest"
        refused = await error_of(bus, (path, DEVICE[2]), "Reject", "", prefix=prefix)
        assert refused[1] == "Not authorized: org.gatewayd1.reject-gateway"
        assert await other_user(*MANAGER, "Reject", "ss", "child-1a", "") == (0, "")
    assert asked.asked == [("reject", "child-1a", "", "nobody")]


async def test_decisions_are_logged_with_the_process_they_came_from(
    bus: PrivateBus, other_user: OtherUser
) -> None:
    decisions, asked = MemoryDecisions(), RecordingCommands("child-1a")
    async with (
        served(bus, asked, view("child-1a"), decisions=decisions),
        polkit(bus, FakeAuthority(manage_devices=YES, read_log=YES)),
    ):
        assert await other_user(*DEVICE, "Reject", "s", "a guest") == (0, "")
        assert await root(bus, *MANAGER, "Forget", "s", "child-1") == (0, "")
        status, printed = await other_user(*MANAGER, "ListDecisions", "a{sv}u", "0", "0")
    assert status == 0
    assert '2 9 "rejected" "child-1a" "olga" "sshd from 192.0.2.7" "a guest"' in printed
    rejected, forgotten = decisions.logged
    assert (rejected.kind, rejected.device, rejected.by) == ("rejected", "child-1a", "nobody")
    assert (forgotten.kind, forgotten.device, forgotten.by) == ("forgotten", "child-1a", "root")
    assert all(one.origin.startswith("process ") for one in decisions.logged)


async def test_a_prompt_for_a_password_keeps_no_other_out(
    bus: PrivateBus, service: Bus, asked: RecordingCommands, other_user: OtherUser
) -> None:
    authority = FakeAuthority()
    async with polkit(bus, authority) as settle:
        waiting = [
            asyncio.create_task(other_user(*DEVICE, "Retry", interactive=True)) for _ in range(3)
        ]
        await until(lambda: len(authority.checks) == 3)
        assert await root(bus, *DEVICE, "Forget") == (0, "")
        await settle("org.gatewayd1.manage-devices", YES)
        results = await asyncio.gather(*waiting)
    assert (0, "") in results
    assert asked.asked[0] == ("forget", "child-1a", "root")


async def test_a_polkit_that_dies_means_no(
    bus: PrivateBus, service: Bus, asked: RecordingCommands, other_user: OtherUser
) -> None:
    authority = FakeAuthority()
    async with polkit(bus, authority):
        waiting = asyncio.create_task(other_user(*DEVICE, "Retry", interactive=True))
        await until(lambda: authority.checks)
    status, printed = await waiting
    assert status != 0
    assert "denied" in printed
    assert asked.asked == []


async def test_a_polkit_that_hangs_stops_no_other_call_and_is_reported_once(
    bus: PrivateBus,
    service: Bus,
    asked: RecordingCommands,
    other_user: OtherUser,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(authorization, "PATIENCE_MS", 300)
    authority = FakeAuthority()
    async with polkit(bus, authority) as settle:
        for _ in range(3):
            authority.checks.clear()
            waiting = asyncio.create_task(other_user(*DEVICE, "Retry"))
            await until(lambda: authority.checks)
            assert await root(bus, *DEVICE, "Forget") == (0, "")
            status, _ = await waiting
            assert status != 0
        await settle("org.gatewayd1.manage-devices", YES)
        assert await other_user(*DEVICE, "Retry") == (0, "")
    assert [name for name, *_ in asked.asked] == ["forget"] * 3 + ["retry"]
    entries = [record.message for record in caplog.records if "Polkit" in record.message]
    assert len(entries) == 2
