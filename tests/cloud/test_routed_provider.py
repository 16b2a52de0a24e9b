"""A name takes its route, and one without a route is refused before the cloud is asked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from gatewayd.cloud.provider import (
    CloudRequestHandler,
    Issued,
    KeepSecret,
    LoginFailed,
    Outcome,
    Refused,
    Session,
)
from gatewayd.cloud.routed_provider import RoutedProvider
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.testing.contracts.cloud import RecordingKeeper
from tests.cloud.stand_ins import Wishes

NAME = CloudName("cloud", "product", "device")
ILLEGAL, NO_ROUTE = Reason("illegal"), Reason("no-route")
OBJECTION, NOT_READY, BOUND = Reason("objection"), Reason("not-ready"), Reason("bound")
SECRET = Secret(b"secret")


@dataclass
class FakeRoute:
    """A route that refuses to do anything.  calls: what it was asked."""

    objection: Reason | None = None
    calls: list[str] = field(default_factory=list)

    def check_name(self, _: CloudName) -> Reason | None:
        return self.objection

    async def check_ready(self, _: CloudName) -> Reason | None:
        return NOT_READY

    async def register(self, _: CloudName, keep: KeepSecret) -> Outcome:
        self.calls.append("register")
        await keep(SECRET)
        return Issued()

    async def connect(self, _: CloudName, __: Secret) -> Session:
        self.calls.append("connect")
        raise LoginFailed(NOT_READY)

    async def unbind(self, _: CloudName) -> Reason | None:
        return BOUND

    async def close(self) -> None:
        self.calls.append("close")


@dataclass
class FakeSubDevices:
    """Sub-devices that note what they are given."""

    calls: list[object] = field(default_factory=list)

    def set_requests(self, requests: CloudRequestHandler) -> None:
        self.calls.append(requests)

    async def close(self) -> None:
        self.calls.append("close")


class FakeProvider(RoutedProvider):
    """A provider with the routes "first" and "second"."""

    def __init__(self, first: FakeRoute, second: FakeRoute) -> None:
        super().__init__("cloud", "first")
        self._routes |= {"first": first, "second": second}

    def _illegal(self, name: CloudName) -> Reason | None:
        return ILLEGAL if name.device == "illegal" else None

    def _no_route(self, name: CloudName) -> Reason:
        return NO_ROUTE


@pytest.mark.parametrize(("route", "asked"), [("", 0), ("first", 0), ("second", 1)])
async def test_a_name_takes_its_route(route: str, asked: int) -> None:
    routes = FakeRoute(), FakeRoute()
    provider, name, kept = FakeProvider(*routes), replace(NAME, route=route), RecordingKeeper()
    assert provider.check_name(name) is None
    assert await provider.check_ready(name) == NOT_READY
    assert await provider.register(name, kept.keep) == Issued()
    assert kept.secrets == [SECRET]
    with pytest.raises(LoginFailed):
        await provider.connect(name, SECRET)
    assert await provider.unbind(name) == BOUND
    assert routes[asked].calls == ["register", "connect"]
    assert not routes[1 - asked].calls


async def test_a_name_without_a_route() -> None:
    provider, name, kept = (
        FakeProvider(FakeRoute(), FakeRoute()),
        replace(NAME, route="x"),
        RecordingKeeper(),
    )
    assert provider.check_name(name) == NO_ROUTE
    assert await provider.check_ready(name) == NO_ROUTE
    assert await provider.register(name, kept.keep) == Refused(NO_ROUTE)
    with pytest.raises(LoginFailed) as raised:
        await provider.connect(name, SECRET)
    assert raised.value.reason == NO_ROUTE
    assert await provider.unbind(name) is None
    assert not kept.secrets


async def test_what_uses_the_session_of_the_gateway_moves_with_it() -> None:
    """Under one name of that for all, which is the same at all gateways of a site."""

    class WithGateway(FakeProvider):
        joint = frozenset({"gateway", "second"})

    provider = WithGateway(FakeRoute(), FakeRoute())
    assert provider.piece(replace(NAME, route="second")) == ""
    own = provider.gateway_name = CloudName("cloud", "hub", "hub-1", "gateway")
    assert provider.piece(replace(NAME, route="second")) == provider.piece(own) == "hub/hub-1"
    assert provider.piece(NAME) == ""


async def test_a_name_that_is_refused_is_not_registered() -> None:
    first, second = FakeRoute(), FakeRoute(objection=OBJECTION)
    provider = FakeProvider(first, second)
    for name, reason in (
        (replace(NAME, device="illegal"), ILLEGAL),
        (replace(NAME, route="second"), OBJECTION),
    ):
        assert provider.check_name(name) == reason
        assert await provider.register(name, RecordingKeeper().keep) == Refused(reason)
    assert not first.calls + second.calls


async def test_what_belongs_to_it_is_closed() -> None:
    routes, sub_devices, wishes = (FakeRoute(), FakeRoute()), FakeSubDevices(), Wishes()
    provider = FakeProvider(*routes)
    provider.set_requests(wishes)
    provider.on_pending(NAME)
    assert provider.renew_at(NAME, SECRET) is None
    provider._sub_devices = sub_devices
    provider.set_requests(wishes)
    await provider.close()
    assert sub_devices.calls == [wishes, "close"]
    assert [route.calls for route in routes] == [["close"], ["close"]]
