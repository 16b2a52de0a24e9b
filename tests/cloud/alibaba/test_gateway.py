"""The gateway itself: it gets its secret, logs in, listens, and hands its session out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cloud.alibaba import alink
from gatewayd.cloud.alibaba.account import AlibabaAccount
from gatewayd.cloud.alibaba.connection import AlibabaUplink
from gatewayd.cloud.alibaba.direct import PreregisteredRoute
from gatewayd.cloud.alibaba.gateway import AlibabaGatewayRoute
from gatewayd.cloud.alibaba.settings import AlibabaGateway, AlibabaProduct, AlibabaSettings
from gatewayd.cloud.credentials import read_secret
from gatewayd.cloud.provider import Issued, LoginFailed, LoginRefused, Refused
from gatewayd.cloud.sub_devices.link import GatewayLink
from gatewayd.cloud.sub_devices.result_codes import NOT_CONFIGURED
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import StoreError
from gatewayd.network import tls
from gatewayd.simulator.mqtt import codec
from gatewayd.simulator.mqtt.packets import Connect
from gatewayd.testing.contracts.cloud import RecordingKeeper
from tests.cloud.alibaba.peer import OWN, replying
from tests.cloud.peer import Peer
from tests.cloud.stand_ins import commands_of_no_kind

Serve = Callable[..., AbstractAsyncContextManager[Any]]

SECRET = Secret(b"7f3c9a1e5b2d4860a7c1e9f3b5d20846")


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.secret"
    path.touch(mode=0o600)
    path.write_bytes(SECRET.reveal() + b"\n")
    return path


class Served:
    """Stands for the children.  reason: why the gateway is not logged in."""

    def __init__(self, link: GatewayLink[AlibabaUplink]) -> None:
        self.serve_over, self.commands = link.put, commands_of_no_kind()
        self.reason: Reason | None = None

    def set_gateway_reason(self, reason: Reason | None) -> None:
        self.reason = reason


def route_to(
    port: int,
    ca_file: Path | None,
    link: GatewayLink[AlibabaUplink],
    own: AlibabaGateway | None = None,
    **others: Any,
) -> AlibabaGatewayRoute:
    given: dict[str, Any] = {
        "host": "localhost",
        "port": port,
        "ca_file": ca_file,
        "connect_timeout": 20.0,
        "reply_timeout": 20.0,
        "gateway": own or AlibabaGateway(OWN.product, OWN.device, "unused"),
    }
    settings = AlibabaSettings(**(given | others))

    def read(credential: str, file: Path | None) -> Secret:
        return read_secret(None, credential, file)

    account = AlibabaAccount(settings, read, tls.TrustStore(ca_file), bytes)
    children = Served(link)
    return AlibabaGatewayRoute(account, PreregisteredRoute(account), children, time.monotonic)


async def test_a_secret_that_is_configured_is_kept(secret_file: Path) -> None:
    own = AlibabaGateway(OWN.product, OWN.device, secret_file=secret_file)
    route, kept = route_to(1, None, GatewayLink[AlibabaUplink](), own), RecordingKeeper()
    assert route.check_name(OWN) is None
    assert await route.register(OWN, kept.keep) == Issued()
    assert kept.secrets == [SECRET]
    await route.close()


async def test_a_secret_that_cannot_be_read(secret_file: Path) -> None:
    secret_file.chmod(0o644)
    own = AlibabaGateway(OWN.product, OWN.device, secret_file=secret_file)
    kept = RecordingKeeper()
    outcome = await route_to(1, None, GatewayLink[AlibabaUplink](), own).register(OWN, kept.keep)
    assert isinstance(outcome, Refused)
    assert outcome.reason.code == "gateway-secret-unusable"
    assert str(secret_file) in outcome.reason.text
    assert not kept.secrets


async def test_what_keeping_raises_is_passed_on(secret_file: Path) -> None:
    own = AlibabaGateway(OWN.product, OWN.device, secret_file=secret_file)

    async def fail(_: Secret) -> None:
        raise StoreError("full")

    with pytest.raises(StoreError):
        await route_to(1, None, GatewayLink[AlibabaUplink](), own).register(OWN, fail)


async def test_without_one_it_registers_as_a_direct_device(
    serve: Serve, ca_file: Path, secret_file: Path
) -> None:
    push = {
        "productKey": OWN.product, "deviceName": OWN.device,
        "deviceSecret": SECRET.reveal().decode(),
    }  # fmt: skip
    peer = Peer(first=codec.publish("/ext/register", str(push).replace("'", '"').encode()))
    async with serve(peer.script) as broker:
        own = AlibabaGateway(OWN.product, OWN.device, register=True)
        products = {OWN.product: AlibabaProduct(secret_file=secret_file)}
        route, kept = (
            route_to(broker.port, ca_file, GatewayLink[AlibabaUplink](), own, products=products),
            RecordingKeeper(),
        )
        assert route.check_name(OWN) is None
        assert await route.register(OWN, kept.keep) == Issued()
        await broker.until(0)
    assert kept.secrets == [SECRET]
    [connect] = [packet for packet in peer.seen if isinstance(packet, Connect)]
    assert "authType=register" in connect.client_id


async def test_another_name_is_not_the_gateways_own(secret_file: Path) -> None:
    route = route_to(1, None, GatewayLink[AlibabaUplink]())
    other = CloudName(OWN.provider, OWN.product, "gateway-02")
    assert route.check_name(other) == NOT_CONFIGURED
    assert await route.check_ready(OWN) is await route.unbind(OWN) is None


async def test_it_logs_in_listens_and_hands_its_session_out(serve: Serve, ca_file: Path) -> None:
    peer, link = Peer(replies=replying(200, [])), GatewayLink[AlibabaUplink]()
    async with serve(peer.script) as broker:
        route = route_to(broker.port, ca_file, link)
        waiting = asyncio.create_task(link.wait(30))
        session = await route.connect(OWN, SECRET)
        uplink = await waiting
        assert uplink is not None
        assert uplink is link.current
        assert (await uplink.ask(alink.TOPO_GET, {})).code == 200
        assert len(sum(peer.subscribed, ())) == 22
        await session.close()
        await session.close()
        ended = await session.wait_closed()
        assert (ended.reason.code, ended.removed) == ("closed", False)
        await broker.until(0)
        assert link.current is None
    assert peer.left
    [connect] = [packet for packet in peer.seen if isinstance(packet, Connect)]
    assert connect.client_id == "a1Gateway01.gateway-01|securemode=2,signmethod=hmacsha256,ext=1|"
    assert connect.username == "gateway-01&a1Gateway01"


async def test_a_lost_session_tells_and_is_taken_back(serve: Serve, ca_file: Path) -> None:
    peer, link = Peer(), GatewayLink[AlibabaUplink]()
    async with serve(peer.script) as broker:
        route = route_to(broker.port, ca_file, link)
        session = await route.connect(OWN, SECRET)
        peer.drop()
        ended = await session.wait_closed()
        assert ended.reason.code in {"cloud-closed", "connection-lost"}
        await asyncio.sleep(0)
        assert link.current is None
        again = await route.connect(OWN, SECRET)
        assert link.current is not None
        await again.close()
        await broker.until(0)


async def test_a_login_that_is_refused(serve: Serve, ca_file: Path) -> None:
    link = GatewayLink[AlibabaUplink]()
    async with serve(Peer(connack=5).script) as broker:
        with pytest.raises(LoginRefused):
            await route_to(broker.port, ca_file, link).connect(OWN, SECRET)
        await broker.until(0)
    assert link.current is None


async def test_roots_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(LoginFailed) as raised:
        await route_to(1, tmp_path / "no.pem", GatewayLink[AlibabaUplink]()).connect(OWN, SECRET)
    assert raised.value.reason.code == "ca-file-unusable"


async def test_a_session_that_cannot_listen_is_none(serve: Serve, ca_file: Path) -> None:
    link = GatewayLink[AlibabaUplink]()
    async with serve(Peer(granted=lambda _: None).script) as broker:
        route = route_to(broker.port, ca_file, link, reply_timeout=0.5)
        with pytest.raises(LoginFailed) as raised:
            await route.connect(OWN, SECRET)
        await broker.until(0)
    assert raised.value.reason.code == "cloud-no-answer"
    assert link.current is None


async def test_a_session_that_ends_while_it_subscribes(serve: Serve, ca_file: Path) -> None:
    link = GatewayLink[AlibabaUplink]()

    async def hang_up(client: Any) -> None:
        await client.packet()
        await client.send(codec.connack(0))
        await client.reader.read(1)

    async with serve(hang_up) as broker:
        with pytest.raises(LoginFailed) as raised:
            await route_to(broker.port, ca_file, link).connect(OWN, SECRET)
    assert raised.value.reason.code in {"cloud-closed", "connection-lost"}
    assert link.current is None


async def test_cancelled_while_it_subscribes_it_closes(serve: Serve, ca_file: Path) -> None:
    peer, link = Peer(granted=lambda _: None), GatewayLink[AlibabaUplink]()
    async with serve(peer.script) as broker:
        connecting = asyncio.create_task(route_to(broker.port, ca_file, link).connect(OWN, SECRET))
        await peer.until(lambda: len(peer.subscribed) == 1)
        connecting.cancel()
        await asyncio.wait({connecting})
        assert connecting.cancelled()
        await broker.until(0)
    assert link.current is None


# A configured secret that was corrected.


async def test_a_refused_secret_is_due_once_another_is_configured(
    serve: Serve, ca_file: Path, secret_file: Path
) -> None:
    peer = Peer(connack=4)
    own = AlibabaGateway(OWN.product, OWN.device, secret_file=secret_file)
    async with serve(peer.script) as broker:
        route = route_to(broker.port, ca_file, GatewayLink[AlibabaUplink](), own)
        with pytest.raises(LoginRefused) as same:
            await route.connect(OWN, SECRET)
        assert not same.value.stale
        assert "gatewayctl reload" in same.value.reason.remedy
        assert str(secret_file) in same.value.reason.remedy
        assert not route.is_replaced(OWN, SECRET)
        secret_file.write_bytes(b"0123456789abcdef0123456789abcdef")
        with pytest.raises(LoginRefused) as other:
            await route.connect(OWN, SECRET)
        assert other.value.stale
        assert route.is_replaced(OWN, SECRET)
        kept = RecordingKeeper()
        assert await route.register(OWN, kept.keep) == Issued()
        assert not route.is_replaced(OWN, kept.secrets[0])
        secret_file.unlink()
        with pytest.raises(LoginRefused) as gone:
            await route.connect(OWN, SECRET)
        assert not gone.value.stale
