"""Sub-devices over a scripted link: what a platform seldom does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from gatewayd.cloud.huawei import device_cache, downlink, sub_device
from gatewayd.cloud.huawei.connection import HuaweiUplink
from gatewayd.cloud.huawei.messages import (
    NodeName,
    Response,
    SubDeviceEvent,
    SubDeviceFailure,
    SubDeviceInfo,
    SubDeviceStatus,
)
from gatewayd.cloud.huawei.requests import HuaweiRequests
from gatewayd.cloud.provider import (
    Failed,
    Issued,
    LoginFailed,
    LoginRefused,
    LoginRemoved,
    Refused,
    Unknown,
)
from gatewayd.cloud.sub_devices.link import GatewayLink, LinkDown, NoAnswer
from gatewayd.cloud.sub_devices.result_codes import GATEWAY_FULL
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.network.connect_errors import ConnectionEnd
from gatewayd.testing.contracts.cloud import RecordingKeeper, cancel
from gatewayd.testing.waiting import until
from tests.cloud.huawei.home import (
    CHILDREN,
    GATEWAY,
    ONE,
    PRODUCT,
    Answer,
    FakeUplink,
    Home,
    added,
    deleted,
    device_id,
    done,
    failing,
    home,
    info,
)

EXISTS, NOT_A_CHILD = "IOTDA.014031", "IOTDA.021104"


async def hang(_: object) -> Response:
    await asyncio.Event().wait()
    raise AssertionError


async def down(_: object) -> Response:
    raise LinkDown


async def silent(_: object) -> Response:
    raise NoAnswer


def when(going: asyncio.Event, event: SubDeviceEvent) -> Answer:
    async def answer(items: Sequence[Any]) -> Response:
        await going.wait()
        return done(event, items)

    return answer


async def refused(one: Home, name: CloudName = ONE) -> Refused | Failed | Unknown:
    kept = RecordingKeeper()
    outcome = await one.route.register(name, kept.keep)
    assert not kept.secrets
    assert not isinstance(outcome, Issued)
    return outcome


async def test_children_are_added_in_few_requests_and_their_device_ids_kept() -> None:
    async with home() as one:
        secrets = await asyncio.gather(*(one.secret(name) for name in CHILDREN))
        assert [sub_device.decode(s) for s in secrets] == [device_id(name) for name in CHILDREN]
        assert [len(items) for _, items in one.uplink.asked] == [50, 50, 20]


async def test_each_child_of_a_request_has_its_own_outcome() -> None:
    async with home(ADD=failing(SubDeviceEvent.ADD, "IOTDA.000006", *CHILDREN[1:3])) as one:
        outcomes = await asyncio.gather(
            *(one.route.register(name, RecordingKeeper().keep) for name in CHILDREN[:5])
        )
        assert [type(outcome) for outcome in outcomes] == [Issued, Refused, Refused, Issued, Issued]
        assert one.uplink.count()[SubDeviceEvent.ADD] == 1


async def test_an_answer_names_the_child_that_failed() -> None:
    failed = SubDeviceFailure("IOTDA.000006", "", NodeName(PRODUCT, CHILDREN[1].device))
    async with home(ADD=lambda _: Response(SubDeviceEvent.ADD, "", (), (failed,))) as one:
        outcomes = await asyncio.gather(
            *(one.route.register(name, RecordingKeeper().keep) for name in CHILDREN[:2])
        )
        assert [type(outcome) for outcome in outcomes] == [Unknown, Refused]


async def test_a_report_has_as_many_children_as_the_platform_takes() -> None:
    """100, however many an instance takes in a second."""
    link, uplink = GatewayLink[HuaweiUplink](), FakeUplink()
    link.put(cast("HuaweiUplink", uplink))
    requests = HuaweiRequests(link, 10_000, lambda *_: None)
    await asyncio.gather(*(requests.log_in.submit(device_id(name)) for name in CHILDREN))
    assert [len(items) for _, items in uplink.asked] == [100, 20]
    await requests.close()


async def test_a_product_that_the_answer_leaves_out_is_not_missed() -> None:
    answer = Response(SubDeviceEvent.ADD, "", (SubDeviceInfo("chosen-id", ONE.device),), ())
    async with home(ADD=lambda _: answer) as one:
        assert sub_device.decode(await one.secret(ONE)) == "chosen-id"


async def test_two_products_with_one_node_id_are_distinguished() -> None:
    twin = CloudName("cloud", "other", ONE.device)

    def answer(_: object) -> Response:
        nameless, named = (
            SubDeviceInfo("nameless", ONE.device),
            SubDeviceInfo("named", ONE.device, "other"),
        )
        return Response(SubDeviceEvent.ADD, "", (nameless, named), ())

    async with home(products=(PRODUCT, "other"), ADD=answer) as one:
        outcomes = await asyncio.gather(
            *(one.route.register(name, RecordingKeeper().keep) for name in (ONE, twin))
        )
        assert [type(outcome) for outcome in outcomes] == [Unknown, Issued]


@pytest.mark.parametrize(
    ("answer", "code"), [(down, "gateway-link-lost"), (silent, "cloud-no-answer")]
)
async def test_once_asked_a_child_may_have_been_added(answer: Answer, code: str) -> None:
    async with home(ADD=answer) as one:
        outcome = await refused(one)
        assert isinstance(outcome, Unknown)
        assert outcome.reason.code == code


async def test_after_a_lost_answer_the_platform_is_asked_what_it_has() -> None:
    async with home(ADD=silent) as one:
        assert isinstance(await refused(one), Unknown)
        one.uplink.on_sync = [added(info(ONE))]
        assert sub_device.decode(await one.secret(ONE)) == device_id(ONE)
        assert one.uplink.synced[1:] == [0]
        assert one.uplink.count()[SubDeviceEvent.ADD] == 1


async def test_what_the_platform_does_not_have_after_a_lost_answer_is_added_again() -> None:
    async with home(patience=0.1, ADD=silent) as one:
        assert isinstance(await refused(one), Unknown)
        del one.uplink.answers[SubDeviceEvent.ADD]
        await one.secret(ONE)
        assert one.uplink.synced[1:] == [0]
        assert one.uplink.count()[SubDeviceEvent.ADD] == 2


async def test_without_a_link_nothing_was_asked() -> None:
    async with home() as one:
        one.uplink.closed.set_result(ConnectionEnd.LOST)
        assert isinstance(await refused(one), Failed)
        assert not one.uplink.asked
        one.put(FakeUplink())
        await one.secret(ONE)
        assert one.uplink.synced == [0]  # and that was for the new link


async def test_a_provider_that_closes_leaves_a_registration_unknown() -> None:
    async with home(ADD=hang) as one:
        task = asyncio.create_task(refused(one))
        await until(lambda: bool(one.uplink.asked))
        await one.children.close()
        assert isinstance(await task, Unknown)


async def test_an_answer_without_the_child_leaves_it_unknown() -> None:
    async with home(ADD=lambda _: Response(SubDeviceEvent.ADD, "", (), ())) as one:
        outcome = await refused(one)
        assert isinstance(outcome, Unknown)
        assert outcome.reason.code == "cloud-bad-answer"


async def test_one_that_exists_and_is_ours_is_adopted() -> None:
    async with home(ADD=failing(SubDeviceEvent.ADD, EXISTS)) as one:
        one.uplink.on_sync = [
            added(info(CHILDREN[2]), version=4),
            added(SubDeviceInfo("its-own-id", ONE.device, PRODUCT, GATEWAY), version=4),
        ]
        assert sub_device.decode(await one.secret(ONE)) == "its-own-id"


async def test_one_that_exists_elsewhere_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device_cache, "QUIET", 0.05)
    async with home(ADD=failing(SubDeviceEvent.ADD, EXISTS)) as one:
        one.uplink.on_sync = [added(info(CHILDREN[2]), info(ONE, parent="another-gateway"))]
        outcome = await refused(one)
        assert isinstance(outcome, Refused)
        assert outcome.reason.code == "cloud-other-gateway"
        assert "change-gateway" in outcome.reason.remedy


async def test_a_platform_that_reports_no_child_has_none_of_this_gateway() -> None:
    async with home(patience=0.1, ADD=failing(SubDeviceEvent.ADD, EXISTS)) as one:
        assert isinstance(await refused(one), Refused)


async def test_a_link_that_is_lost_while_the_platform_is_asked_is_no_answer() -> None:
    async with home(ADD=failing(SubDeviceEvent.ADD, EXISTS)) as one:
        task = asyncio.create_task(refused(one))
        await until(lambda: len(one.uplink.synced) == 2)
        one.uplink.closed.set_result(ConnectionEnd.LOST)
        assert isinstance(await task, Failed)


async def test_a_link_that_is_replaced_meanwhile_is_no_answer_either() -> None:
    async with home(ADD=failing(SubDeviceEvent.ADD, EXISTS)) as one:
        task = asyncio.create_task(refused(one))
        await until(lambda: len(one.uplink.synced) == 2)
        one.put(FakeUplink())
        assert isinstance(await task, Unknown)


async def test_many_that_exist_are_resolved_by_one_question() -> None:
    async with home(ADD=failing(SubDeviceEvent.ADD, EXISTS)) as one:
        one.uplink.on_sync = [added(*map(info, CHILDREN[:50]))]
        await until(lambda: bool(one.uplink.synced))
        one.children.cache._children.clear()
        one.children.cache._ids.clear()
        await asyncio.gather(*(one.secret(name) for name in CHILDREN[:50]))
        assert one.uplink.synced == [0, 0]


async def test_a_child_that_the_platform_has_reported_is_not_added_again() -> None:
    async with home(on_sync=[added(info(ONE))]) as one:
        await until(lambda: bool(one.uplink.synced))
        await one.secret(ONE)
        assert not one.uplink.asked


async def test_there_is_one_question_at_a_time_for_each_child() -> None:
    going = asyncio.Event()
    async with home(ADD=when(going, SubDeviceEvent.ADD)) as one:
        first = asyncio.create_task(one.route.register(ONE, RecordingKeeper().keep))
        await until(lambda: bool(one.uplink.asked))
        assert await cancel(cast("asyncio.Task[object]", first))
        kept = RecordingKeeper()
        one.children.sessions._unsure.clear()
        second = asyncio.create_task(one.route.register(ONE, kept.keep))
        going.set()
        assert await second == Issued()
        assert len(kept.secrets) == one.uplink.count()[SubDeviceEvent.ADD] == 1


async def test_a_full_gateway_takes_no_more() -> None:
    async with home(limit=2) as one:
        for name in CHILDREN[:2]:
            assert one.route.check_name(name) is None
            await one.secret(name)
        assert one.route.check_name(ONE) is None
        assert one.route.check_name(CHILDREN[2]) == GATEWAY_FULL
        await one.route.unbind(ONE)
        assert one.route.check_name(CHILDREN[2]) is None


async def test_a_refused_child_takes_no_room() -> None:
    async with home(limit=1, ADD=failing(SubDeviceEvent.ADD, "IOTDA.000006")) as one:
        await refused(one)
        assert one.route.check_name(CHILDREN[1]) is None


async def test_an_undocumented_code_is_tried_again_slowly() -> None:
    async with home(ADD=failing(SubDeviceEvent.ADD, "IOTDA.099999")) as one:
        outcome = await refused(one)
        assert isinstance(outcome, Failed)
        assert "IOTDA.099999" in outcome.reason.text
        assert await one.route.check_ready(ONE) == outcome.reason
        one.clock.ahead = 601.0
        assert await one.route.check_ready(ONE) is None


async def test_children_come_online_in_few_requests_and_go_offline_when_they_close() -> None:
    async with home() as one:
        sessions = await asyncio.gather(*(one.online(name) for name in CHILDREN))
        assert [len(items) for _, items in one.uplink.asked] == [100, 20]
        assert set(one.uplink.reported) == {
            (device_id(n), SubDeviceStatus.ONLINE) for n in CHILDREN
        }
        await asyncio.gather(*(session.close() for session in sessions))
        await sessions[0].close()
        assert (await sessions[0].wait_closed()).reason.code == "closed"
        assert one.uplink.reported[120:] == [
            (device_id(n), SubDeviceStatus.OFFLINE) for n in CHILDREN
        ]


async def test_each_child_of_a_report_has_its_own_outcome() -> None:
    async with home(STATUS=failing(SubDeviceEvent.STATUS, "IOTDA.021101", CHILDREN[1])) as one:
        results = await asyncio.gather(
            *(one.online(name) for name in CHILDREN[:3]), return_exceptions=True
        )
        assert [isinstance(result, LoginFailed) for result in results] == [False, True, False]
        not_ready = await one.route.check_ready(CHILDREN[1])
        assert not_ready is not None
        assert not_ready.code == "cloud-throttled"


@pytest.mark.parametrize("kept", [b"", b"0" * 32, b"[]", b'{"device_id": 7}', b"{" + b" " * 2000])
async def test_what_is_no_document_is_refused(kept: bytes) -> None:
    async with home() as one:
        with pytest.raises(LoginRefused):
            await one.route.connect(ONE, Secret(kept))


@pytest.mark.parametrize("code", ["IOTDA.021104", "IOTDA.014000"])
async def test_a_child_that_the_platform_does_not_know_was_removed(code: str) -> None:
    async with home(STATUS=failing(SubDeviceEvent.STATUS, code)) as one:
        await one.secret(ONE)
        with pytest.raises(LoginRemoved):
            await one.online(ONE)
        await one.secret(ONE)
        assert one.uplink.count()[SubDeviceEvent.ADD] == 2


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (down, "gateway-link-lost"),
        (silent, "cloud-no-answer"),
        (lambda _: Response(SubDeviceEvent.STATUS, "", (), ()), "cloud-bad-answer"),
    ],
)
async def test_a_report_without_an_answer_has_failed(answer: Answer, code: str) -> None:
    async with home(STATUS=answer) as one:
        with pytest.raises(LoginFailed) as raised:
            await one.online(ONE)
        assert raised.value.reason.code == code


async def test_a_cancelled_login_is_undone() -> None:
    going = asyncio.Event()
    async with home(STATUS=when(going, SubDeviceEvent.STATUS)) as one:
        opening = asyncio.create_task(one.online(ONE))
        await until(lambda: bool(one.uplink.asked))
        assert await cancel(cast("asyncio.Task[object]", opening))
        going.set()
        await until(lambda: (device_id(ONE), SubDeviceStatus.OFFLINE) in one.uplink.reported)


async def test_a_child_is_deleted_by_the_id_it_has() -> None:
    async with home() as one:
        await one.route.connect(ONE, sub_device.encode("its-own-id"))
        assert await one.route.unbind(ONE) is None
        assert one.uplink.asked[-1] == (SubDeviceEvent.DELETE, ["its-own-id"])


async def test_an_unknown_child_is_deleted_by_the_id_the_platform_would_choose() -> None:
    async with home() as one:
        assert await one.route.unbind(ONE) is None
        assert one.uplink.asked[-1] == (SubDeviceEvent.DELETE, [device_id(ONE)])


@pytest.mark.parametrize("code", ["IOTDA.021104", "IOTDA.014000"])
async def test_what_is_not_there_is_forgotten(code: str) -> None:
    async with home(DELETE=failing(SubDeviceEvent.DELETE, code)) as one:
        assert await one.route.unbind(ONE) is None


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (failing(SubDeviceEvent.DELETE, "IOTDA.021101"), "cloud-throttled"),
        (silent, "cloud-no-answer"),
        (lambda _: Response(SubDeviceEvent.DELETE, "", (), ()), "cloud-bad-answer"),
    ],
)
async def test_why_a_child_was_not_forgotten(answer: Answer, code: str) -> None:
    async with home(DELETE=answer) as one:
        session = await one.online(ONE)
        reason = await one.route.unbind(ONE)
        assert reason is not None
        assert reason.code == code
        assert one.children.sessions.online.sessions() == (session,)


async def test_that_we_delete_a_child_does_not_remove_it() -> None:
    async with home() as one:
        session = await one.online(ONE)

        def told_too(items: Sequence[Any]) -> Response:
            one.uplink.on_notice(deleted(ONE, version=9))
            return done(SubDeviceEvent.DELETE, items)

        one.uplink.answers[SubDeviceEvent.DELETE] = told_too
        assert await one.route.unbind(ONE) is None
        ended = await session.wait_closed()
        assert (ended.reason.code, ended.removed) == ("forgotten", False)
        one.uplink.on_notice(deleted(ONE, version=9))
        assert one.uplink.count()[SubDeviceEvent.STATUS] == 1
        await one.online(ONE)


@pytest.mark.parametrize("code", ["IOTDA.021104", "IOTDA.099999"])
async def test_the_platform_deletes_a_child_that_is_online(code: str) -> None:
    async with home() as one:
        session = await one.online(ONE)
        one.uplink.answers[SubDeviceEvent.STATUS] = failing(SubDeviceEvent.STATUS, code)
        one.uplink.on_notice(deleted(ONE, version=9))
        one.uplink.on_notice(deleted(ONE, version=9))
        assert (await session.wait_closed()).removed
        assert one.uplink.count()[SubDeviceEvent.STATUS] == 2


@pytest.mark.parametrize(
    "answer",
    [
        failing(SubDeviceEvent.STATUS, "IOTDA.021101"),
        silent,
        lambda _: Response(SubDeviceEvent.STATUS, "", (), ()),
        lambda items: done(SubDeviceEvent.STATUS, items),
    ],
)
async def test_a_child_that_the_platform_may_still_have_stays_online(answer: Answer) -> None:
    async with home() as one:
        session = await one.online(ONE)
        one.uplink.answers[SubDeviceEvent.STATUS] = answer
        one.uplink.on_notice(deleted(ONE, version=9))
        await until(lambda: one.uplink.count()[SubDeviceEvent.STATUS] == 2)
        await until(lambda: not one.children.sessions._checks)
        assert one.children.sessions.online.sessions() == (session,)


async def test_a_child_that_closes_while_it_is_looked_at_is_offline_in_the_end() -> None:
    going = asyncio.Event()
    async with home() as one:
        session = await one.online(ONE)
        one.uplink.answers[SubDeviceEvent.STATUS] = when(going, SubDeviceEvent.STATUS)
        one.uplink.on_notice(deleted(ONE, version=9))
        await until(lambda: one.uplink.count()[SubDeviceEvent.STATUS] == 2)
        closing = asyncio.create_task(session.close())
        await until(lambda: one.uplink.count()[SubDeviceEvent.STATUS] == 3)
        going.set()
        await closing
        await until(lambda: one.uplink.count()[SubDeviceEvent.STATUS] == 4)
        assert one.uplink.reported[-1] == (device_id(ONE), SubDeviceStatus.OFFLINE)


async def test_the_platform_deletes_a_child_that_is_away() -> None:
    async with home() as one:
        for name in (ONE, CHILDREN[1]):
            await (await one.online(name)).close()
        one.uplink.on_notice(deleted(ONE, CHILDREN[1], version=9))
        one.uplink.on_notice(added(info(CHILDREN[1]), version=9))
        one.uplink.answers[SubDeviceEvent.STATUS] = failing(SubDeviceEvent.STATUS, "IOTDA.099999")
        with pytest.raises(LoginRemoved):
            await one.online(ONE)
        for name in CHILDREN[1:3]:  # one was added again, and of the other nothing was reported
            with pytest.raises(LoginFailed):
                await one.online(name)


@pytest.mark.parametrize(("kept_at", "error"), [
    ("other.example.com", LoginFailed), ("IOT.example.com", LoginRemoved), ("", LoginRemoved),
])  # fmt: skip
async def test_a_newly_configured_instance_has_removed_no_child(
    kept_at: str, error: type[Exception]
) -> None:
    """Else one wrong host would retire all children."""
    async with home(STATUS=failing(SubDeviceEvent.STATUS, "IOTDA.014000")) as one:
        with pytest.raises(error):
            await one.route.connect(ONE, sub_device.encode(device_id(ONE), kept_at))


async def test_the_instance_is_kept_with_the_device_id() -> None:
    async with home() as one:
        secret = await one.secret(ONE)
        assert not sub_device.is_of_other_instance(secret, "iot.example.com")
        assert sub_device.is_of_other_instance(secret, "other.example.com")


async def test_a_device_id_of_another_child_is_no_answer() -> None:
    def answer(items: Sequence[Any]) -> Response:
        one_for_all = tuple(SubDeviceInfo("same-id", item["node_id"], PRODUCT) for item in items)
        return Response(SubDeviceEvent.ADD, "", one_for_all, ())

    async with home(ADD=answer) as one:
        assert sub_device.decode(await one.secret(ONE)) == "same-id"
        outcome = await refused(one, CHILDREN[1])
        assert isinstance(outcome, Unknown)
        assert outcome.reason.code == "cloud-bad-answer"
        assert sub_device.decode(await one.secret(ONE)) == "same-id"


async def test_a_child_created_again_is_not_lost_with_its_old_device_id() -> None:
    async with home() as one:
        old, new = info(ONE), SubDeviceInfo("new-id", ONE.device, PRODUCT, GATEWAY)
        one.uplink.on_notice(added(old))
        one.uplink.on_notice(added(new))
        one.uplink.on_notice(deleted(ONE))
        assert one.children.cache.find(NodeName(PRODUCT, ONE.device)) == new
        assert sub_device.decode(await one.secret(ONE)) == "new-id"
        assert not one.uplink.asked


async def test_children_that_come_and_go_for_ever_leave_room_for_others() -> None:
    limit = device_cache.DELETED + 10
    children = [CloudName("cloud", PRODUCT, f"x-{number}") for number in range(limit)]
    async with home() as one:
        for name in children:
            one.uplink.on_notice(added(info(name)))
            one.uplink.on_notice(deleted(name))
        assert not one.children.cache.was_deleted(device_id(children[9]))
        assert one.children.cache.was_deleted(device_id(children[10]))
        one.uplink.on_notice(added(info(ONE)))
        assert one.children.cache.find(NodeName(PRODUCT, ONE.device)) is not None


async def test_a_platform_that_has_lost_count_is_believed_over_the_next_link() -> None:
    """As after a new creation of the gateway: its list of children begins at 1 again."""
    async with home() as one:
        one.uplink.on_notice(added(info(CHILDREN[1]), version=9))
        one.put(FakeUplink())
        one.uplink.on_notice(added(info(ONE), version=1))
        assert one.children.cache.find(NodeName(PRODUCT, ONE.device)) is not None
        one.put(FakeUplink())
        await until(lambda: one.uplink.synced == [1])


async def test_an_absurd_version_does_not_hide_the_children_that_are_asked_for() -> None:
    async with home(ADD=failing(SubDeviceEvent.ADD, EXISTS)) as one:
        one.uplink.on_notice(added(info(CHILDREN[1]), version=1 << 62))
        one.uplink.on_sync = [added(info(ONE), version=4)]
        assert sub_device.decode(await one.secret(ONE)) == device_id(ONE)


async def test_children_are_reported_again_over_a_link_that_takes_the_place_of_another() -> None:
    async with home() as one:
        sessions = [await one.online(name) for name in CHILDREN[:3]]
        older = one.uplink
        with one.children.handover():
            one.put(
                FakeUplink(
                    {
                        SubDeviceEvent.STATUS: failing(
                            SubDeviceEvent.STATUS, NOT_A_CHILD, CHILDREN[2]
                        )
                    }
                )
            )
        assert (await sessions[2].wait_closed()).removed
        assert {name for name, _ in one.uplink.reported} == {*map(device_id, CHILDREN[:3])}
        assert one.children.sessions.online.sessions() == tuple(sessions[:2])
        assert one.uplink.synced == [0]
        older.closed.set_result(ConnectionEnd.CLOUD)


async def test_a_notice_of_an_older_version_is_ignored() -> None:
    async with home() as one:
        await one.online(ONE)
        one.uplink.on_notice(added(info(CHILDREN[1]), version=9))
        one.uplink.on_notice(deleted(ONE, version=8))
        assert not one.children.sessions._checks
        one.uplink.on_notice(deleted(ONE, version=9))  # a version may need several notices
        assert one.children.sessions._checks


async def test_a_new_link_asks_for_what_has_changed() -> None:
    async with home() as one:
        await until(lambda: one.uplink.synced == [0])
        one.uplink.on_notice(added(info(ONE), version=7))
        one.uplink.closed.set_result(ConnectionEnd.LOST)
        one.put(FakeUplink())
        await until(lambda: one.uplink.synced == [7])


async def test_a_new_link_calls_the_children_back() -> None:
    async with home() as one:
        sessions = [await one.online(name) for name in CHILDREN[:3]]
        one.uplink.closed.set_result(ConnectionEnd.LOST)
        for session in sessions:
            assert (await session.wait_closed()).reason.code == "gateway-link-lost"
        one.put(FakeUplink())
        await until(lambda: set(one.wishes.again) == set(CHILDREN[:3]))


async def test_a_child_created_at_the_platform_asks_for_approval() -> None:
    strange = [
        info(CHILDREN[1]),
        info(CHILDREN[2], SubDeviceStatus.OFFLINE),  # it was online before: of an earlier run
        info(CHILDREN[3], parent="another"),
        SubDeviceInfo(device_id(CHILDREN[4]), CHILDREN[4].device),  # its product is in its id
        SubDeviceInfo("no-product", "n-9"),
        SubDeviceInfo("other_n-7", "n-7", "other"),
    ]
    async with home() as one:
        one.uplink.on_notice(added(*strange))
        one.uplink.on_notice(added(*strange))
        assert one.wishes.names == [CHILDREN[1], CHILDREN[4]]


async def test_a_child_that_we_add_is_not_wanted() -> None:
    async with home() as one:

        def told_first(items: Sequence[Any]) -> Response:
            one.uplink.on_notice(added(info(ONE), version=3))
            return done(SubDeviceEvent.ADD, items)

        one.uplink.answers[SubDeviceEvent.ADD] = told_first
        await one.secret(ONE)
        one.uplink.on_notice(added(info(ONE), version=3))
        assert not one.wishes.names


async def test_children_that_are_online_there_alone_are_reported_offline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(downlink, "GRACE", 0.3)
    everybody = [info(name, SubDeviceStatus.ONLINE) for name in CHILDREN]
    async with home(on_sync=[added(*everybody, info(ONE, SubDeviceStatus.OFFLINE))]) as one:
        here = CHILDREN[1:3]
        for name in here:
            await one.online(name)
        expected = {(device_id(name), SubDeviceStatus.OFFLINE) for name in CHILDREN[3:]}
        await until(lambda: len(one.uplink.reported) >= len(expected) + 2)
        assert set(one.uplink.reported[2:]) == expected
        await until(lambda: not set(one.children.cache.online()) - set(map(device_id, here)))


async def test_a_child_that_went_offline_by_itself_has_no_stale_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with home() as one:
        sessions = [await one.online(name) for name in CHILDREN[:2]]
        await sessions[0].close()
        one.uplink.closed.set_result(ConnectionEnd.LOST)
        await until(lambda: one.children._link.current is None)
        monkeypatch.setattr(downlink, "GRACE", 0.1)
        one.put(FakeUplink())
        await until(lambda: bool(one.uplink.reported))
        assert one.uplink.reported == [(device_id(CHILDREN[1]), SubDeviceStatus.OFFLINE)]


async def test_a_gateway_that_leaves_reports_its_children_offline() -> None:
    async with home() as one:
        sessions = await asyncio.gather(*(one.online(name) for name in CHILDREN[:3]))
        closing = [asyncio.create_task(session.close()) for session in sessions]
        await one.leave()
        await asyncio.gather(*closing)
        offline = one.uplink.reported[3:]
        assert sorted(offline) == [
            (device_id(name), SubDeviceStatus.OFFLINE) for name in CHILDREN[:3]
        ]


async def test_a_login_under_way_when_the_gateway_leaves_is_undone() -> None:
    going = asyncio.Event()
    async with home(STATUS=when(going, SubDeviceEvent.STATUS)) as one:
        opening = asyncio.create_task(one.online(ONE))
        await until(lambda: bool(one.uplink.asked))
        leaving = asyncio.create_task(one.leave())
        await asyncio.sleep(0)
        going.set()
        with pytest.raises(LoginFailed):
            await opening
        await leaving
        assert one.uplink.reported == [
            (device_id(ONE), SubDeviceStatus.ONLINE),
            (device_id(ONE), SubDeviceStatus.OFFLINE),
        ]


async def test_leaving_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatewayd.cloud.huawei.sub_device.PATIENCE", 0.1)
    async with home() as one:
        await one.online(ONE)
        one.uplink.answers[SubDeviceEvent.STATUS] = hang
        await one.leave()
        assert one.uplink.reported[-1] == (device_id(ONE), SubDeviceStatus.OFFLINE)


async def test_children_that_lost_the_gateway_are_called_back() -> None:
    async with home() as one:
        await one.online(ONE)
        await one.leave()
        one.uplink.closed.set_result(ConnectionEnd.OURS)
        await until(lambda: not one.children.sessions.online.sessions())
        one.put(FakeUplink())
        await until(lambda: one.wishes.again == [ONE])


async def test_without_a_gateway_children_wait_with_a_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gatewayd.cloud.sub_devices.link_monitor.PATIENCE", 0.05)
    async with home() as one:
        one.uplink.closed.set_result(ConnectionEnd.LOST)
        await until(lambda: one.children._link.current is None)
        with pytest.raises(LoginFailed) as raised:
            await one.online(ONE)
        assert "gateway-cloud" in raised.value.reason.remedy
        assert (await one.route.unbind(ONE)) == raised.value.reason
        one.put(FakeUplink())
        await until(lambda: one.wishes.again == [ONE])


def test_a_name_keeps_its_parts() -> None:
    assert info(ONE).name == NodeName(PRODUCT, ONE.device)
