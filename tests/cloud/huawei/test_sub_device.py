"""Sub-devices at the simulated platform, over the gateway's session and real TLS."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gatewayd.cloud.huawei import device_cache, downlink, messages, sub_device
from gatewayd.cloud.provider import (
    Failed,
    Issued,
    LoginError,
    LoginFailed,
    LoginRemoved,
    Refused,
    Unknown,
)
from gatewayd.simulator.huawei.options import HuaweiRules
from gatewayd.simulator.huawei.platform.device import HuaweiDeviceStatus
from gatewayd.testing.contracts.cloud import RecordingKeeper
from gatewayd.testing.waiting import until
from tests.cloud.huawei.site import (
    GATEWAYS,
    INSTANCE,
    OTHER_ID,
    OWN_ID,
    SENSORS,
    child,
    child_id,
    furnish,
    site,
)

ADD, DELETE, STATUS = "add_sub_device", "delete_sub_device", "sub_device_update_status"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return furnish(tmp_path)


@pytest.fixture(autouse=True)
def _soon_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_cache, "QUIET", 0.2)


@pytest.mark.parametrize("old", [True, False])
async def test_a_child_from_nothing_to_gone(folder: Path, *, old: bool) -> None:
    rules = HuaweiRules(old_status_event=old, own_changes=True, twice=True, nothing_new=True)
    async with site(folder, rules) as one:
        secret = await one.secret(child(1))
        assert sub_device.decode(secret) == child_id(1)
        assert one.status(child_id(1)) is HuaweiDeviceStatus.INACTIVE
        session = await one.connect(child(1), secret)
        assert one.status(child_id(1)) is HuaweiDeviceStatus.ONLINE
        await session.close()
        assert one.status(child_id(1)) is HuaweiDeviceStatus.OFFLINE
        assert await one.provider.unbind(child(1)) is None
        assert one.instance.devices.lookup(child_id(1)) is None
        assert not one.wishes.names
        await one.online(1)


async def test_many_children_in_few_requests(folder: Path) -> None:
    async with site(
        folder, HuaweiRules(status_rate=0), gateway={"status_per_second": 10_000}
    ) as one:
        await one.online(*range(120))
        assert len(one.online_there()) == 120
        assert one.asked(ADD) == 3
        assert one.asked(STATUS) <= 4


async def test_no_more_children_are_reported_than_the_platform_takes(folder: Path) -> None:
    async with site(folder) as one:
        await one.online(*range(220))
        assert one.gateway_ledger["answers"]["sub_device_update_status"] == {"0": 220}


async def test_one_of_many_is_refused(folder: Path) -> None:
    async with site(folder) as one:
        one.cloud.set_faults(f"partial:99999@add_sub_device_request/{child_id(3)}")
        found = await asyncio.gather(*(one.register(child(number)) for number in range(5)))
        assert [type(outcome) for outcome, _ in found] == [Issued] * 3 + [Failed, Issued]


async def test_an_answer_that_is_lost_is_found_at_the_platform(folder: Path) -> None:
    async with site(folder, reply_timeout=1.0) as one:
        one.cloud.set_faults("lose-reply:x1@add_sub_device_request")
        outcome, kept = await one.register(child(1))
        assert isinstance(outcome, Unknown)
        assert not kept.secrets
        assert sub_device.decode(await one.secret(child(1))) == child_id(1)
        assert one.asked(ADD) == 1


async def test_a_question_that_is_lost_is_asked_again(folder: Path) -> None:
    async with site(folder, reply_timeout=1.0) as one:
        one.cloud.set_faults("lose-request:x1@add_sub_device_request")
        assert isinstance((await one.register(child(1)))[0], Unknown)
        await one.secret(child(1))
        assert one.asked(ADD) == 2


async def test_what_an_earlier_run_has_added_is_adopted(folder: Path) -> None:
    async with site(folder) as one:
        one.create(1, device_id="chosen-there")
        await one.lose_link()  # so that its notice is lost
        await one.log_in()
        secret = await one.secret(child(1))
        assert sub_device.decode(secret) == "chosen-there"
        await one.connect(child(1), secret)
        assert one.online_there() == {"chosen-there"}


async def test_a_child_of_another_gateway_is_refused_until_it_is_moved(folder: Path) -> None:
    async with site(folder, reply_timeout=2.0) as one:
        one.create(1, gateway=OTHER_ID)
        outcome, _ = await one.register(child(1))
        assert isinstance(outcome, Refused)
        assert "change-gateway" in outcome.reason.remedy
        one.instance.devices.change_gateway(child_id(1), OWN_ID)
        await one.online(1)


async def test_the_platform_deletes_children(folder: Path) -> None:
    async with site(folder) as one:
        here, away = await one.online(1, 2)
        await away.close()
        for number in (1, 2):
            one.instance.devices.delete(child_id(number))
        async with asyncio.timeout(30):
            assert (await here.wait_closed()).removed
        with pytest.raises(LoginRemoved):
            await one.connect(child(2), sub_device.encode(child_id(2)))
        await one.online(1, 2)


async def test_children_that_are_deleted_while_the_gateway_is_away(folder: Path) -> None:
    async with site(folder) as one:
        (session,) = await one.online(1)
        await one.lose_link()
        assert not (await session.wait_closed()).removed
        one.instance.devices.delete(child_id(1))
        await one.log_in()
        with pytest.raises(LoginRemoved):
            await one.connect(child(1), sub_device.encode(child_id(1)))


async def test_a_child_that_was_added_again_is_not_taken_for_deleted(folder: Path) -> None:
    gone = {"parent_device_id": OWN_ID, "node_id": child(1).device, "device_id": child_id(1)}
    late = {
        "service_id": "$sub_device_manager",
        "event_type": "delete_sub_device_notify",
        "paras": {"devices": [gone], "version": 2},
    }
    payload = json.dumps({"services": [late]}).encode()
    async with site(folder) as one:
        (session,) = await one.online(1)
        before = one.asked(STATUS)
        assert one.cloud.push(INSTANCE, OWN_ID, messages.down_topic(OWN_ID), payload)
        await until(lambda: one.asked(STATUS) > before)
        await one.secret(child(2))  # a question and its answer, behind that of the look
        assert one.online_there() == {child_id(1)}
        await session.close()
        assert (await session.wait_closed()).reason.code == "closed"


async def test_children_are_created_at_the_platform(folder: Path) -> None:
    async with site(folder) as one:
        one.create(1)
        await until(lambda: one.wishes.names == [child(1)])


async def test_after_the_link_children_come_back(folder: Path) -> None:
    async with site(folder) as one:
        sessions = await one.online(1, 2, 3)
        await one.lose_link()
        for session in sessions:
            assert (await session.wait_closed()).reason.code == "gateway-link-lost"
        assert len(one.online_there()) == 3  # so the platform believes
        await one.log_in()
        await until(lambda: len(one.wishes.again) == 3)
        for number in (1, 2, 3):
            await one.connect(child(number), sub_device.encode(child_id(number)))
        assert len(one.online_there()) == 3


async def test_a_child_that_does_not_come_back_is_reported_offline(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(folder) as one:
        await one.online(1, 2)
        await one.lose_link()
        monkeypatch.setattr(downlink, "GRACE", 1.0)
        await one.log_in()
        await one.connect(child(1), sub_device.encode(child_id(1)))
        await until(lambda: one.online_there() == {child_id(1)})


async def test_a_new_run_reports_the_children_of_the_last_offline(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downlink, "GRACE", 0.5)
    async with site(folder) as one:
        one.create(7)
        one.instance.devices.get(child_id(7)).connect(0.0)
        await one.lose_link()
        one.provider._sub_devices.sessions._sync.version = 0  # type: ignore[union-attr]  # as a new run has it
        one.clock.ahead += 1.0  # until the next request for all children may leave
        await one.log_in()
        await until(lambda: not one.online_there())


async def test_a_gateway_that_leaves_leaves_no_child_online(folder: Path) -> None:
    async with site(folder) as one:
        sessions = await one.online(*range(20))
        assert one.session is not None
        await asyncio.gather(one.session.close(), *(session.close() for session in sessions))
        assert not one.online_there()
        assert one.status(OWN_ID) is HuaweiDeviceStatus.OFFLINE


async def test_a_gateway_that_leaves_alone_takes_its_children_along(folder: Path) -> None:
    async with site(folder) as one:
        (session,) = await one.online(1)
        assert one.session is not None
        await one.session.close()
        assert not one.online_there()
        assert (await session.wait_closed()).reason.code == "gateway-link-lost"
        await one.log_in()
        await until(lambda: one.wishes.again == [child(1)])


async def test_a_platform_that_is_too_busy_is_left_alone_for_a_while(folder: Path) -> None:
    async with site(folder) as one:
        secret = await one.secret(child(1))
        one.cloud.set_faults("reply:21101:x1@sub_device_update_status")
        with pytest.raises(LoginFailed):
            await one.connect(child(1), secret)
        not_ready = await one.provider.check_ready(child(1))
        assert not_ready is not None
        assert not_ready.code == "cloud-throttled"
        one.clock.ahead = 61.0
        await one.connect(child(1), secret)


async def test_a_frozen_child_is_tried_slowly(folder: Path) -> None:
    async with site(folder) as one:
        secret = await one.secret(child(1))
        one.instance.devices.freeze(child_id(1))
        with pytest.raises(LoginError):
            await one.connect(child(1), secret)
        one.instance.devices.unfreeze(child_id(1))
        one.clock.ahead = 601.0
        await one.connect(child(1), secret)


async def test_names_that_cannot_be(folder: Path) -> None:
    async with site(folder) as one:
        good = child(1)
        for device in ("", "a b", "00:11:22:33:44:55", "x" * 65):
            bad = type(good)("cloud", SENSORS, device, "sub-device")
            assert one.provider.check_name(bad) is not None
        assert (
            one.provider.check_name(type(good)("cloud", GATEWAYS, "n-1", "sub-device")) is not None
        )
        assert one.provider.check_name(good) is None


async def test_the_gateway_may_have_so_many_children(folder: Path) -> None:
    async with site(folder, gateway={"children": 2}) as one:
        await one.online(1, 2)
        reason = one.provider.check_name(child(3))
        assert reason is not None
        assert await one.provider.register(child(3), RecordingKeeper().keep) == Refused(reason)
        assert await one.provider.unbind(child(1)) is None
        await one.online(3)
