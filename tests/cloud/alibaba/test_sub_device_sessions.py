"""The gateway's children over a scripted link: what a cloud seldom does."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from gatewayd.cloud.alibaba import alink, payloads, sub_device_sessions
from gatewayd.cloud.alibaba.account import AlibabaAccount
from gatewayd.cloud.alibaba.alink import (
    AlinkReply,
    Downlink,
    ForcedOff,
    SubDeviceOrder,
    SubName,
    TopologyChange,
    TopologyChanged,
)
from gatewayd.cloud.alibaba.connection import AlibabaUplink
from gatewayd.cloud.alibaba.payloads import sub_name
from gatewayd.cloud.alibaba.settings import AlibabaGateway, AlibabaProduct, AlibabaSettings
from gatewayd.cloud.alibaba.sub_device import AlibabaSubDevices, RegisteredRoute
from gatewayd.cloud.provider import Failed, Issued, LoginFailed, LoginRemoved, Unknown
from gatewayd.cloud.sub_devices import link_monitor
from gatewayd.cloud.sub_devices.link import GatewayLink, LinkDown, NoAnswer
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.network import tls
from gatewayd.network.connect_errors import ConnectionEnd
from gatewayd.runtime.clock import Clock
from gatewayd.testing.contracts.cloud import RecordingKeeper, cancel
from gatewayd.testing.waiting import until
from tests.cloud.stand_ins import Wishes

PRODUCT = "a1Sensors22"
SECRET = Secret(b"7f3c9a1e5b2d4860a7c1e9f3b5d20846")
CHILDREN = [CloudName("cloud", PRODUCT, f"SEN-{number:04}", "sub-device") for number in range(60)]
ONE = CHILDREN[0]

Answer = Callable[[Any], Awaitable[AlinkReply] | AlinkReply]


async def hang(_: object) -> AlinkReply:
    await asyncio.Event().wait()
    raise AssertionError


async def down(_: object) -> AlinkReply:
    raise LinkDown


async def silent(_: object) -> AlinkReply:
    raise NoAnswer


def secrets(params: Any) -> AlinkReply:
    """Issue a secret to each, the last one first."""
    return AlinkReply(
        200, [one | {"deviceSecret": f"of-{one['deviceName']}"} for one in params[::-1]]
    )


@dataclass
class FakeUplink:
    """Answers by a table; all else is done.  asked: each method, with its params."""

    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    watched: set[SubName] = field(default_factory=set)
    on_request: Callable[[Downlink], None] = lambda _: None
    closed: asyncio.Future[ConnectionEnd] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    async def ask(self, method: str, params: object) -> AlinkReply:
        self.asked.append((method, params))
        answer = self.answers.get(method, lambda _: AlinkReply(200, []))(params)
        return answer if isinstance(answer, AlinkReply) else await answer

    async def watch(self, children: Any) -> None:
        self.watched.update(children)

    async def unwatch(self, child: SubName) -> None:
        self.watched.discard(child)

    def count(self) -> Counter[str]:
        return Counter(method for method, _ in self.asked)


@dataclass
class Home:
    """A route, and the link under it."""

    link: GatewayLink[AlibabaUplink]
    children: AlibabaSubDevices
    route: RegisteredRoute
    wishes: Wishes
    uplink: FakeUplink

    def put(self, uplink: FakeUplink) -> None:
        """Let the gateway log in."""
        self.uplink = uplink
        self.children.serve_over(cast("AlibabaUplink", uplink))


@asynccontextmanager
async def home(limit: int = 100, **answers: Answer) -> AsyncIterator[Home]:
    own = AlibabaGateway("a1Gateways1", "gateway-1", "unused", children=limit)
    settings = AlibabaSettings(host="localhost", products={PRODUCT: AlibabaProduct()}, gateway=own)
    link, wishes = GatewayLink[AlibabaUplink](), Wishes()
    children = AlibabaSubDevices(
        "cloud", settings, own, link, Clock(time.monotonic, lambda: 1_700_000_000_000_000)
    )
    children.set_requests(wishes)

    def read(*_: object) -> Secret:
        raise AssertionError

    account = AlibabaAccount(settings, read, tls.TrustStore(None))
    route = RegisteredRoute(account, children)
    one = Home(link, children, route, wishes, FakeUplink())
    one.put(FakeUplink({getattr(alink, name): answer for name, answer in answers.items()}))
    try:
        yield one
    finally:
        await children.close()


async def test_a_secret_is_taken_by_name() -> None:
    async with home(SUB_REGISTER=secrets) as one:
        kept = [RecordingKeeper() for _ in CHILDREN]
        outcomes = await asyncio.gather(
            *(one.route.register(name, k.keep) for name, k in zip(CHILDREN, kept, strict=True))
        )
        assert set(outcomes) == {Issued()}
        for name, k in zip(CHILDREN, kept, strict=True):
            assert k.secrets == [Secret(f"of-{name.device}".encode())]
        assert one.uplink.count()[alink.SUB_REGISTER] == 2


@pytest.mark.parametrize(
    ("answer", "code"), [(down, "gateway-link-lost"), (silent, "cloud-no-answer")]
)
async def test_once_asked_a_registration_may_have_been_done(answer: Answer, code: str) -> None:
    async with home(SUB_REGISTER=answer) as one:
        outcome = await one.route.register(ONE, RecordingKeeper().keep)
        assert isinstance(outcome, Unknown)
        assert outcome.reason.code == code


async def test_without_a_link_a_registration_was_not_done() -> None:
    async with home() as one:
        one.uplink.closed.set_result(ConnectionEnd.LOST)
        outcome = await one.route.register(ONE, RecordingKeeper().keep)
        assert isinstance(outcome, Failed)
        assert outcome.reason.code == "gateway-offline"
        assert not one.uplink.count()[alink.SUB_REGISTER]


async def test_a_provider_that_closes_leaves_a_registration_unknown() -> None:
    async with home(SUB_REGISTER=hang) as one:
        task = asyncio.create_task(one.route.register(ONE, RecordingKeeper().keep))
        await until(lambda: bool(one.uplink.count()[alink.SUB_REGISTER]))
        await one.children.close()
        assert isinstance(await task, Unknown)


async def test_requests_say_what_the_documents_want() -> None:
    async with home() as one:
        await asyncio.gather(*(one.route.connect(name, SECRET) for name in CHILDREN[:2]))
        asked = dict(one.uplink.asked)
        assert asked[alink.TOPO_GET] == {}
        entry = asked[alink.TOPO_ADD][0]
        assert (entry["timestamp"], entry["signmethod"]) == ("1700000000000", "hmacSha256")
        login = asked[alink.BATCH_LOGIN]
        assert login["signMethod"] == login["deviceList"][0]["signMethod"] == "hmacSha256"
        assert len(login["deviceList"]) == 2
        assert one.uplink.watched == {SubName(n.product, n.device) for n in CHILDREN[:2]}


async def test_a_batch_has_as_many_as_the_cloud_takes() -> None:
    """50 logins and 30 of the others ("Limits", document_detail/30527)."""
    async with home(SUB_REGISTER=secrets) as one:
        login = payloads.ChildLogin("client", "hmacsha256", "1")
        signed = [payloads.to_log_in(name, SECRET, login) for name in CHILDREN]
        await asyncio.gather(*map(one.children.requests.log_in.submit, signed))
        await asyncio.gather(*map(one.children.requests.attach.submit, signed))
        await asyncio.gather(*map(one.children.requests.register.submit, map(sub_name, CHILDREN)))
        logins = [len(p["deviceList"]) for m, p in one.uplink.asked if m == alink.BATCH_LOGIN]
        counted = (alink.TOPO_ADD, alink.SUB_REGISTER)
        others = [len(params) for method, params in one.uplink.asked if method in counted]
        assert (logins, others) == ([50, 10], [30] * 4)


async def test_a_session_closes_in_time_without_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gatewayd.cloud.sub_devices.sessions.CLOSE_TIME", 0.5)
    async with home(LOGOUT=hang) as one:
        session = await one.route.connect(ONE, SECRET)
        await session.close()
        await session.close()
        assert (await session.wait_closed()).reason.code == "closed"
        assert one.uplink.count()[alink.LOGOUT] == 1


async def test_one_is_not_logged_in_before_it_is_logged_out() -> None:
    going = asyncio.Event()

    async def slowly(_: object) -> AlinkReply:
        await going.wait()
        return AlinkReply(200, {})

    async with home(LOGOUT=slowly) as one:
        session = await one.route.connect(ONE, SECRET)
        closing = asyncio.create_task(session.close())
        await until(lambda: bool(one.uplink.count()[alink.LOGOUT]))
        opening = asyncio.create_task(one.route.connect(ONE, SECRET))
        for _ in range(50):
            await asyncio.sleep(0.002)
            assert one.uplink.count()[alink.LOGIN] == 1
        going.set()
        await closing
        again = await opening
        assert [method for method, _ in one.uplink.asked][-2:] == [alink.LOGOUT, alink.LOGIN]
        assert one.children.sessions.all() == (again,)


async def test_a_login_that_is_cancelled_is_undone() -> None:
    going = asyncio.Event()

    async def slowly(_: object) -> AlinkReply:
        await going.wait()
        return AlinkReply(200, {})

    async with home(LOGIN=slowly) as one:
        opening = asyncio.create_task(one.route.connect(ONE, SECRET))
        await until(lambda: bool(one.uplink.count()[alink.LOGIN]))
        assert await cancel(cast("asyncio.Task[object]", opening))
        assert not one.uplink.count()[alink.LOGOUT]
        going.set()
        await until(lambda: bool(one.uplink.count()[alink.LOGOUT]))


async def test_a_login_that_failed_needs_no_undoing() -> None:
    going = asyncio.Event()

    async def slowly(_: object) -> AlinkReply:
        await going.wait()
        return AlinkReply(6287, {})

    async with home(LOGIN=slowly) as one:
        opening = asyncio.create_task(one.route.connect(ONE, SECRET))
        await until(lambda: bool(one.uplink.count()[alink.LOGIN]))
        assert await cancel(cast("asyncio.Task[object]", opening))
        going.set()
        with pytest.raises(Exception, match="cloud-auth-failed"):
            await one.route.connect(ONE, SECRET)
        assert not one.uplink.count()[alink.LOGOUT]


async def test_a_link_that_is_lost_during_a_login_opens_no_session() -> None:
    async with home() as one:
        first = one.uplink

        async def replaced(_: object) -> AlinkReply:
            one.put(FakeUplink())
            return AlinkReply(200, {})

        first.answers[alink.LOGIN] = replaced
        with pytest.raises(LoginFailed) as raised:
            await one.route.connect(ONE, SECRET)
        assert raised.value.reason.code == "gateway-link-lost"
        assert not one.children.sessions.all()


async def test_a_topology_that_cannot_be_had_is_asked_for_again() -> None:
    async with home(TOPO_GET=silent) as one:
        with pytest.raises(LoginFailed) as raised:
            await one.route.connect(ONE, SECRET)
        assert raised.value.reason.code == "cloud-no-answer"
        one.uplink.answers[alink.TOPO_GET] = lambda _: AlinkReply(200, [])
        await one.route.connect(ONE, SECRET)


async def test_what_the_cloud_has_of_the_gateway_is_asked_once_for_all() -> None:
    async with home() as one:
        await asyncio.gather(*(one.route.connect(name, SECRET) for name in CHILDREN))
        assert one.uplink.count()[alink.TOPO_GET] == 1
        one.uplink.on_request(TopologyChanged(TopologyChange.UNKNOWN, ()))
        await until(lambda: one.uplink.count()[alink.TOPO_GET] == 2)


async def test_the_cloud_tells_that_we_forget_a_child_and_it_is_not_taken_for_removed() -> None:
    async with home() as one:
        session = await one.route.connect(ONE, SECRET)

        def answer(_: object) -> AlinkReply:
            one.uplink.on_request(
                TopologyChanged(TopologyChange.DELETED, (SubName(PRODUCT, ONE.device),))
            )
            return AlinkReply(200, [])

        one.uplink.answers[alink.TOPO_DELETE] = answer
        assert await one.route.unbind(ONE) is None
        assert not (await session.wait_closed()).removed
        one.uplink.on_request(
            TopologyChanged(TopologyChange.DELETED, (SubName(PRODUCT, ONE.device),))
        )
        await one.route.connect(ONE, SECRET)


async def test_a_child_that_was_removed_while_away_may_be_registered_again() -> None:
    async with home(SUB_REGISTER=secrets) as one:
        await (await one.route.connect(ONE, SECRET)).close()
        one.uplink.on_request(SubDeviceOrder(alink.DELETE, SubName(PRODUCT, ONE.device)))
        assert await one.route.register(ONE, RecordingKeeper().keep) == Issued()
        await (await one.route.connect(ONE, SECRET)).close()
        one.uplink.on_request(SubDeviceOrder(alink.DELETE, SubName(PRODUCT, ONE.device)))
        with pytest.raises(LoginRemoved):
            await one.route.connect(ONE, SECRET)


@pytest.mark.parametrize(("order", "removed"), [(alink.DELETE, True), (alink.DISABLE, False)])
async def test_an_order_to_a_child(order: str, *, removed: bool) -> None:
    async with home() as one:
        session = await one.route.connect(ONE, SECRET)
        one.uplink.on_request(SubDeviceOrder(order, SubName(PRODUCT, ONE.device)))
        assert (await session.wait_closed()).removed is removed


async def test_an_enabled_child_is_called() -> None:
    async with home() as one:
        one.uplink.on_request(SubDeviceOrder(alink.ENABLE, SubName(PRODUCT, ONE.device)))
        assert one.wishes.again == [ONE]


async def test_children_are_called_back_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_monitor, "PAUSE", 0.02)
    async with home() as one:
        await asyncio.gather(*(one.route.connect(name, SECRET) for name in CHILDREN))
        one.uplink.closed.set_result(ConnectionEnd.LOST)
        await until(lambda: not one.children.sessions.all())
        one.put(FakeUplink())
        await until(lambda: bool(one.wishes.again))
        assert len(one.wishes.again) == link_monitor.BATCH
        await until(lambda: len(one.wishes.again) == len(CHILDREN))
        assert {*one.wishes.again} == {*CHILDREN}


async def test_no_more_are_called_back_than_a_gateway_may_have() -> None:
    async with home(limit=5) as one:
        await asyncio.gather(*(one.route.connect(name, SECRET) for name in CHILDREN[:10]))
        one.uplink.closed.set_result(ConnectionEnd.LOST)
        await until(lambda: not one.children.sessions.all())
        one.put(FakeUplink())
        await until(lambda: bool(one.wishes.again))
        assert len(one.wishes.again) == 5


async def test_a_batch_that_came_too_fast_is_not_sent_again_one_by_one() -> None:
    async with home(BATCH_LOGIN=lambda _: AlinkReply(429, {})) as one:
        answer = await asyncio.gather(
            *(one.route.connect(name, SECRET) for name in CHILDREN[:5]), return_exceptions=True
        )
        assert {type(error) for error in answer} == {LoginFailed}
        assert one.uplink.count()[alink.BATCH_LOGIN] == 1
        assert not one.uplink.count()[alink.LOGIN]


async def test_a_look_that_the_cloud_does_not_answer_well_ends_no_session() -> None:
    async with home() as one:
        session = await one.route.connect(ONE, SECRET)
        one.uplink.answers[alink.LOGIN] = lambda _: AlinkReply(500, {})
        assert not await one.children.sessions.check(session)
        assert one.children.sessions.all() == (session,)
        one.uplink.answers[alink.LOGIN] = lambda _: AlinkReply(520, {})
        one.uplink.on_request(ForcedOff(520, SubName(PRODUCT, ONE.device)))
        assert (await session.wait_closed()).reason.code == "cloud-no-session"


@pytest.mark.parametrize("answer", [lambda _: AlinkReply(429, {}), silent])
async def test_a_look_without_an_answer_is_repeated(
    answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sub_device_sessions, "PERIOD", 0.05)
    monkeypatch.setattr(sub_device_sessions, "PAUSE", 0.01)
    async with home() as one:
        sessions = await asyncio.gather(*(one.route.connect(name, SECRET) for name in CHILDREN[:3]))

        def first(params: object) -> Awaitable[AlinkReply] | AlinkReply:
            one.uplink.answers[alink.BATCH_LOGIN] = lambda _: AlinkReply(522, {})
            return answer(params)

        one.uplink.answers[alink.BATCH_LOGIN] = first
        one.uplink.answers[alink.LOGIN] = lambda params: AlinkReply(
            522 if params["deviceName"] == ONE.device else 200, {}
        )
        one.uplink.on_request(ForcedOff(520, None))
        await until(lambda: one.uplink.count()[alink.LOGIN] == 3)
        await until(lambda: one.children.sessions.all() == tuple(sessions[1:]))
        assert (await sessions[0].wait_closed()).reason.code == "cloud-disabled"


async def test_a_child_reported_during_a_check_is_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sub_device_sessions, "PERIOD", 0.05)
    monkeypatch.setattr(sub_device_sessions, "PAUSE", 0.01)
    async with home() as one:
        session = await one.route.connect(ONE, SECRET)

        def answer(_: object) -> AlinkReply:
            one.uplink.answers[alink.LOGIN] = lambda _: AlinkReply(522, {})
            one.uplink.on_request(ForcedOff(520, None))
            return AlinkReply(200, {})

        one.uplink.answers[alink.LOGIN] = answer
        one.uplink.on_request(ForcedOff(520, None))
        await until(lambda: not one.children.sessions.all())
        assert (await session.wait_closed()).reason.code == "cloud-disabled"


async def test_a_session_that_was_closed_before_its_look_is_left_alone() -> None:
    async with home() as one:
        session = await one.route.connect(ONE, SECRET)
        await session.close()
        logins = one.uplink.count()[alink.LOGIN]
        assert await one.children.sessions.check(session)
        assert one.uplink.count()[alink.LOGIN] == logins


async def test_an_enabled_child_may_come_at_once() -> None:
    async with home(LOGIN=lambda _: AlinkReply(9876, {})) as one:
        with pytest.raises(LoginFailed):
            await one.route.connect(ONE, SECRET)
        del one.uplink.answers[alink.LOGIN]
        with pytest.raises(LoginFailed):
            await one.route.connect(ONE, SECRET)
        one.uplink.on_request(
            TopologyChanged(TopologyChange.ENABLED, (SubName(PRODUCT, ONE.device),))
        )
        await one.route.connect(ONE, SECRET)


async def test_the_end_of_an_older_link_ends_no_session() -> None:
    async with home() as one:
        older = one.uplink
        session = await one.route.connect(ONE, SECRET)
        one.put(FakeUplink())
        assert (await session.wait_closed()).reason.code == "gateway-link-lost"
        session = await one.route.connect(ONE, SECRET)
        older.closed.set_result(ConnectionEnd.CLOUD)
        await one.route.connect(CHILDREN[1], SECRET)
        assert session in one.children.sessions.all()
