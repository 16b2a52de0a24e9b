"""Faults of the simulated Huawei cloud: of handshakes, of CONNECT, and of requests."""

from __future__ import annotations

import asyncio
import json

import pytest

from gatewayd.errors import ConfigError
from gatewayd.simulator import faults
from gatewayd.simulator.faults import SimulatedFault, parse
from gatewayd.simulator.huawei.cloud import HuaweiCloud
from gatewayd.simulator.huawei.events import REQUESTS
from gatewayd.testing.waiting import until
from tests.simulator.huawei.client import (
    GATEWAY,
    GATEWAYS,
    SECRET,
    Gateway,
    Hello,
    certificate,
    child,
    device,
    greet,
    ledger_of,
    new,
    one,
    provision,
    showing,
    vouch,
)
from tests.simulator.huawei.test_cloud import handshake
from tests.simulator.wire import wire

ADD, DELETE = "add_sub_device_request", "delete_sub_device_request"
STATUS, SYNC = "sub_device_update_status", "sub_device_sync_request"
LOGIN, NEWCOMER = Hello(secret=SECRET), f"{GATEWAYS}_gateway-0001"


def codes(paras: dict[str, list[dict[str, str]]]) -> list[str]:
    return [one["error_code"] for one in paras["failed_devices"]]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"reply:014031@{ADD}", SimulatedFault("reply", ADD, 14031)),
        (
            f"partial:021104:x1@{STATUS}/*_c1",
            SimulatedFault("partial", STATUS, 21104, times=1, glob="*_c1"),
        ),
        ("tls-alert:40:50%@one.*", SimulatedFault("tls-alert", "tls", 40, 50, glob="one.*")),
        ("tls-expired:x1", SimulatedFault("tls-expired", "tls", times=1)),
        ("login.lose-connack", SimulatedFault("lose-connack", "login")),
    ],
)
def test_plans(text: str, fault: SimulatedFault) -> None:
    assert parse(text, REQUESTS) == (fault,)


@pytest.mark.parametrize(
    "text", ["tls-alert", "tls-alert:256", "tls-alert:1.5", "login.tls-expired", "reply:1000000"]
)
def test_what_is_no_plan(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text, REQUESTS)


def test_faults_of_handshakes_strike_nothing_else() -> None:
    plan = faults.FaultPlan(parse("tls-expired"))
    assert plan.choose("tls", "one") == SimulatedFault("tls-expired", "tls")
    for stage in ("register", "login", ADD):
        assert plan.choose(stage, "one") is None
    plan.replace(parse("reply:500 refuse:3", REQUESTS))
    assert plan.choose("tls", "one") is None


async def test_a_handshake_ends_with_any_alert(cloud: HuaweiCloud) -> None:
    for number, name in ((40, "HANDSHAKE_FAILURE"), (80, "INTERNAL_ERROR"), (70, "VERSION")):
        cloud.set_faults(f"tls-alert:{number}:x1")
        assert name in await asyncio.to_thread(handshake, cloud)
        assert await asyncio.to_thread(handshake, cloud) == "CONNACK 0"


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("tls-expired", "certificate has expired"),
        ("tls-misnamed", "Hostname mismatch"),
        ("tls-foreign", "certificate"),
    ],
)
async def test_a_servers_certificate_is_bad(cloud: HuaweiCloud, fault: str, complaint: str) -> None:
    cloud.set_faults(f"{fault}:x1")
    ended = await asyncio.to_thread(handshake, cloud)
    assert ended.startswith("server: ")
    assert complaint in ended
    assert await asyncio.to_thread(handshake, cloud) == "CONNACK 0"


@pytest.mark.parametrize(
    ("fault", "code"), [("hang-up", None), ("garbage", None), ("refuse:3", 3), ("refuse:5", 5)]
)
async def test_a_login_fails_at_first(cloud: HuaweiCloud, fault: str, code: int | None) -> None:
    cloud.set_faults(f"login.{fault}:x1@{GATEWAY}")
    assert await greet(cloud, LOGIN) == code
    assert ledger_of(cloud)["logins"] == 0
    assert await greet(cloud, LOGIN) == 0
    assert ledger_of(cloud)["faults"] == {fault.partition(":")[0]: 1}


async def test_a_registration_fails_and_nothing_was_done(cloud: HuaweiCloud) -> None:
    provision(one(cloud), vouch(one(cloud)))
    cloud.set_faults("refuse:3:x1")
    shown = certificate()
    assert await greet(cloud, LOGIN) == 0
    assert await greet(cloud, Hello(NEWCOMER), shown) == 3
    assert one(cloud).devices.lookup(NEWCOMER) is None
    assert await greet(cloud, Hello(NEWCOMER), shown) == 0


@pytest.mark.parametrize(
    ("fault", "code"), [("lose-connack", None), ("hang-up-after-connack", 0), ("slow:0.05", 0)]
)
async def test_a_device_is_registered_all_the_same(
    cloud: HuaweiCloud, fault: str, code: int | None
) -> None:
    provision(one(cloud), vouch(one(cloud)))
    cloud.set_faults(f"{fault}:x1")
    shown = certificate()
    assert await greet(cloud, Hello(NEWCOMER), shown) == code
    assert one(cloud).devices.get(NEWCOMER).self_registered
    assert await greet(cloud, Hello(NEWCOMER), shown) == 0
    assert ledger_of(cloud, NEWCOMER)["registrations"] == 1


async def test_a_silent_cloud_says_nothing(cloud: HuaweiCloud) -> None:
    cloud.set_faults("login.silent")
    async with wire(cloud.port, showing(None), LOGIN.packet, one(cloud).domain) as link:
        await until(lambda: ledger_of(cloud)["faults"])
        link.writer.write(b"\xc0\x00")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await link.reader.readexactly(1)


async def test_the_cloud_is_down_and_up_again(cloud: HuaweiCloud) -> None:
    async with device(cloud) as gw:
        cloud.set_faults("down")
        await gw.wire.ended()
    with pytest.raises(OSError):  # noqa: PT011  # which one is the kernel's choice
        await greet(cloud, LOGIN)
    cloud.set_faults("")
    assert await greet(cloud, LOGIN) == 0


async def test_a_request_fails_with_any_code(cloud: HuaweiCloud, gw: Gateway) -> None:
    cloud.set_faults(f"reply:021102:x1@{ADD}")
    assert codes(await gw.add("c1", "c2")) == ["IOTDA.021102"] * 2
    assert codes(await gw.add("c1")) == []
    assert ledger_of(cloud)["answers"][ADD] == {"IOTDA.021102": 2, "0": 1}


async def test_a_batch_is_served_in_part(cloud: HuaweiCloud, gw: Gateway) -> None:
    cloud.set_faults(f"partial:014031:x1@*/{child('c2')}")
    paras = await gw.add("c1", "c2", "c3")
    assert [one["node_id"] for one in paras["successful_devices"]] == ["c1", "c3"]
    assert codes(paras) == ["IOTDA.014031"]
    assert codes(await gw.add("c2")) == []


async def test_a_request_is_lost_or_its_reply(cloud: HuaweiCloud, gw: Gateway) -> None:
    for fault, done in (("lose-request", False), ("lose-reply", True)):
        cloud.set_faults(f"{fault}:x1@{ADD}")
        gw.request(ADD, {"devices": [new(fault)]})
        await gw.served()
        assert gw.events == []
        assert (one(cloud).devices.lookup(child(fault)) is not None) is done
    cloud.set_faults(f"lose-request:x1@{SYNC}")
    assert await gw.sync() == []
    assert len(await gw.sync()) == 1


async def test_replies_come_twice_late_and_last(cloud: HuaweiCloud, gw: Gateway) -> None:
    cloud.set_faults(f"reply-twice:x1@{ADD} reply-last:x1@{STATUS} reply-late:0.05:x1@{DELETE}")
    gw.request(ADD, {"devices": [new("c1")]}, "e-1")
    status = {"device_statuses": [{"device_id": child("c1"), "status": "ONLINE"}]}
    gw.request(STATUS, status, "e-2")
    gw.request(DELETE, {"devices": [child("c1")]}, "e-3")
    gw.request(ADD, {"devices": [new("c2")]}, "e-4")
    received = [(await gw.receive())["event_id"] for _ in range(5)]
    assert received == ["e-1", "e-1", "e-4", "e-2", "e-3"]


async def test_a_reply_has_company(cloud: HuaweiCloud, gw: Gateway) -> None:
    cloud.set_faults(f"reply-mixed@{ADD}")
    gw.request(ADD, {"devices": [new("c1")]})
    await gw.served()
    assert [one["event_type"] for one in gw.events] == [
        "unheard_of", "unheard_of", "add_sub_device_response",
    ]  # fmt: skip


async def test_a_reply_is_cut_off(cloud: HuaweiCloud, gw: Gateway) -> None:
    cloud.set_faults(f"reply-garbled@{ADD}")
    gw.request(ADD, {"devices": [new("c1")]})
    with pytest.raises(json.JSONDecodeError):
        await gw.receive()


async def test_hang_up_instead_of_a_reply(cloud: HuaweiCloud) -> None:
    cloud.set_faults(f"reply-hang-up:x1@{ADD}")
    async with device(cloud) as gw:
        gw.request(ADD, {"devices": [new("c1")]})
        assert await gw.wire.ended() == b""
    assert ledger_of(cloud, child("c1"))["parent"] == GATEWAY
    assert ledger_of(cloud)["faults"] == {"reply-hang-up": 1}


async def test_the_topic_of_replies_is_refused(cloud: HuaweiCloud, gw: Gateway) -> None:
    cloud.set_faults(f"refuse-topic:x1@{ADD}")
    assert await gw.subscribe([gw.down]) == [0x80]
    assert await gw.subscribe([gw.down]) == [1]


UP = f"$oc/devices/{GATEWAY}/sys/messages/up"


@pytest.mark.parametrize(
    ("fault", "kept", "acknowledged"),
    [("lose-message", 0, 1), ("lose-puback", 1, 0), ("message-hang-up", 0, None),
     ("puback-hang-up", 1, None)],
)  # fmt: skip
async def test_faults_of_messages(
    cloud: HuaweiCloud, fault: str, kept: int, acknowledged: int | None
) -> None:
    """None stands for a closed connection."""
    cloud.set_faults(f"{fault}:x1@*_gw-*")
    async with device(cloud, LOGIN) as gw:
        gw.publish(UP, b"a", qos=1)
        if acknowledged is None:
            with pytest.raises(asyncio.IncompleteReadError):
                await gw.served()
        else:
            await gw.served()
            assert len(gw.acks) == acknowledged
            gw.publish(UP, b"b", qos=1)  # the fault has struck once
            await gw.served()
            assert len(gw.acks) == acknowledged + 1
            kept += 1
    assert len(cloud.received("one", GATEWAY)) == kept
    assert ledger_of(cloud)["faults"] == {fault: 1}


async def test_faults_of_messages_leave_requests_alone(cloud: HuaweiCloud) -> None:
    cloud.set_faults("message-hang-up")
    async with device(cloud, LOGIN) as gw:
        assert len((await gw.add("c1"))["successful_devices"]) == 1
