"""The gateway itself: how it gets its secret, logs in with it, and takes leave of its children."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cloud.credentials import read_secret
from gatewayd.cloud.huawei import messages, sub_device
from gatewayd.cloud.huawei.commanding import commands
from gatewayd.cloud.huawei.gateway import HuaweiGatewayRoute
from gatewayd.cloud.huawei.login import SecretLogin
from gatewayd.cloud.huawei.settings import HuaweiGateway, HuaweiSettings
from gatewayd.cloud.huawei.sub_device import HuaweiSubDeviceRoute, HuaweiSubDevices
from gatewayd.cloud.provider import Issued, LoginFailed, LoginRefused, Refused
from gatewayd.cloud.sub_devices.result_codes import NOT_CONFIGURED
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.network import tls
from gatewayd.runtime.clock import Clock
from gatewayd.simulator.mqtt.packets import Connect, Disconnect, Publish
from gatewayd.testing.contracts.cloud import RecordingKeeper, check_reason
from gatewayd.testing.waiting import until
from tests.cloud.huawei import site
from tests.cloud.huawei.vectors import VECTORS
from tests.cloud.peer import Peer
from tests.cloud.stand_ins import ManualClock

Serve = Callable[..., AbstractAsyncContextManager[Any]]

ROW = VECTORS["secret_connect"]["rows"][0]
OWN = CloudName("cloud", "gateways", "gw-1", "gateway")
OWN_ID = "gateways_gw-1"
ONE = CloudName("cloud", "sensors", "n-001", "sub-device")
SECRET = Secret(b"12345678")
AT_THREE = 1744599600.0  # 2025-04-14T03:00Z
KEPT = sub_device.encode("sensors_n-001")


def parts(
    port: int, ca_file: Path | None = None, **others: Any
) -> tuple[HuaweiGatewayRoute, HuaweiSubDevices]:
    """A route to a server on this machine, and those who are served over it."""
    timeout = others.pop("reply_timeout", 20.0)
    own = HuaweiGateway(OWN.product, OWN.device, login="secret", **others)
    settings = HuaweiSettings(
        host="localhost",
        port=port,
        ca_file=ca_file,
        connect_timeout=20.0,
        reply_timeout=timeout,
        gateway=own,
    )
    time = Clock(ManualClock().now, lambda: int(AT_THREE) * 1_000_000)
    children = HuaweiSubDevices("cloud", settings, own, time, os.urandom)
    reader = partial(read_secret, None)
    login = SecretLogin(settings, own, tls.TrustStore(ca_file), reader, time.timestamp)
    return HuaweiGatewayRoute(settings, children, login, login.open), children


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(mode=0o600)
    path.write_bytes(SECRET.reveal())
    return path


async def test_it_keeps_the_secret_that_is_configured(secret_file: Path) -> None:
    route, _ = parts(1, secret_file=secret_file)
    kept = RecordingKeeper()
    assert route.check_name(OWN) is None
    assert await route.check_ready(OWN) is await route.unbind(OWN) is None
    assert await route.register(OWN, kept.keep) == Issued()
    assert kept.secrets == [SECRET]


@pytest.mark.parametrize("value", [None, b"short", b"with a space in it"])
async def test_a_secret_that_is_none_is_refused(secret_file: Path, value: bytes | None) -> None:
    if value is None:
        secret_file.unlink()
    else:
        secret_file.write_bytes(value)
    route, children = parts(1, secret_file=secret_file)
    outcome = await route.register(OWN, RecordingKeeper().keep)
    assert isinstance(outcome, Refused)
    check_reason(outcome.reason)
    assert children._monitor.offline_reason == outcome.reason


async def test_what_is_kept_and_is_no_secret_is_not_shown_to_the_platform() -> None:
    """As where the gateway logged in with a certificate before."""
    route, _ = parts(1)
    with pytest.raises(LoginRefused) as raised:
        await route.connect(OWN, Secret(b"Device-ID: gw\n-----BEGIN PRIVATE KEY-----\n"))
    check_reason(raised.value.reason)
    assert raised.value.reason.code == "secret-unusable"
    assert raised.value.stale


async def test_another_name_is_not_the_gateways_own() -> None:
    route, _ = parts(1)
    assert route.check_name(CloudName("cloud", OWN.product, "gw-2", "gateway")) == NOT_CONFIGURED


def serving(peer: Peer, codes: dict[str, str] | None = None) -> Peer:
    """Let a peer say yes to all, but for the device IDs in `codes`."""

    def reply(_: str, message: dict[str, Any]) -> list[tuple[str, bytes]]:
        (asked,) = message["services"]
        if asked["event_type"] != messages.SubDeviceEvent.STATUS:
            return []
        ids = [one["device_id"] for one in asked["paras"]["device_statuses"]]
        reply = asked | {"event_type": "sub_device_update_status_response"}
        reply["paras"] = {
            "successful_devices": [{"device_id": i} for i in ids if i not in (codes or {})],
            "failed_devices": [
                {"device_id": i, "error_code": c} for i, c in (codes or {}).items() if i in ids
            ],
        }
        payload = json.dumps({"services": [reply]}).encode()
        return [(messages.down_topic(OWN_ID), payload)]

    peer.replies = reply
    return peer


async def test_it_logs_in_and_serves_children(serve: Serve, ca_file: Path) -> None:
    peer = serving(Peer())
    async with serve(peer.script) as broker:
        route, children = parts(broker.port, ca_file)
        session = await route.connect(OWN, SECRET)
        [connect] = [packet for packet in peer.seen if isinstance(packet, Connect)]
        assert connect.client_id == f"{OWN_ID}_0_0_2025041403"
        assert connect.username == OWN_ID
        assert peer.subscribed == [(messages.down_topic(OWN_ID), *commands.topics(OWN_ID))]
        child = await HuaweiSubDeviceRoute(children).connect(ONE, KEPT)
        await session.close()
        await session.close()
        assert (await child.wait_closed()).reason.code == "gateway-link-lost"
        assert (await session.wait_closed()).reason.code == "closed"
        await children.close()
        await broker.until(0)
    *_, offline, last = peer.seen
    assert isinstance(last, Disconnect)
    assert isinstance(offline, Publish)
    (service,) = json.loads(offline.payload)["services"]
    assert service["paras"]["device_statuses"] == [
        {"device_id": "sensors_n-001", "status": "OFFLINE"}
    ]


async def test_a_session_that_another_has_replaced_does_not_take_leave_of_children(
    serve: Serve, ca_file: Path
) -> None:
    """As after a renewal, where the platform has not closed the older one yet."""
    peer = serving(Peer())
    async with serve(peer.script) as broker:
        route, children = parts(broker.port, ca_file)
        older = await route.connect(OWN, SECRET)
        child = await HuaweiSubDeviceRoute(children).connect(ONE, KEPT)
        newer = await route.connect(OWN, SECRET)
        await older.close()
        await until(lambda: len(statuses(peer)) == 2)
        assert statuses(peer) == ["ONLINE", "ONLINE"], "the second is over the new session"
        assert children.sessions.online.sessions() == (child,)
        await newer.close()
        await child.wait_closed()
        await children.close()
        await broker.until(0)
    assert statuses(peer) == ["ONLINE", "ONLINE", "OFFLINE"]


def statuses(peer: Peer) -> list[str]:
    """What was reported of children, one by one."""
    asked = [json.loads(one.payload) for one in peer.seen if isinstance(one, Publish)]
    reply = [
        service["paras"].get("device_statuses", ()) for one in asked for service in one["services"]
    ]
    return [one["status"] for some in reply for one in some]


async def test_a_second_login_that_fails_leaves_an_online_gateway_alone(
    serve: Serve, ca_file: Path
) -> None:
    peer = serving(Peer())
    async with serve(peer.script) as broker:
        route, children = parts(broker.port, ca_file)
        session = await route.connect(OWN, SECRET)
        peer.connack = 5
        with pytest.raises(LoginRefused):
            await route.connect(OWN, SECRET)
        assert children._monitor.offline_reason is None
        await session.close()
        await children.close()


async def test_a_device_id_that_was_chosen_is_used(serve: Serve, ca_file: Path) -> None:
    peer = Peer()
    async with serve(peer.script) as broker:
        device_id, secret = ROW["device_id"], Secret(ROW["secret"].encode())
        checked = ROW["signature_type"] == "1"
        route, children = parts(broker.port, ca_file, device_id=device_id, check_timestamp=checked)
        session = await route.connect(OWN, secret)
        await session.close()
        await children.close()
    [connect] = [packet for packet in peer.seen if isinstance(packet, Connect)]
    assert connect.username == device_id
    assert connect.client_id.startswith(f"{device_id}_0_{ROW['signature_type']}_")
    assert peer.subscribed == [(messages.down_topic(device_id), *commands.topics(device_id))]


@pytest.mark.parametrize(
    ("code", "error"), [(3, LoginFailed), (4, LoginRefused), (5, LoginRefused)]
)
async def test_children_have_the_reason_of_a_refused_login(
    serve: Serve, ca_file: Path, code: int, error: type[Exception]
) -> None:
    async with serve(Peer(connack=code).script) as broker:
        route, children = parts(broker.port, ca_file)
        with pytest.raises(error) as raised:
            await route.connect(OWN, SECRET)
        assert children._monitor.offline_reason == getattr(raised.value, "reason", "")
        await broker.until(0)


async def test_without_an_answer_to_its_subscription_it_is_not_logged_in(
    serve: Serve, ca_file: Path
) -> None:
    async with serve(Peer(granted=lambda _: None).script) as broker:
        route, children = parts(broker.port, ca_file, reply_timeout=0.5)
        with pytest.raises(LoginFailed) as raised:
            await route.connect(OWN, SECRET)
        assert raised.value.reason.code == "cloud-no-answer"
        assert children._link.current is None
        await broker.until(0)


async def test_a_platform_that_hangs_up_meanwhile_is_reported(serve: Serve, ca_file: Path) -> None:
    peer = Peer()

    def hang_up(_: str) -> None:
        peer.drop()

    peer.granted = hang_up
    async with serve(peer.script) as broker:
        route, _ = parts(broker.port, ca_file)
        with pytest.raises(LoginFailed) as raised:
            await route.connect(OWN, SECRET)
        assert raised.value.reason.code in {"cloud-closed", "connection-lost"}


async def test_a_platform_that_does_not_answer_holds_no_gateway_back(
    serve: Serve, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatewayd.cloud.huawei.sub_device.PATIENCE", 0.2)
    peer = serving(Peer())
    async with serve(peer.script) as broker:
        route, children = parts(broker.port, ca_file)
        session = await route.connect(OWN, SECRET)
        await HuaweiSubDeviceRoute(children).connect(ONE, KEPT)
        peer.replies = lambda *_: []
        async with asyncio.timeout(20):
            await session.close()
        await children.close()
    assert peer.left


async def test_a_secret_that_was_reset_at_the_platform_is_replaced_by_the_configured_one(
    tmp_path: Path,
) -> None:
    """As the protocol of renewal asks for it: the old one stays until a login with the new one."""
    async with site.site(site.furnish(tmp_path)) as one:
        provider, old = one.provider, site.SECRET
        one.instance.devices.reset_secret(site.OWN_ID, "the-new-Secret")
        with pytest.raises(LoginRefused) as before:
            await provider.connect(site.OWN, old)
        assert "gatewayctl reload" in before.value.reason.remedy
        assert str(tmp_path / "secret") in before.value.reason.remedy
        assert provider.renew_at(site.OWN, old) is None
        (tmp_path / "secret").write_text("the-new-Secret\n")
        with pytest.raises(LoginRefused) as after:
            await provider.connect(site.OWN, old)
        assert after.value.stale
        assert provider.renew_at(site.OWN, old) == 0.0
        kept = RecordingKeeper()
        assert await provider.register(site.OWN, kept.keep) == Issued()
        (new,) = kept.secrets
        assert provider.renew_at(site.OWN, new) is None
        session = await provider.connect(site.OWN, new)
        await session.close()
