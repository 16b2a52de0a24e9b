"""Sub-devices on the simulated cloud: registered, attached, logged in, and what the cloud does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from gatewayd.cloud.alibaba import sub_device_sessions
from gatewayd.cloud.alibaba.rate_limits import CHILD_LOGINS, EXHAUSTED
from gatewayd.cloud.provider import (
    Failed,
    Issued,
    LoginError,
    LoginFailed,
    LoginRefused,
    LoginRemoved,
    Outcome,
    Refused,
    Session,
    Unknown,
)
from gatewayd.cloud.sub_devices.sessions import SubDeviceSession
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.simulator.alibaba.notices import ChildStatus
from gatewayd.simulator.alibaba.rules import AlibabaRules
from gatewayd.testing.contracts.cloud import RecordingKeeper, check_reason
from gatewayd.testing.waiting import until
from tests.cloud.alibaba.site import (
    CHILDREN,
    GATEWAY,
    SENSORS,
    Site,
    at_cloud,
    child,
    furnish,
    site,
)

ROUTES = ("sub-device", "sub-device-secret")
MANY = range(CHILDREN)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return furnish(tmp_path)


async def ended(session: Session) -> tuple[str, bool]:
    """Wait until a session has ended; return the reason's code, and whether it was removed."""
    async with asyncio.timeout(30):
        result = await session.wait_closed()
    check_reason(result.reason)
    return result.reason.code, result.removed


def is_open(session: Session) -> bool:
    assert isinstance(session, SubDeviceSession)
    return not session._ended.done()


async def refused(one: Site, name: CloudName, secret: Secret) -> LoginError:
    with pytest.raises(LoginError) as raised:
        await one.connect(name, secret)
    check_reason(raised.value.reason)
    return raised.value


def known(folder: Path, name: CloudName, secret: Secret) -> None:
    """Let an operator hand a child's secret in."""
    file = folder / "devices" / name.device
    file.touch(mode=0o600)
    file.write_bytes(secret.reveal())


@pytest.mark.parametrize("method", ["hmacmd5", "hmacsha1", "hmacsha256"])
@pytest.mark.parametrize("route", ROUTES)
async def test_a_child_is_registered_attached_and_logged_in(
    folder: Path, route: str, method: str
) -> None:
    async with site(folder, sign_method=method) as one:
        name = child(0, route)
        secret = await one.secret(name)
        assert secret.reveal().decode() == one.cloud.secret(*at_cloud(name))
        session = await one.connect(name, secret)
        assert one.cloud.online == {GATEWAY, at_cloud(name)}
        assert one.ledger["children"] == [list(at_cloud(name))]
        await session.close()
        assert await ended(session) == ("closed", False)
        assert one.cloud.online == {GATEWAY}


async def test_many_children_need_few_requests(folder: Path) -> None:
    async with site(folder) as one:
        await one.online(*MANY)
        assert len(one.cloud.online) == CHILDREN + 1
        assert one.calls("thing.sub.register") < CHILDREN / 4
        assert one.calls("thing.topo.get") == 1
        assert one.calls("thing.topo.add") < CHILDREN / 4
        assert one.calls("combine.batch_login") + one.calls("combine.login") < CHILDREN / 4


async def test_each_gets_its_own_secret(folder: Path) -> None:
    async with site(folder) as one:
        secrets = await asyncio.gather(*(one.secret(child(number)) for number in MANY))
        for number, secret in zip(MANY, secrets, strict=True):
            assert secret.reveal().decode() == one.cloud.secret(*at_cloud(child(number)))


@pytest.mark.parametrize(
    ("fault", "expected", "code"),
    [
        ("reply:460", Refused, "cloud-request-refused"),
        ("reply:500", Failed, "cloud-error"),
        ("reply:429", Failed, "cloud-throttled"),
        ("reply:5005", Refused, "cloud-no-product"),
        ("reply:6100", Refused, "cloud-no-device"),
        ("reply:6288", Refused, "cloud-registration-off"),
        ("reply:6289", Refused, "cloud-already-activated"),
        ("reply:6619", Refused, "cloud-other-gateway"),
        ("reply:9876", Failed, "cloud-code-unknown"),
        ("lose-request", Unknown, "cloud-no-answer"),
        ("lose-reply", Unknown, "cloud-no-answer"),
        ("reply-garbled", Unknown, "cloud-no-answer"),
        ("reply-hang-up", Unknown, "gateway-link-lost"),
    ],
)
@pytest.mark.parametrize("route", ROUTES)
async def test_a_registration_that_fails(
    folder: Path, route: str, fault: str, expected: type[Outcome], code: str
) -> None:
    async with site(folder, reply_timeout=0.5) as one:
        one.cloud.set_faults(
            f"{fault}@thing.sub.register {fault}@thing.proxy.provisioning.product_register"
        )
        outcome, kept = await one.register(child(0, route))
        assert isinstance(outcome, expected)
        assert not isinstance(outcome, Issued)
        check_reason(outcome.reason)
        assert outcome.reason.code == code
        assert not kept.secrets


@pytest.mark.parametrize("fault", ["reply-twice", "reply-late:0.1", "reply-mixed"])
async def test_a_registration_that_succeeds_all_the_same(folder: Path, fault: str) -> None:
    async with site(folder) as one:
        one.cloud.set_faults(f"{fault}@*")
        await one.online(0)
        assert at_cloud(child(0)) in one.cloud.online


@pytest.mark.parametrize("route", ROUTES)
async def test_one_that_is_not_created_does_not_hold_up_the_others(
    folder: Path, route: str
) -> None:
    stranger = replace(child(0, route), device="STRANGER")
    async with site(folder) as one:
        names = [child(0, route), stranger, child(1, route)]
        result = await asyncio.gather(*(one.register(name) for name in names))
        assert [outcome for outcome, _ in result[::2]] == [Issued(), Issued()]
        outcome = result[1][0]
        assert isinstance(outcome, Refused)
        assert outcome.reason.code == "cloud-no-device"


async def test_one_that_a_reply_leaves_out_is_asked_for_alone(folder: Path) -> None:
    async with site(folder) as one:
        one.cloud.set_faults("partial:6100:x1@thing.sub.register/SEN-0001")
        (first, _), (second, kept) = await asyncio.gather(
            one.register(child(0)), one.register(child(1))
        )
        assert first == second == Issued()
        assert kept.secrets[0].reveal().decode() == one.cloud.secret(*at_cloud(child(1)))


async def test_one_that_is_never_in_a_reply_may_have_been_issued(folder: Path) -> None:
    async with site(folder) as one:
        one.cloud.set_faults("partial:6100@thing.sub.register/SEN-0001")
        (first, _), (second, kept) = await asyncio.gather(
            one.register(child(0)), one.register(child(1))
        )
        assert first == Issued()
        assert isinstance(second, Unknown)
        assert second.reason.code == "cloud-bad-secret"
        assert not kept.secrets


async def test_dynamic_registration_that_is_off(folder: Path) -> None:
    async with site(folder) as one:
        one.cloud.set_dynreg(SENSORS, on=False)
        outcome, _ = await one.register(child(0))
        assert isinstance(outcome, Refused)
        assert outcome.reason.code == "cloud-registration-off"


async def test_a_product_secret_that_cannot_be_read(folder: Path) -> None:
    async with site(folder) as one:
        (folder / SENSORS).chmod(0o644)
        outcome, _ = await one.register(child(0, "sub-device-secret"))
        assert isinstance(outcome, Refused)
        assert outcome.reason.code == "product-secret-unusable"


async def test_a_known_secret_is_kept_without_asking_the_cloud(folder: Path) -> None:
    async with site(folder) as one:
        secret = await one.secret(child(0))
        name = child(0, "sub-device-known")
        known(folder, name, secret)
        assert await one.provider.check_ready(name) is None
        before = one.calls("thing.sub.register")
        outcome, kept = await one.register(name)
        assert (outcome, kept.secrets) == (Issued(), [secret])
        assert one.calls("thing.sub.register") == before
        await one.connect(name, kept.secrets[0])
        assert at_cloud(name) in one.cloud.online


async def test_a_known_secret_that_is_not_there(folder: Path) -> None:
    async with site(folder) as one:
        outcome, kept = await one.register(child(0, "sub-device-known"))
        assert isinstance(outcome, Refused)
        assert outcome.reason.code == "device-secret-unusable"
        assert "SEN-0000" in outcome.reason.text
        assert not kept.secrets


async def test_one_in_the_topology_is_not_added_again(folder: Path) -> None:
    async with site(folder) as one:
        (session,) = await one.online(0)
        assert one.calls("thing.topo.add") == 1
        await session.close()
        await one.connect(child(0), Secret(str(one.cloud.secret(*at_cloud(child(0)))).encode()))
        assert one.calls("thing.topo.add") == 1


async def test_one_that_left_the_topology_unnoticed_is_added_again(folder: Path) -> None:
    async with site(folder) as one:
        secret = await one.secret(child(0))
        await (await one.connect(child(0), secret)).close()
        one.cloud._messages.topology.detach(at_cloud(child(0)))
        await one.connect(child(0), secret)
        assert one.ledger["calls"]["combine.login"]["6401"] == 1
        assert at_cloud(child(0)) in one.cloud.online


async def test_a_wrong_secret_is_refused(folder: Path) -> None:
    async with site(folder) as one:
        secret = await one.secret(child(0))
        assert isinstance(await refused(one, child(0), Secret(b"0" * 32)), LoginRefused)
        await (await one.connect(child(0), secret)).close()
        assert isinstance(await refused(one, child(0), Secret(b"0" * 32)), LoginRefused)


@pytest.mark.parametrize(
    ("code", "expected", "result"),
    [
        (428, LoginFailed, "cloud-too-many-online"),
        (429, LoginFailed, "cloud-throttled"),
        (427, LoginFailed, "cloud-session-elsewhere"),
        (460, LoginFailed, "cloud-request-refused"),
        (500, LoginFailed, "cloud-error"),
        (521, LoginRemoved, "cloud-removed"),
        (522, LoginFailed, "cloud-disabled"),
        (527, LoginFailed, "cloud-session-elsewhere"),
        (6100, LoginRemoved, "cloud-removed"),
        (6204, LoginFailed, "cloud-disabled"),
        (6287, LoginRefused, "cloud-auth-failed"),
        (6401, LoginFailed, "cloud-not-in-topology"),
        (9876, LoginFailed, "cloud-code-unknown"),
    ],
)
async def test_a_login_that_is_denied(
    folder: Path, code: int, expected: type[LoginError], result: str
) -> None:
    async with site(folder) as one:
        secret = await one.secret(child(0))
        one.cloud.set_faults(f"reply:{code}@combine.login")
        error = await refused(one, child(0), secret)
        assert type(error) is expected
        assert error.reason.code == result


async def test_a_child_that_was_never_created_is_not_taken_for_removed(folder: Path) -> None:
    stranger = replace(child(0, "sub-device-known"), device="STRANGER")
    async with site(folder) as one:
        error = await refused(one, stranger, Secret(b"0" * 32))
        assert type(error) is LoginFailed
        assert error.reason.code == "cloud-no-device"


@pytest.mark.parametrize("code", [427, 9876])
async def test_after_some_answers_the_cloud_is_not_asked_for_a_while(
    folder: Path, code: int
) -> None:
    async with site(folder) as one:
        secret = await one.secret(child(0))
        one.cloud.set_faults(f"reply:{code}:x1@combine.login")
        first = await refused(one, child(0), secret)
        logins = one.calls("combine.login")
        assert (await refused(one, child(0), secret)).reason == first.reason
        assert one.calls("combine.login") == logins
        assert await one.provider.check_ready(child(0)) == first.reason
        one.clock.ahead += 600.0
        await one.connect(child(0), secret)


async def test_the_limit_of_logins_does_not_hide_why(folder: Path) -> None:
    """The cloud takes five logins of a sub-device in a minute ("Limits", document_detail/30527)."""
    async with site(folder) as one:
        secret = await one.secret(child(0))
        one.cloud.set_faults("reply:500@combine.login")
        for _ in range(CHILD_LOGINS):
            known = (await refused(one, child(0), secret)).reason
        asked = one.calls("combine.login")
        waiting = (await refused(one, child(0), secret)).reason
        assert (waiting.code, one.calls("combine.login")) == (known.code, asked)
        assert EXHAUSTED in waiting.text


async def test_one_bad_child_does_not_keep_a_batch_from_logging_in(folder: Path) -> None:
    async with site(folder) as one:
        secrets = [await one.secret(child(number)) for number in range(3)]
        for number in range(3):
            await (await one.connect(child(number), secrets[number])).close()
        result = await asyncio.gather(
            one.connect(child(0), secrets[0]),
            refused(one, child(1), Secret(b"0" * 32)),
            one.connect(child(2), secrets[2]),
        )
        assert isinstance(result[1], LoginRefused)
        assert one.ledger["calls"]["combine.batch_login"]
        assert {at_cloud(child(0)), at_cloud(child(2))} < one.cloud.online


async def test_a_login_that_is_cancelled_is_undone(folder: Path) -> None:
    async with site(folder) as one:
        secret = await one.secret(child(0))
        one.cloud.set_faults("reply-late:0.3@combine.login")
        task = asyncio.create_task(one.provider.connect(child(0), secret))
        await until(lambda: at_cloud(child(0)) in one.cloud.online)
        task.cancel()
        await until(lambda: at_cloud(child(0)) not in one.cloud.online)
        one.cloud.set_faults("")
        await one.connect(child(0), secret)


@pytest.mark.parametrize("error_data", [True, False])
async def test_a_disabled_child_goes_offline_and_retries_when_enabled(
    folder: Path, error_data: bool
) -> None:
    async with site(folder, AlibabaRules(child_logins=0, error_data=error_data)) as one:
        first, second = await one.online(0, 1)
        secret = Secret(str(one.cloud.secret(*at_cloud(child(0)))).encode())
        one.cloud.disable(*at_cloud(child(0)))
        assert await ended(first) == ("cloud-disabled", False)
        assert type(await refused(one, child(0), secret)) is LoginFailed
        one.cloud.enable(*at_cloud(child(0)))
        await until(lambda: child(0) in one.wishes.again)
        await one.connect(child(0), secret)
        assert is_open(second)


async def test_a_child_that_is_deleted_is_removed(folder: Path) -> None:
    async with site(folder) as one:
        (session,) = await one.online(0)
        secret = Secret(str(one.cloud.secret(*at_cloud(child(0)))).encode())
        one.cloud.delete(*at_cloud(child(0)))
        assert (await ended(session))[1]
        assert isinstance(await refused(one, child(0), secret), LoginRemoved)


async def test_a_child_that_is_detached_does_not_come_back_by_itself(folder: Path) -> None:
    async with site(folder) as one:
        online, away = await one.online(0, 1)
        secret = Secret(str(one.cloud.secret(*at_cloud(child(1)))).encode())
        await away.close()
        one.cloud._messages.notifier.change(at_cloud(child(0)), ChildStatus.DELETED)
        one.cloud._messages.notifier.change(at_cloud(child(1)), ChildStatus.DELETED)
        assert await ended(online) == ("cloud-removed", True)
        assert isinstance(await refused(one, child(1), secret), LoginRemoved)
        await one.connect(child(1), secret)  # by now an operator has approved it again


async def test_errors_without_a_name_have_all_checked(folder: Path) -> None:
    async with site(folder) as one:
        sessions = await one.online(*range(5))
        logins = one.calls("combine.batch_login")
        one.cloud._messages.sessions.end(at_cloud(child(3)))
        one.cloud._messages.notifier.error(GATEWAY, 520, at_cloud(child(3)))
        await until(lambda: at_cloud(child(3)) in one.cloud.online)
        assert one.calls("combine.batch_login") > logins
        assert all(is_open(session) for session in sessions)


@pytest.mark.parametrize(
    ("code", "result"),
    [
        (427, ("cloud-session-elsewhere", False)),
        (520, ("cloud-no-session", False)),
        (521, ("cloud-removed", True)),
        (522, ("cloud-disabled", False)),
        (6401, ("cloud-not-in-topology", False)),
    ],
)
async def test_a_child_that_is_forced_off(
    folder: Path, code: int, result: tuple[str, bool]
) -> None:
    async with site(folder, AlibabaRules(child_logins=0, error_data=True)) as one:
        first, second = await one.online(0, 1)
        one.cloud.push_error(at_cloud(child(0)), code)
        assert await ended(first) == result
        assert is_open(second)


async def test_with_the_link_all_children_go_and_come_back(folder: Path) -> None:
    async with site(folder) as one:
        sessions = await one.online(*range(5))
        await one.lose_link()
        for session in sessions:
            assert await ended(session) == ("gateway-link-lost", False)
        assert not one.wishes.again
        await one.log_in()
        await until(lambda: len(one.wishes.again) == len(sessions))
        assert {*one.wishes.again} == {child(number) for number in range(5)}
        added = one.calls("thing.topo.add")
        for number in range(5):
            secret = Secret(str(one.cloud.secret(*at_cloud(child(number)))).encode())
            await one.connect(child(number), secret)
        assert one.calls("thing.topo.add") == added
        assert one.calls("thing.topo.get") == 2


async def test_without_the_gateway_there_is_an_obstacle(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatewayd.cloud.sub_devices.link_monitor.PATIENCE", 0.1)
    async with site(folder) as one:
        secret = await one.secret(child(0))
        assert await one.provider.check_ready(child(0)) is None
        one.cloud.set_faults("login.refuse:5")
        await one.lose_link()
        with pytest.raises(LoginRefused):
            await one.log_in()
        not_ready = await one.provider.check_ready(child(0))
        assert not_ready is not None
        check_reason(not_ready)
        assert not_ready.code == "gateway-offline"
        assert "gateway-cloud" in not_ready.remedy
        assert "disabled or deleted" in not_ready.remedy
        error = await refused(one, child(0), secret)
        assert type(error) is LoginFailed
        assert error.reason == not_ready
        assert isinstance((await one.register(child(1)))[0], Failed)
        one.cloud.set_faults("")
        await one.log_in()
        await until(lambda: child(0) in one.wishes.again)


async def test_forgetting_takes_the_child_out_of_the_topology(folder: Path) -> None:
    async with site(folder) as one:
        (session,) = await one.online(0)
        assert await one.provider.unbind(child(0)) is None
        assert not (await ended(session))[1]
        assert one.ledger["children"] == []
        assert await one.provider.unbind(child(0)) is None  # 6401 is as good as done


@pytest.mark.parametrize(
    ("fault", "code"), [("reply:500", "cloud-error"), ("lose-request", "cloud-no-answer")]
)
async def test_forgetting_that_was_not_done(folder: Path, fault: str, code: str) -> None:
    async with site(folder, reply_timeout=0.5) as one:
        await one.online(0)
        one.cloud.set_faults(f"{fault}@thing.topo.delete")
        why = await one.provider.unbind(child(0))
        assert why is not None
        assert why.code == code
        assert at_cloud(child(0)) in one.cloud.online


async def test_the_cloud_wants_children(folder: Path) -> None:
    async with site(folder) as one:
        one.cloud.notify(GATEWAY, [at_cloud(child(4)), at_cloud(child(5))])
        await until(lambda: len(one.wishes.names) == 2)
        assert one.wishes.names == [child(4), child(5)]


async def test_a_child_that_waits_is_reported_to_the_cloud(folder: Path) -> None:
    async with site(folder, gateway={"report_found": True}) as one:
        one.provider.on_pending(replace(child(7), route="direct"))
        one.provider.on_pending(child(8))
        await until(lambda: one.calls("thing.list.found") == 1)
        assert one.ledger["calls"]["thing.list.found"] == {"200": 1}


@pytest.mark.parametrize(("seconds", "result"), [(0, 65534), (60, 60), (65535, 0)])
async def test_the_cloud_permits_joining(folder: Path, seconds: int, result: int) -> None:
    async with site(folder) as one:
        one.cloud.permit(GATEWAY, "a1Unknown", 5)
        one.cloud.permit(GATEWAY, SENSORS, seconds)
        await until(lambda: bool(one.wishes.permitted))
        assert one.wishes.permitted == [("cloud", result)]


async def test_a_gateway_has_room_for_so_many(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(folder, gateway={"children": 3}) as one:
        await one.online(0, 1)
        assert "of the 3 children" not in caplog.text
        secret = await one.secret(child(2))
        assert caplog.text.count("3 of the 3 children") == 1
        full = one.provider.check_name(child(3))
        assert full is not None
        assert full.code == "gateway-full"
        assert await one.provider.register(child(3), RecordingKeeper().keep) == Refused(full)
        assert one.provider.check_name(child(2)) is None
        await one.connect(child(2), secret)
        assert await one.provider.unbind(child(0)) is None
        assert one.provider.check_name(child(3)) is None
        await one.secret(child(3))
        assert caplog.text.count("of the 3 children") == 1


async def test_one_that_was_refused_takes_no_room(folder: Path) -> None:
    stranger = replace(child(0), device="STRANGER")
    async with site(folder, gateway={"children": 1}) as one:
        assert isinstance((await one.register(stranger))[0], Refused)
        assert await one.secret(child(0))


async def test_who_is_attached_already_takes_room(folder: Path) -> None:
    async with site(folder, gateway={"children": 1}) as one:
        one.cloud.attach(GATEWAY, at_cloud(child(9)))
        await until(lambda: one.provider.check_name(child(0)) is not None)
        assert one.provider.check_name(child(9)) is None


async def test_checks_are_spread(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sub_device_sessions, "CHECKED", 2)
    monkeypatch.setattr(sub_device_sessions, "PAUSE", 0.01)
    async with site(folder) as one:
        await one.online(*range(5))
        before = one.calls("combine.batch_login") + one.calls("combine.login")
        for _ in range(10):
            one.cloud._messages.notifier.error(GATEWAY, 520, at_cloud(child(0)))

        def logins() -> int:
            return one.calls("combine.batch_login") + one.calls("combine.login") - before

        await until(lambda: logins() == 3)
