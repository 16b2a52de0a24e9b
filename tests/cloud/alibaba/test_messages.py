"""What children say, by every route: what is at the cloud then, and what goes wrong."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from gatewayd.cloud.provider import (
    LoginError,
    MessageAccepted,
    MessageDelayed,
    MessageRefused,
    Publication,
)
from gatewayd.device.message import Message
from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.simulator.alibaba.rules import AlibabaRules
from gatewayd.testing.contracts.messages import SpeakingSession, first_copies
from tests.cloud.alibaba import direct, site
from tests.cloud.alibaba.site import SENSORS, Site, at_cloud, child
from tests.cloud.alibaba.speaking import (
    AT,
    BATCH,
    HISTORY,
    PACK,
    POST,
    RULES,
    TSL,
    as_gateway,
    behind_the_gateway,
    by_route,
    directly,
    log_in,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return site.furnish(tmp_path)


@pytest.fixture
def direct_folder(tmp_path: Path) -> Path:
    return direct.furnish(tmp_path)


def reading(number: int, *, late: bool = False, confirmed: bool = False) -> Message:
    return Message("properties", b'{"Number": %d}' % number, AT + number, late, confirmed)


def event(temperature: float, *, late: bool = False, confirmed: bool = False) -> Message:
    return Message("events/Hot", b'{"Temperature": %g}' % temperature, AT, late, confirmed)


def methods(reports: Iterable[dict[str, Any]]) -> list[str]:
    return [one["method"] for one in reports]


ACCEPTED = MessageAccepted()


async def test_values_and_times_of_a_direct_child(direct_folder: Path) -> None:
    async with directly(direct_folder) as stage:
        own = Message("properties", b'{"Light": true, "time": 1764444000000}', AT)
        timeless = Message("properties", b'{"Number": 3}', 0)
        live = [own, timeless, event(80.5), reading(1, confirmed=True)]
        late = [reading(2, late=True), event(81.5, late=True)]
        assert await stage.say(*live, *late) == [ACCEPTED] * 6
        found = stage.reports()
        assert methods(found) == [POST, POST, "thing.event.Hot.post", POST, HISTORY, HISTORY]
        assert [one["values"] for one in found] == [
            {"Light": 1}, {"Number": 3}, {"Temperature": 80.5}, {"Number": 1}, {"Number": 2},
            {"Temperature": 81.5},
        ]  # fmt: skip
        times = [one["times"] for one in found]
        assert times[0] == {"Light": 1_764_444_000_000}
        assert times[1]["Number"] > AT  # that of the cloud
        assert times[2:] == [{"Hot": AT}, {"Number": AT + 1}, {"Number": AT + 2}, {"Hot": AT}]
        assert stage.ledger["discarded"] == {}


async def test_values_and_times_of_a_sub_device(folder: Path) -> None:
    async with behind_the_gateway(folder) as stage:
        given = [reading(1), event(80.5), reading(2, late=True), event(81.5, late=True)]
        assert await stage.say(*given, Message("properties", b'{"Number": 3}', 0)) == [ACCEPTED] * 5
        found = stage.reports()
        assert methods(found) == [PACK, PACK, HISTORY, HISTORY, PACK]
        assert [one["times"] for one in found[:4]] == [
            {"Number": AT + 1}, {"Hot": AT}, {"Number": AT + 2}, {"Hot": AT},
        ]  # fmt: skip
        assert stage.ledger["discarded"] == {}


@pytest.mark.parametrize("payload", [b"\xff\x00\x80", b"", b"NaN", "Grüße".encode()])
async def test_what_the_vendor_names_arrives_unchanged(folder: Path, payload: bytes) -> None:
    async with behind_the_gateway(folder) as stage:
        alink = {"id": "9", "version": "1.0", "method": POST, "params": {"Number": 9}}
        given = [
            Message("user/update", payload, AT),
            Message("thing/model/up_raw", payload, AT),
            Message("thing/event/property/post", json.dumps(alink).encode(), AT),
        ]
        assert await stage.say(*given) == [ACCEPTED] * 3
        custom, raw, post = stage.reports()
        assert (custom["method"], raw["method"]) == ("user/update", "thing.model.up_raw")
        assert [base64.b64decode(one["payload"]) for one in (custom, raw)] == [payload] * 2
        assert (post["method"], post["values"]) == (POST, {"Number": 9})


def own_request(number: int, params: object, *, confirmed: bool = True) -> Message:
    """A report in the vendor's own form, with its own id."""
    body = {"id": str(number), "version": "1.0", "params": params, "method": POST}
    return Message("thing/event/property/post", json.dumps(body).encode(), AT, confirmed=confirmed)


@pytest.mark.parametrize("route", ["direct", "sub-device"])
async def test_the_reply_to_a_request_of_the_childs_own_counts(tmp_path: Path, route: str) -> None:
    async with by_route(route, tmp_path) as stage:
        one, bad, two = await stage.say(
            own_request(7, {"Number": 1}), own_request(7, [1]), own_request(8, {"Number": 2})
        )
        assert (one, two) == (ACCEPTED, ACCEPTED)
        assert isinstance(bad, MessageRefused)
        assert bad.reason.code == "cloud-report-refused"
        assert stage.arrived() == [1, 2]


async def test_where_the_gateway_may_not_subscribe_the_puback_counts(folder: Path) -> None:
    """30527: a gateway has a hundred subscriptions, of which it needs some itself."""
    async with behind_the_gateway(folder, rules=replace(RULES, subscriptions=11)) as stage:
        assert await stage.say(own_request(7, {"Number": 1})) == [ACCEPTED]
        assert await stage.say(own_request(7, [1])) == [ACCEPTED]
        assert stage.arrived() == [1]


@pytest.mark.parametrize("route", ["direct", "sub-device"])
async def test_each_message_leaves_behind_the_one_before_whatever_its_kind(
    tmp_path: Path, route: str
) -> None:
    async with by_route(route, tmp_path) as stage:
        kinds: list[Callable[[int], Message]] = [
            reading,
            lambda n: reading(n, late=True),
            lambda n: Message("user/x", b"%d" % n, AT),
            lambda n: reading(n, confirmed=True),
        ]
        given = [kinds[(n // 2) % 4](n) for n in range(24)]
        assert await stage.say(*given) == [ACCEPTED] * 24
        numbers = [
            one["values"]["Number"] if one["values"] else int(base64.b64decode(one["payload"]))
            for one in stage.reports()
        ]
        assert numbers == list(range(24))


@pytest.mark.parametrize("route", ["direct", "sub-device"])
async def test_nothing_is_lost_to_the_clouds_limit(tmp_path: Path, route: str) -> None:
    """30527: what is over it is acknowledged, and discarded."""
    async with by_route(route, tmp_path) as stage:
        given = [Message("user/x", b"%d" % n, AT) for n in range(35)]
        assert await stage.say(*given) == [ACCEPTED] * 35
        assert [base64.b64decode(one["payload"]) for one in stage.reports()] == [
            one.payload for one in given
        ]
        assert stage.ledger["discarded"] == {}


async def test_what_is_late_goes_together(direct_folder: Path) -> None:
    """A day of values takes minutes, not hours."""
    async with directly(direct_folder) as stage:
        given = [reading(n, late=True) for n in range(300)]
        assert await stage.say(*given) == [ACCEPTED] * 300
        assert stage.arrived() == list(range(300))
        assert stage.ledger["published"] <= 10


@pytest.mark.parametrize("confirmed", [False, True])
async def test_what_is_over_the_limit_goes_together(
    direct_folder: Path, *, confirmed: bool
) -> None:
    """A child that says more than the cloud takes in single messages is not held back."""
    async with directly(direct_folder) as stage:
        given = [reading(n, confirmed=confirmed) for n in range(250)]
        assert await stage.say(*given, event(80.5, confirmed=confirmed)) == [ACCEPTED] * 251
        assert stage.arrived() == list(range(250))
        found = stage.reports()
        assert methods(found)[-1] == BATCH
        assert found[-1]["times"] == {"Hot": AT}
        assert stage.ledger["published"] <= 20
        assert stage.ledger["discarded"] == {}


async def test_a_code_ends_a_message_as_the_table_says(direct_folder: Path) -> None:
    async with directly(direct_folder) as stage:
        for code, kind, reason in [
            (460, MessageRefused, "cloud-report-refused"),
            (5160, MessageRefused, "cloud-no-event"),
            (9876, MessageRefused, "cloud-code-unknown"),
            (520, MessageDelayed, "cloud-no-session"),
            (522, MessageDelayed, "cloud-disabled"),
        ]:
            stage.cloud.set_faults(f"reply:{code}@{POST}")
            (outcome,) = await stage.say(reading(1, confirmed=True))
            assert isinstance(outcome, MessageRefused | MessageDelayed)
            assert (type(outcome), outcome.reason.code) == (kind, reason)
            assert str(code) in outcome.reason.text
        stage.cloud.set_faults("")
        assert await stage.say(reading(1, confirmed=True)) == [ACCEPTED]


async def test_what_the_cloud_has_not_kept_is_in_the_log_once(
    direct_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with directly(direct_folder) as stage:
        values = {"Number": 1, "Height": 3, "Light": "on"}
        given = Message("properties", json.dumps(values).encode(), AT, confirmed=True)
        for _ in range(2):
            assert await stage.say(given) == [ACCEPTED]
        assert stage.arrived() == [1, 1]
        (line,) = [one.getMessage() for one in caplog.records if "does not keep" in one.message]
        assert "Height" in line
        assert "Light" in line
        assert "TH20-0001" in line


async def test_without_confirmation_no_reply_is_asked_for(direct_folder: Path) -> None:
    async with directly(direct_folder) as stage:
        stage.cloud.set_faults(f"reply:500@{POST}")
        assert await stage.say(reading(1)) == [ACCEPTED]
        assert stage.arrived() == []


@pytest.mark.parametrize("code", [429, 500])
async def test_a_throttled_message_is_delayed_with_those_behind_it(
    direct_folder: Path, code: int
) -> None:
    async with directly(direct_folder) as stage:
        stage.cloud.set_faults(f"reply:{code}:x1@{BATCH}")
        given = [reading(n, confirmed=True) for n in range(4)] + [reading(4)]
        began = asyncio.get_running_loop().time()
        outcomes = await stage.say(*given)
        assert [type(one) for one in outcomes] == [MessageDelayed] * 5
        assert await stage.say(*given) == [ACCEPTED] * 5
        assert asyncio.get_running_loop().time() - began >= 0.7  # the cloud has time to recover
        assert stage.arrived() == [0, 1, 2, 3, 4]


async def test_a_reply_that_is_lost_delays(direct_folder: Path) -> None:
    async with directly(direct_folder, reply_timeout=1.0) as stage:
        stage.cloud.set_faults(f"lose-reply:x1@{POST}")
        (outcome,) = await stage.say(reading(1, confirmed=True))
        assert isinstance(outcome, MessageDelayed)
        assert outcome.reason.code == "cloud-no-answer"
        assert await stage.say(reading(1, confirmed=True)) == [ACCEPTED]
        assert stage.arrived() == [1, 1]


async def several(one: Site, count: int) -> list[SpeakingSession]:
    one.cloud.set_model(SENSORS, TSL)
    return cast("list[SpeakingSession]", await one.online(*range(count)))


async def say_all(sessions: Sequence[SpeakingSession], *messages: Message) -> list[Publication]:
    """Every child says all messages."""
    async with asyncio.timeout(60):
        return await asyncio.gather(
            *(session.publish(message) for message in messages for session in sessions)
        )


def numbers_of(one: Site, number: int) -> list[int]:
    found = one.cloud.reports(*at_cloud(child(number)))
    return [cast("dict[str, int]", report["values"])["Number"] for report in found]


async def test_the_reports_of_many_children_go_together(folder: Path) -> None:
    async with site.site(folder, RULES) as one:
        sessions = await several(one, 30)
        before = one.ledger_of_gateway["published"]
        given = [reading(n) for n in range(4)]
        assert await say_all(sessions, *given) == [ACCEPTED] * 120
        assert all(numbers_of(one, number) == [0, 1, 2, 3] for number in range(30))
        assert one.ledger_of_gateway["published"] - before <= 12


async def test_one_that_is_refused_does_not_take_others_with_it(folder: Path) -> None:
    """A pack is all or nothing, so each goes alone then, and the order stays."""
    async with site.site(folder, RULES) as one:
        sessions = await several(one, 5)
        bad = at_cloud(child(2))[1]
        one.cloud.set_faults(f"reply:460@{PACK}/{bad}")
        outcomes = await say_all(sessions, reading(0), reading(1))
        refused = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, MessageRefused)]
        assert refused == [2, 7]
        assert outcomes.count(ACCEPTED) == 8
        assert [numbers_of(one, n) for n in range(5)] == [[0, 1], [0, 1], [], [0, 1], [0, 1]]


async def test_a_child_without_a_session_at_the_cloud_logs_in_again(folder: Path) -> None:
    async with site.site(folder, RULES) as one:
        sessions = await several(one, 3)
        one.cloud._messages.sessions.end(at_cloud(child(1)))  # and no notice of it arrives
        outcomes = await say_all(sessions, reading(1))
        assert [type(outcome) for outcome in outcomes] == [
            MessageAccepted, MessageDelayed, MessageAccepted,
        ]  # fmt: skip
        ended = await sessions[1].wait_closed()
        assert ended.reason.code == "cloud-not-in-topology"
        again = await log_in(one.provider, one.cloud, child(1))
        assert await say_all([again], reading(1)) == [ACCEPTED]
        assert numbers_of(one, 1) == [1]


async def test_a_raw_message_without_a_session_at_the_cloud_is_delayed(folder: Path) -> None:
    """The cloud acknowledges it, and says by /ext/error that it was lost."""
    async with site.site(folder, AlibabaRules(child_logins=0, error_data=True)) as one:
        (session,) = await several(one, 1)
        one.cloud._messages.sessions.end(at_cloud(child(0)))
        (outcome,) = await say_all([session], Message("user/x", b"1", AT))
        assert isinstance(outcome, MessageDelayed)
        assert (await session.wait_closed()).by_cloud


async def test_the_gateway_speaks_for_itself_and_not_for_others(folder: Path) -> None:
    async with as_gateway(folder) as stage:
        forged = json.dumps({"subDevices": []}).encode()
        outcomes = await stage.say(
            reading(1),
            reading(2, late=True),
            Message("thing/event/property/pack/post", forged, AT),
            Message("thing/topo/add", b"[]", AT),
        )
        assert outcomes[:2] == [ACCEPTED] * 2
        assert [type(one) for one in outcomes[2:]] == [MessageRefused] * 2
        assert methods(stage.reports()) == [POST, HISTORY]


HANG_UPS = "message-hang-up:20%:x1 puback-hang-up:20%:x1"
REPLIES = "reply:500:x1@{0} lose-reply:x1@{0} reply-hang-up:x1@{0} lose-request:x1@{0}"


async def deliver(
    connect: Callable[[], Awaitable[SpeakingSession]], messages: Sequence[Message], window: int = 8
) -> int:
    """Publish until each is accepted, as the outbox does; return how many sessions it took."""
    sessions = 0
    while messages:
        session, sessions = await connect(), sessions + 1
        ended = asyncio.create_task(session.wait_closed())
        while messages and not ended.done():
            some = messages[:window]
            outcomes = await asyncio.gather(*map(session.publish, some))
            done = next((n for n, one in enumerate(outcomes) if one != ACCEPTED), len(some))
            assert all(isinstance(one, MessageDelayed) for one in outcomes[done:])
            messages = messages[done:]
        await session.close()
        await ended
    return sessions


@pytest.mark.parametrize("kind", ["live", "late", "confirmed"])
async def test_outages_in_mid_flight_lose_nothing_of_a_direct_child(
    direct_folder: Path, kind: str
) -> None:
    async with directly(direct_folder, reply_timeout=1.0) as stage:
        await stage.session.close()
        method = {"live": POST, "late": HISTORY, "confirmed": POST}[kind]
        faults = HANG_UPS if kind == "live" else f"puback-hang-up:x1 {REPLIES.format(method)}"
        stage.cloud.set_faults(faults, seed=7)
        given = [reading(n, late=kind == "late", confirmed=kind == "confirmed") for n in range(25)]
        assert await deliver(stage.log_in, given) > 1
        assert first_copies(stage.arrived()) == list(range(25))


@asynccontextmanager
async def kept_online(one: Site) -> AsyncIterator[None]:
    """Log the gateway in again, whenever its session has ended."""

    async def keep() -> None:
        while True:
            assert one.session is not None
            await one.session.wait_closed()
            with suppress(LoginError):
                await one.log_in()

    keeping = asyncio.create_task(keep())
    try:
        yield
    finally:
        await cancel_and_wait([keeping])


@pytest.mark.parametrize("late", [False, True])
async def test_outages_in_mid_flight_lose_nothing_behind_the_gateway(
    folder: Path, *, late: bool
) -> None:
    async with site.site(folder, RULES, reply_timeout=1.0) as one:
        await several(one, 4)
        replies = REPLIES.format(HISTORY if late else PACK)
        one.cloud.set_faults(f"{HANG_UPS} {replies}", seed=7)

        async def connect(number: int) -> SpeakingSession:
            while True:
                with suppress(LoginError):
                    return await log_in(one.provider, one.cloud, child(number))
                await asyncio.sleep(0.05)

        given = [reading(n, late=late) for n in range(40)]
        async with kept_online(one), asyncio.timeout(60):
            took = await asyncio.gather(*(deliver(partial(connect, n), given) for n in range(4)))
        assert max(took) > 1
        for number in range(4):
            assert first_copies(numbers_of(one, number)) == list(range(40))
        assert one.ledger_of_gateway["faults"]["puback-hang-up"]
