"""A child with a holder: gatewayd commits its secret, keeps and renews it, and logs in no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gatewayd.cloud.provider import Credential
from gatewayd.device.identity import DeviceId
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError, StoreFull, WrongState
from gatewayd.sessions.hand_over import halfway
from tests.support.fakes import FakeSession, MemoryRecords
from tests.support.renewing_cloud import BEFORE, LIFE, HoldableCloud
from tests.support.stage import NameRules, Stage

pytestmark = pytest.mark.jumping_clock

NAME = CloudName("cloud", "p", "TH20-1")


class Holders:
    """A listener that notes what holders may have."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def secret_held(self, device: DeviceId) -> None:
        self.told.append("held")

    def secret_withheld(self, device: DeviceId) -> None:
        self.told.append("withheld")


@asynccontextmanager
async def handed_over(
    cloud: HoldableCloud | None = None, records: MemoryRecords | None = None
) -> AsyncIterator[tuple[Stage, HoldableCloud, DeviceId]]:
    """Run the application with one child, which is handed over."""
    made = cloud or HoldableCloud()
    stage = Stage(records or MemoryRecords(), made, rules=NameRules(held=True))
    async with stage.running():
        device = stage.announce(NAME.device)
        await stage.tape.wait_for(device, "handed-over")
        yield stage, made, device


async def log_in(stage: Stage, cloud: HoldableCloud, device: DeviceId) -> FakeSession:
    """Log in as the holder does, with what it gets."""
    while not stage.app.keeper.held.is_held(device):
        await asyncio.sleep(0.1)
    credential = await stage.app.keeper.held.credential(device)
    return await cloud.connect(NAME, credential.password)


async def test_gatewayd_logs_in_once_and_lets_go() -> None:
    async with handed_over() as (stage, cloud, device):
        await asyncio.sleep(3600)
        assert cloud.calls.count("connect TH20-1") == 1
        assert not cloud.online, "the session was closed"
        record = stage.records[device]
        assert record.activated_at
        assert record.activating == record.stored == 1
        assert "online" not in stage.tape.states[device]
        await log_in(stage, cloud, device)
        assert not cloud.contested


async def test_who_is_not_handed_over_has_no_credential() -> None:
    async with handed_over() as (stage, _, device):
        with pytest.raises(WrongState):
            await stage.app.keeper.held.credential(DeviceId("child-other"))
        await stage.app.commands.reject(device, "", "uid 0")
        await stage.tape.wait_for(device, "rejected")
        await asyncio.sleep(1)
        with pytest.raises(WrongState):
            await stage.app.keeper.held.credential(device)


async def test_after_a_restart_there_is_no_login_and_the_child_need_not_be_there() -> None:
    records, cloud = MemoryRecords(), HoldableCloud()
    async with handed_over(cloud, records) as (stage, _, device):
        session = await log_in(stage, cloud, device)
    stage = Stage(records, cloud, rules=NameRules(held=True))
    holders = Holders()
    stage.app.keeper.held.listen(holders)
    async with stage.running():
        await stage.tape.wait_for(device, "handed-over")
        await asyncio.sleep(60)
        assert holders.told == ["held"]
        stage.announce(NAME.device)
        stage.lose(NAME.device)
        await asyncio.sleep(60)
        assert stage.tape.shown[device].state == "handed-over"
        assert not session.ended.done()


async def test_a_renewal_does_not_touch_the_session_of_the_holder() -> None:
    async with handed_over() as (stage, cloud, device):
        holders = Holders()
        stage.app.keeper.held.listen(holders)
        session = await log_in(stage, cloud, device)
        offered = await stage.tape.wait_for(device, "handed-over", "renewal-offered")
        at = asyncio.get_running_loop().time()
        assert LIFE - BEFORE <= at <= LIFE - BEFORE + 60
        assert offered.next_attempt
        assert stage.records[device].candidate == 2
        first = await stage.app.keeper.held.credential(device)
        assert first.password == cloud.issued[NAME][0], "there is time to enrol the new one"
        await stage.tape.wait_for(device, "handed-over", "secret-replaced")
        at = asyncio.get_running_loop().time()
        assert LIFE - BEFORE / 2 <= at <= LIFE - BEFORE / 2 + 3600
        assert holders.told == ["held", "held"]
        second = await stage.app.keeper.held.credential(device)
        assert second.password == cloud.issued[NAME][1]
        assert not session.ended.done()
        await asyncio.sleep(60)
        assert [ref.attempt for ref in stage.records.slots] == [2]
        assert cloud.calls.count("connect TH20-1") == 2, "gatewayd's first, and the holder's"


async def test_an_operator_gives_the_new_secret_at_once() -> None:
    async with handed_over() as (stage, cloud, device):
        await log_in(stage, cloud, device)
        assert stage.app.keeper.renew(device)
        await stage.tape.wait_for(device, "handed-over", "renewal-offered")
        assert stage.records[device].stored == 1
        assert stage.app.keeper.renew(device)
        await stage.tape.wait_for(device, "handed-over", "secret-replaced")
        assert stage.records[device].stored == 2


async def test_what_has_no_end_is_not_renewed() -> None:
    class Lasting(HoldableCloud):
        def renew_at(self, name: CloudName, secret: Secret) -> float | None:
            return None

    async with handed_over(Lasting()) as (stage, cloud, device):
        await asyncio.sleep(60)
        assert not stage.app.keeper.renew(device)
        await asyncio.sleep(3 * LIFE)
        assert len(cloud.issued[NAME]) == 1


async def test_a_renewal_that_fails_is_tried_again() -> None:
    cloud = HoldableCloud(script={"TH20-1": ["behave", "fail"]}, life=4 * LIFE)
    async with handed_over(cloud) as (stage, _, device):
        assert await _asked(stage, device)
        view = await stage.tape.wait_for(device, "handed-over", "cloud-unreachable")
        assert view.next_attempt
        await stage.tape.wait_for(device, "handed-over", "renewal-offered")
        stage.records.failing = StoreFull("no room")
        assert await _asked(stage, device)
        await stage.tape.wait_for(device, "handed-over", "store-full")
        stage.records.failing = None
        await stage.tape.wait_for(device, "handed-over", "secret-replaced")


async def test_roots_that_cannot_be_read_do_not_end_the_holding() -> None:
    """How long the old secret is good is known from what the holder gets, roots and all."""

    class Unreadable(HoldableCloud):
        readable = False

        async def credential(self, name: CloudName, secret: Secret) -> Credential:
            if not self.readable:
                raise ConfigError("The roots cannot be read")
            return await super().credential(name, secret)

    cloud = Unreadable()
    async with handed_over(cloud) as (stage, _, device):
        holders = Holders()
        stage.app.keeper.held.listen(holders)
        await stage.tape.wait_for(device, "handed-over", "renewal-offered")
        await asyncio.sleep(BEFORE / 4)
        assert "withheld" not in holders.told
        assert stage.records[device].stored == 1
        with pytest.raises(ConfigError):
            await stage.app.keeper.held.credential(device)
        cloud.readable = True
        await stage.tape.wait_for(device, "handed-over", "secret-replaced")
        at = asyncio.get_running_loop().time()
        assert LIFE - BEFORE / 2 <= at <= LIFE - BEFORE / 2 + 3600


async def _asked(stage: Stage, device: DeviceId) -> bool:
    while not stage.app.keeper.renew(device):
        await asyncio.sleep(0.1)
    return True


@pytest.mark.parametrize("present", [True, False])
async def test_a_rule_hands_over_on_reload_and_back(present: bool) -> None:
    records, cloud = MemoryRecords(), HoldableCloud()
    rules = NameRules()
    stage = Stage(records, cloud, rules=rules)
    async with stage.running():
        device = stage.announce(NAME.device)
        await stage.tape.wait_for(device, "online")
        if not present:
            stage.lose(NAME.device)
            await stage.tape.wait_for(device, "offline")
        rules.held = True
        await stage.reload()
        await stage.tape.wait_for(device, "handed-over")
        session = await log_in(stage, cloud, device)
        assert not cloud.contested, "the holder gets it once gatewayd has closed its session"
        rules.held = False
        await stage.reload()
        await stage.tape.wait_for(device, "online" if present else "offline")
        await asyncio.sleep(60)
        assert session.ended.done() is present, "gatewayd's login ends that of the holder"
        with pytest.raises(WrongState):
            await stage.app.keeper.held.credential(device)


async def test_a_rule_that_changes_during_the_first_login_is_obeyed() -> None:
    for moment in range(1, 60):
        rules = NameRules()
        stage = Stage(MemoryRecords(), HoldableCloud(), rules=rules)
        async with stage.running():
            device = stage.announce(NAME.device)
            await stage.tape.wait_for(device, "discovered")
            await asyncio.sleep(10 + moment / 100)
            rules.held = True
            await stage.reload()
            await stage.tape.wait_for(device, "handed-over")
            await asyncio.sleep(5)
            assert not stage.cloud.online
            rules.held = False
            await stage.reload()
            await stage.tape.wait_for(device, "online")


async def test_a_reset_gives_the_holder_another_secret() -> None:
    async with handed_over() as (stage, cloud, device):
        await log_in(stage, cloud, device)
        cloud.reset(NAME)
        await stage.app.commands.reregister(device, device, "uid 0")
        await stage.tape.wait_for(device, "activating")
        await stage.tape.wait_for(device, "handed-over")
        await log_in(stage, cloud, device)
        assert cloud.holders[NAME] == cloud.issued[NAME][1]


@pytest.mark.parametrize("present", [True, False])
async def test_what_was_rejected_is_handed_over_again_without_a_login(present: bool) -> None:
    async with handed_over() as (stage, cloud, device):
        if not present:
            stage.lose(NAME.device)
        await stage.app.commands.reject(device, "", "uid 0")
        await stage.tape.wait_for(device, "rejected")
        await stage.app.commands.approve(device, "", "uid 0")
        await stage.tape.wait_for(device, "handed-over")
        await asyncio.sleep(60)
        assert cloud.calls.count("connect TH20-1") == 1
        await stage.app.commands.forget(device, "uid 0")
        await stage.tape.wait_gone(device) if not present else await asyncio.sleep(0)
        assert not stage.app.keeper.held.is_held(device)


async def test_a_secret_that_is_gone_needs_a_reset() -> None:
    records, cloud = MemoryRecords(), HoldableCloud()
    async with handed_over(cloud, records) as (_, __, device):
        pass
    stage = Stage(records, cloud, rules=NameRules(held=True))
    async with stage.running():
        records.slots.clear()
        await stage.tape.wait_for(device, "failed", "secret-lost")


async def test_a_cloud_that_cannot_hand_over_keeps_the_session() -> None:
    class Unable(HoldableCloud):
        @classmethod
        def hands_over(cls, route: str) -> bool:
            return False

    stage = Stage(MemoryRecords(), Unable(), rules=NameRules(held=True))
    async with stage.running():
        device = stage.announce(NAME.device)
        await stage.tape.wait_for(device, "online")


@pytest.mark.parametrize(("made", "ends", "given"), [
    (200.0, 1000.0, 600.0), (200.0, None, 200.0), (200.0, 100.0, 200.0),
])  # fmt: skip
def test_the_new_secret_is_given_halfway_to_the_end_of_the_old_one(
    made: float, ends: float | None, given: float
) -> None:
    assert halfway(made, ends) == given


async def test_a_new_secret_that_is_on_record_alone_is_not_offered() -> None:
    """The process has died before it was in its slot."""
    records, cloud = MemoryRecords(), HoldableCloud(life=4 * LIFE)
    async with handed_over(cloud, records) as (_, __, device):
        pass
    records.rows[device] = records.rows[device].with_candidate(1)
    stage = Stage(records, cloud, rules=NameRules(held=True))
    async with stage.running():
        await asyncio.sleep(60)
        assert stage.tape.shown[device].reason == "handed-over"
        assert await _asked(stage, device)
        await stage.tape.wait_for(device, "handed-over", "renewal-offered")
        assert records.rows[device].candidate == 3


async def test_a_credential_never_shows_its_secrets() -> None:
    made = Credential("h", 1, "c", "u", {}, password=Secret(b"geheim"), key=Secret(b"geheim"))
    assert "geheim" not in repr(made)
