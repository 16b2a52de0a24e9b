"""Children with certificates at a real broker: their topics, their end, and what may be wrong."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from gatewayd.ca.bundle import Bundle
from gatewayd.ca.certificates import common_name, read_certificates, request
from gatewayd.ca.keys import key_pem, make_key
from gatewayd.cloud.ca.identity import read_identity
from gatewayd.cloud.mqtt_broker import reasons
from gatewayd.cloud.mqtt_broker.preflight import preflight
from gatewayd.cloud.mqtt_broker.settings import BrokerCertificates, MqttBrokerSettings
from gatewayd.cloud.preflight import Check, PreflightContext
from gatewayd.cloud.provider import (
    AcceptsCertificates,
    Failed,
    Issued,
    LoginError,
    LoginRefused,
    MessageAccepted,
    Refused,
    SupportsCommands,
    SupportsMessages,
)
from gatewayd.device.command import ChildCommand, CommandAnswer, CommandOutcome
from gatewayd.device.message import Message
from gatewayd.device.reason import CLOCK_NOT_SET
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import InvalidArgs, StoreFull
from gatewayd.network.connect_errors import ConnectFault
from gatewayd.runtime.clock import SYSTEM_CLOCK
from gatewayd.testing.contracts.cloud import RecordingKeeper
from gatewayd.testing.waiting import until
from tests.cloud.mqtt_broker.brokers import NAMES
from tests.cloud.mqtt_broker.certified import READER, CertifiedBroker, certified_broker

integration = pytest.mark.integration
ONE, OTHER = NAMES


async def registered(one: CertifiedBroker, name: CloudName = ONE) -> Secret:
    kept = RecordingKeeper()
    assert await one.provider.register(name, kept.keep) == Issued()
    return kept.secrets[0]


async def refusal(one: CertifiedBroker, secret: Secret) -> LoginError:
    """Return how a login fails for good: one that was cut off, or timed out, says no more."""
    while True:
        with pytest.raises(LoginError) as raised:
            await one.provider.connect(ONE, secret)
        reason = raised.value.reason
        if reason.text != HUNG_UP and reason.code not in SLOW:
            return raised.value


SLOW = {ConnectFault.MQTT_TIMEOUT, ConnectFault.TLS_TIMEOUT, ConnectFault.TCP_UNREACHABLE}
HUNG_UP = (
    "The broker closed the connection without an answer; it may not accept the certificate of this "
    "device."
)


def shown(one: CertifiedBroker, secret: Secret) -> tuple[str, ...]:
    """Write a child's certificate; return the options of mosquitto's own clients."""
    identity = read_identity(secret)
    for name, text in (("one.pem", identity.chain), ("one.key", identity.key.reveal().decode())):
        (one.directory / name).write_text(text)
    return (
        "-h", "localhost", "-p", str(one.broker.port), "--cafile", str(one.directory / "ca.pem"),
        "--cert", str(one.directory / "one.pem"), "--key", str(one.directory / "one.key"),
    )  # fmt: skip


async def run(program: str, *words: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        program, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    printed, _ = await process.communicate()
    return process.returncode, printed.decode()


async def watching(one: CertifiedBroker, *more: str) -> asyncio.subprocess.Process:
    """Subscribe as the reader, who sees what everyone says; return when that is in force."""
    where = ("--unix", str(one.broker.socket), "-u", READER[0], "-P", READER[1])
    watcher = await asyncio.create_subprocess_exec(
        "mosquitto_sub", *where, "-t", "devices/#", "-t", "ready", "-v", *more,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert watcher.stdout is not None
    line = asyncio.ensure_future(watcher.stdout.readline())
    while not line.done():
        await run("mosquitto_pub", *where, "-t", "ready", "-m", "yes")
        await asyncio.wait({line}, timeout=0.2)
    return watcher


@integration
async def test_a_child_speaks_and_is_commanded_on_its_own_topics_alone() -> None:
    async with certified_broker() as one:
        watcher = await watching(one)
        secret = await registered(one)
        session = await one.provider.connect(ONE, secret)
        assert isinstance(session, SupportsMessages)
        assert isinstance(session, SupportsCommands)
        received: list[ChildCommand] = []
        session.receive_commands(received.append)
        own = shown(one, secret)
        other = "devices/meter/PM-0002/up/properties"
        assert (await run("mosquitto_pub", *own, "-q", "1", "-t", other, "-m", "{}"))[0] == 0
        assert await session.publish(Message("properties", b'{"a":1}', 0)) == MessageAccepted()
        down = "devices/meter/PM-0001/down/set/7"
        await run(
            "mosquitto_pub", "--unix", str(one.broker.socket), "-u", READER[0], "-P", READER[1],
            "-t", down, "-m", '{"limit":5}',
        )  # fmt: skip
        await until(lambda: bool(received))
        assert received[0].arguments == {"limit": 5}
        assert await session.answer(received[0], CommandAnswer(CommandOutcome.DONE))
        assert watcher.stdout is not None
        said: list[str] = []
        while not said or "answer/7" not in said[-1]:
            line = (await watcher.stdout.readline()).decode()
            said += [line] if "ready" not in line and "/-/-/" not in line else []
        assert said == [
            'devices/meter/PM-0001/up/properties {"a":1}\n',
            f'{down} {{"limit":5}}\n',
            'devices/meter/PM-0001/up/answer/7 {"ok":true,"result":{}}\n',
        ], "what it said for another was dropped"
        watcher.kill()
        await watcher.wait()
        await session.close()


@integration
async def test_a_child_receives_nothing_of_another() -> None:
    async with certified_broker() as one:
        own, other = await registered(one), await registered(one, OTHER)
        listener = await asyncio.create_subprocess_exec(
            "mosquitto_sub", *shown(one, own), "-t", "#", "-t", "$SYS/#", "-v", "-C", "1",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        theirs = await one.provider.connect(OTHER, other)
        mine = await one.provider.connect(ONE, own)
        assert isinstance(theirs, SupportsMessages)
        assert isinstance(mine, SupportsMessages)
        said = asyncio.ensure_future(listener.communicate())
        while not said.done():
            assert await theirs.publish(Message("events/x", b"{}", 0)) == MessageAccepted()
            assert await mine.publish(Message("properties", b'{"a":1}', 0)) == MessageAccepted()
            await asyncio.wait({said}, timeout=0.2)
        assert said.result()[0].decode().startswith("devices/meter/PM-0001/up/")
        await theirs.close()
        await mine.close()


@integration
async def test_a_forgotten_child_is_refused_once_the_broker_has_the_list() -> None:
    async with certified_broker() as one:
        secret, other = await registered(one), await registered(one, OTHER)
        assert one.provider.issuer is not None
        wanted = request(make_key("ec-p256"))
        made = await one.provider.issuer.certify(wanted, ONE, 1)
        await (await one.provider.connect(ONE, secret)).close()
        assert await one.provider.unbind(ONE) is None
        assert await one.provider.unbind(ONE) is None, "nothing is left to revoke"
        await one.revoke()
        refused = await refusal(one, secret)
        assert isinstance(refused, LoginRefused)
        assert refused.reason.code == "certificate-revoked"
        revoked = await one.provider.issuer.authority.issued.revoked()
        for pem in (secret.reveal(), made.encode()):
            serial = read_certificates(pem)[0].serial_number
            assert serial in {certificate.serial for certificate in revoked}
        await (await one.provider.connect(OTHER, other)).close()
        again = await registered(one)
        await (await one.provider.connect(ONE, again)).close()


@integration
@pytest.mark.parametrize(
    ("without", "more", "code"),
    [
        (("use_identity_as_username",), (), "cloud-not-authorised"),
        (("acl_file",), ("acl_file {directory}/other.acl",), "topics-denied"),
    ],
)
async def test_each_mistake_at_the_broker_has_a_reason(
    without: tuple[str, ...], more: tuple[str, ...], code: str
) -> None:
    async with certified_broker(without=without) as one:
        secret = await registered(one)
        if more:
            one.broker.stop()
            (one.directory / "other.acl").write_text("pattern read devices/%u/down/#\n")
            text = (one.directory / "mosquitto.conf").read_text()
            line = more[0].replace("{directory}", str(one.directory))
            (one.directory / "mosquitto.conf").write_text(f"{line}\n{text}")
            one.broker.start()
        failed = await refusal(one, secret)
        assert failed.reason.code == code
        assert failed.reason.remedy


@integration
async def test_a_ca_that_the_broker_does_not_trust_has_a_remedy() -> None:
    async with certified_broker() as one:
        secret = await registered(one)
        one.refuse()
        refused = await refusal(one, secret)
        assert isinstance(refused, LoginRefused)
        assert refused.reason.code == "authority-unknown"
        assert "ca revoked" in refused.reason.remedy
        assert not refused.stale


@integration
async def test_a_refused_certificate_is_stale_once_another_was_imported() -> None:
    async with certified_broker() as one:
        assert one.provider.issuer is not None
        secret, own = await registered(one), read_identity(await registered(one))
        await one.provider.issuer.authority.given.put(ONE, own)
        one.refuse()
        refused = await refusal(one, secret)
        assert isinstance(refused, LoginRefused)
        assert refused.stale


@integration
async def test_a_certificate_that_has_ended_is_stale_and_is_renewed_before() -> None:
    short = BrokerCertificates(days=2, renew_before=1)
    async with certified_broker(certificates=short) as one:
        past = replace(SYSTEM_CLOCK, wall=lambda: int((time.time() - 3 * 86_400) * 1e6))
        before = await one.make(past)
        kept = RecordingKeeper()
        assert await before.register(ONE, kept.keep) == Issued()
        due = one.provider.renew_at(ONE, kept.secrets[0])
        assert due is not None
        assert due < time.time()
        refused = await refusal(one, kept.secrets[0])
        assert isinstance(refused, LoginRefused)
        assert (refused.reason.code, refused.stale) == ("certificate-expired", True)
        second = await registered(one)
        later = one.provider.renew_at(ONE, second)
        assert later is not None
        assert 0.9 * 86_400 < later - time.time() < 1.1 * 86_400
        await (await one.provider.connect(ONE, second)).close()


@integration
async def test_what_another_setting_of_identity_or_user_has_left_is_replaced() -> None:
    async with certified_broker() as one:
        secret = await registered(one)
        password = Secret(b"gw1.1." + b"a" * 43)
        assert one.provider.renew_at(ONE, password) == 0.0
        with pytest.raises(LoginRefused) as refused:
            await one.provider.connect(ONE, password)
        assert refused.value.reason.code == "certificate-unusable"
        renamed = await one.make(user="m/{device}", up="d/m/{device}/up/{topic}",
                                 down="d/m/{device}/down/{topic}")  # fmt: skip
        assert renamed.renew_at(ONE, secret) == 0.0
        with pytest.raises(LoginRefused) as refused:
            await renamed.connect(ONE, secret)
        assert refused.value.reason.code == "certificate-of-other-user"


@integration
async def test_nothing_is_issued_without_a_ca_or_for_a_name_that_is_too_long() -> None:
    async with certified_broker() as one:
        assert one.provider.issuer is not None
        one.store.slots.clear()
        one.provider.issuer.authority._current = None
        kept = RecordingKeeper()
        outcome = await one.provider.register(ONE, kept.keep)
        assert isinstance(outcome, Failed)
        assert outcome.reason.code == "authority-missing"
        long = CloudName("plant", "meter", "x" * 64)
        outcome = await one.provider.register(long, kept.keep)
        assert isinstance(outcome, Refused)
        assert outcome.reason.code == "user-name-too-long"
        assert not kept.secrets


@integration
async def test_a_certificate_that_was_not_kept_is_not_on_record() -> None:
    async with certified_broker() as one:
        before = dict(one.store.slots)

        async def useless() -> None:
            raise ValueError("it would end as soon as the one before")

        with pytest.raises(ValueError, match="as soon"):
            await one.provider.register(ONE, RecordingKeeper(useless).keep)
        assert one.store.slots == before

        async def full() -> None:
            raise StoreFull("it may be there all the same")

        with pytest.raises(StoreFull):
            await one.provider.register(ONE, RecordingKeeper(full).keep)
        assert len(one.store.slots) == len(before) + 1


@integration
async def test_a_child_logs_in_by_the_certificate_that_it_had() -> None:
    """It is one of its user, by an authority that the broker trusts, and needs no CA here."""
    async with certified_broker() as one:
        issuer, key = one.provider.issuer, make_key("ec-p256")
        assert issuer is not None
        assert isinstance(issuer, AcceptsCertificates)
        leaf = one.authority.sign(common_name("meter/m-1"), key.public_key(), 20, time.time())
        bundle = Bundle(key, leaf, (one.authority.certificate,))
        for name, device_id in ((None, ""), (ONE, "id")):
            with pytest.raises(InvalidArgs, match="Name the product and the id"):
                await issuer.accept(bundle, name, device_id)
        with pytest.raises(InvalidArgs, match=r"must be the child's user .*, but is 'meter/m-1'"):
            await issuer.accept(bundle, ONE, "")
        right = one.authority.sign(
            common_name(f"{ONE.product}/{ONE.device}"), key.public_key(), 20, time.time()
        )
        name, identity = await issuer.accept(Bundle(key, right), ONE, "")
        await issuer.authority.given.put(name, identity)
        one.store.slots = {r: s for r, s in one.store.slots.items() if r.kind != "authority"}
        issuer.authority._current = None
        secret = await registered(one)
        assert secret == identity.secret
        session = await one.provider.connect(ONE, secret)
        await session.close()
        user = "{product}/{device}/new"
        other = await one.make(user=user, up=f"{user}/up/{{topic}}", down=f"{user}/down/{{topic}}")
        assert await other.register(ONE, RecordingKeeper().keep) == Refused(
            reasons.GIVEN_OF_OTHER_USER
        )
        await issuer.authority.forget_given(ONE)
        assert {ref.kind for ref in one.store.slots} == {"authority"}


@integration
async def test_nothing_is_revoked_by_a_clock_that_is_not_set() -> None:
    async with certified_broker() as one:
        unset = replace(SYSTEM_CLOCK, earliest=SYSTEM_CLOCK.wall() + 1_000_000_000)
        assert await (await one.make(unset)).unbind(ONE) == CLOCK_NOT_SET


@integration
async def test_a_certificate_on_request_is_for_a_child() -> None:
    async with certified_broker() as one:
        assert one.provider.issuer is not None
        key = make_key("ec-p256")
        made = await one.provider.issuer.certify(request(key), ONE, 1)
        (one.directory / "one.pem").write_text(made)
        assert read_certificates(made.encode())[0].subject.rfc4514_string() == "CN=meter/PM-0001"
        for name in (None, CloudName("plant", "a/b", "c"), CloudName("plant", "p", "x" * 64)):
            with pytest.raises(InvalidArgs):
                await one.provider.issuer.certify(request(key), name, 1)
        assert key_pem(key) not in made.encode()


async def checks_of(one: CertifiedBroker) -> dict[str, Check]:
    context = PreflightContext(
        "root",
        lambda *_, **__: Secret(b""),
        credentials=False,
        time=time.time,
        synchronised=lambda: True,
    )
    settings = one._made_settings(one.broker.port)
    return {check.step: check async for check in preflight(settings, context)}


@integration
@pytest.mark.parametrize("asks", [True, False])
async def test_the_preflight_sees_whether_the_broker_wants_certificates(asks: bool) -> None:
    without = () if asks else ("require_certificate", "use_identity_as_username", "crlfile")
    async with certified_broker(without=without) as one:
        found = await checks_of(one)
        assert found["asks"].verdict == ("ok" if asks else "failed"), found["asks"]
        assert ("require_certificate" in found["asks"].remedy) != asks
        assert "meter/DEVICE" in found["names"].text
        assert "ca show" in found["ca"].remedy
        assert "secret" not in found


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({}, ""),
        ({"user": "{device}"}, "user must have {product}"),
        ({"user": "{product}-{device}"}, "user must have {product}"),
        ({"user": "m-{device}", "products": ("meter",)}, "up must have the user, m-{device}"),
        ({"user": "{device}", "products": ("meter",)}, "user must have more than {device}"),
        ({"client_id": "{device}", "products": ("meter",)}, "client_id must have more than"),
        ({"up": "d/{product}/{device}/{product}/up/{topic}"}, "no further field"),
        ({"up": "d/{product}/x/{device}/up/{topic}"}, "up must have the user"),
        ({"certificates": BrokerCertificates(days=5, renew_before=5)}, "less than"),
        ({"identity": "password"}, "management is missing"),
        ({"transport": "websocket", "port": 443}, "no revoked certificate"),
    ],
)
def test_settings_that_an_access_list_cannot_say_are_refused(
    changed: dict[str, object], fault: str
) -> None:
    given: dict[str, object] = {"identity": "certificate", **changed}
    problems = list(MqttBrokerSettings("localhost", **given).problems())  # type: ignore[arg-type]  # of the table above
    assert bool(problems) == bool(fault)
    assert not fault or any(fault in one for one in problems)


def test_the_access_list_has_the_user_for_its_levels() -> None:
    one = MqttBrokerSettings("localhost", identity="certificate")
    assert one.templates.patterns() == ("devices/%u/up/#", "devices/%u/down/#")
    other = MqttBrokerSettings(
        "localhost", identity="certificate", products=("meter",), user="m/{device}",
        up="m/{device}/says/{topic}", down="m/{device}/gets/{topic}",
    )  # fmt: skip
    assert not list(other.problems())
    assert other.templates.patterns() == ("%u/says/#", "%u/gets/#")
