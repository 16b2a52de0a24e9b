"""The device CA as an operator sees it, in slots of the real vault."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from gatewayd.ca.bundle import Bundle
from gatewayd.ca.certificates import MAX_BYTES, Validity, read_certificates
from gatewayd.ca.keys import key_pem, make_key
from gatewayd.cloud.ca.given import GIVEN_ENDS, GivenIdentities, given_identity
from gatewayd.cloud.ca.identity import CertificateIdentity
from gatewayd.cloud.ca.service import AuthorityService, slots_of
from gatewayd.cloud.ca.store import NO_AUTHORITY, AuthorityStore
from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.device.views import Facts
from gatewayd.errors import InvalidArgs, NoSuchDevice, StoreFull, WrongState
from gatewayd.secretstore.vault.vault import Vault, VaultSettings
from gatewayd.storage.commit_thread import CommitThread
from gatewayd.storage.reconcile import decide
from gatewayd.storage.records import DurableSecrets
from tests.cloud.guarded import device_ca, identity

ONE, OTHER = DeviceId("child-1"), DeviceId("child-2")
NAMES = {ONE: CloudName("huawei", "p", "n"), OTHER: CloudName("alibaba", "p", "n")}
DAY = 86_400.0
Answer = tuple[bytes, CloudName | None, int]


@dataclass
class Issuing:
    """Implements Issuer: puts down what is asked."""

    authority: AuthorityStore
    asked: list[Answer] = field(default_factory=list)
    renew_before: int = 30

    async def accept(
        self, bundle: Bundle, name: CloudName | None, device_id: str
    ) -> tuple[CloudName, CertificateIdentity]:
        return name or NAMES[ONE], given_identity(bundle, device_id or "p_n", self.authority.now())

    def uses_certificate(self, name: CloudName) -> bool:
        return name.route != "sub-device"

    async def certify(self, request: bytes, name: CloudName | None, days: int) -> str:
        self.asked.append((request, name, days))
        return "chain"


@dataclass
class Desk:
    """An authority that is served, and where it is kept."""

    issuer: Issuing
    secrets: DurableSecrets
    service: AuthorityService = field(init=False)
    online: set[DeviceId] = field(default_factory=set)
    renewed: list[DeviceId] = field(default_factory=list)
    clock_fault: str = ""

    def renew(self, device: DeviceId) -> bool:
        self.renewed.append(device)
        return device in self.online

    async def make(self, **options: Any) -> str:
        given = {"algorithm": "ec-p256"} | {k.replace("_", "-"): v for k, v in options.items()}
        return await self.service.make(given, "uid 0")


def resolve(device: str) -> DeviceId:
    if device not in NAMES:
        raise NoSuchDevice("No such device")
    return DeviceId(device)


@asynccontextmanager
async def desk(directory: Path, now: float = 0.0) -> AsyncIterator[Desk]:
    thread = CommitThread()
    thread.start()
    try:
        vault = await thread.open(lambda: Vault(VaultSettings(key="development-file"), directory))
        secrets = DurableSecrets(thread, vault)
        keeper = AuthorityStore(lambda: now or time.time())
        given = GivenIdentities("huawei", secrets, 30, keeper.now)
        keeper.set_slots(slots_of("huawei", secrets), given=given)
        issuer = Issuing(keeper)
        one = Desk(issuer, secrets)
        one.service = AuthorityService(
            "huawei", issuer, resolve, NAMES.get, one.renew, lambda: one.clock_fault
        )
        yield one
    finally:
        await thread.aclose()


def slot(generation: int) -> SecretRef:
    return SecretRef("huawei", DeviceId("authority-huawei"), generation, "authority")


async def test_a_ca_is_made_and_found_again(tmp_path: Path) -> None:
    async with desk(tmp_path) as one:
        assert await one.service.show() == {
            "Present": False,
            "Explanation": NO_AUTHORITY.text,
            "Remedy": NO_AUTHORITY.remedy.replace("CLOUD", "huawei"),
        }
        pem = await one.make(organization="ACME", country="CN", days=100)
        assert "PRIVATE" not in pem
        first = await one.service.show()
    async with desk(tmp_path) as again:
        assert await again.service.show() == first
    assert first["Certificate"] == pem
    assert (first["Generation"], first["Algorithm"]) == (1, "ec-p256")
    assert "huawei device CA" in str(first["Subject"])
    assert "ACME" in str(first["Subject"])
    end = Validity.of(read_certificates(pem.encode())[0]).ends.timestamp()
    assert first["ExpiryTimestamp"] == int(end) * 1_000_000
    assert first["Explanation"] == ""


async def test_a_ca_is_followed_by_another_only_if_that_is_wanted(tmp_path: Path) -> None:
    async with desk(tmp_path) as one:
        first = await one.make()
        with pytest.raises(WrongState, match="already"):
            await one.make()
        second = await one.make(replace=True)
        assert first != second
        assert (await one.service.show())["Generation"] == 2
        assert await one.secrets.holds(slot(1))
        assert await one.secrets.holds(slot(2))


async def test_a_pipe_whose_end_does_not_come_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that waits for ever would be missing elsewhere, and keep gatewayd from stopping."""
    monkeypatch.setattr("gatewayd.cloud.ca.service.PATIENCE", 0.1)
    async with desk(tmp_path) as one:
        source, sink = os.pipe()
        try:
            os.write(sink, b"-----BEGIN")
            async with asyncio.timeout(30):
                with pytest.raises(InvalidArgs, match="Timed out"):
                    await one.service.import_authority(source, "uid 0")
        finally:
            os.close(sink)
            os.close(source)


async def test_the_newest_generation_that_can_be_read_is_in_use(tmp_path: Path) -> None:
    async with desk(tmp_path) as one:
        first = await one.make()
        await one.secrets.put(slot(2), Secret(b"no CA at all"))
    async with desk(tmp_path) as again:
        assert (await again.service.show())["Certificate"] == first
        await again.make(replace=True)
        assert (await again.service.show())["Generation"] == 3


async def test_its_slots_are_nobodys(tmp_path: Path) -> None:
    """A start leaves them alone."""
    async with desk(tmp_path) as one:
        await one.make()
        assert decide([], await one.secrets.refs(slot(1).device), 1) == []
        await one.secrets.put(SecretRef("huawei", slot(1).device, 7), Secret(b"a child's"))
        assert await slots_of("huawei", one.secrets).generations() == [1]


async def test_a_full_disk_leaves_the_ca_there_is(tmp_path: Path) -> None:
    class Full:
        async def put(self, ref: SecretRef, secret: Secret) -> None:
            raise StoreFull("full")

        async def get(self, ref: SecretRef) -> Secret:
            return Secret(b"")

        async def delete(self, ref: SecretRef) -> None:
            pass

        async def refs(self, device: DeviceId) -> tuple[SecretRef, ...]:
            return ()

        async def holds(self, ref: SecretRef) -> bool:
            return False

        async def check_ready(self) -> Reason | None:
            return None

    keeper = AuthorityStore(time.time)
    keeper.set_slots(slots_of("huawei", Full()))
    authority = await asyncio.to_thread(device_ca)
    with pytest.raises(StoreFull):
        await keeper.keep(authority, replace=False)
    assert await keeper.current() is None


@pytest.mark.parametrize(
    "options",
    [
        {"colour": "red"}, {"algorithm": "rsa-512"}, {"algorithm": 5}, {"days": 0.5},
        {"days": -1}, {"days": 99_999}, {"days": True}, {"replace": "yes"}, {"country": "China"},
        {"common-name": "x" * 65},
    ],
)  # fmt: skip
async def test_options_that_are_not_taken(tmp_path: Path, options: Mapping[str, object]) -> None:
    async with desk(tmp_path) as one:
        with pytest.raises(InvalidArgs):
            await one.service.make(options, "uid 0")


@asynccontextmanager
async def pipe(data: bytes) -> AsyncIterator[int]:
    """A pipe from which data can be read."""
    source, target = os.pipe()

    def fill() -> None:
        with os.fdopen(target, "wb") as file:
            file.write(data)

    filling = asyncio.create_task(asyncio.to_thread(fill))
    try:
        yield source
    finally:
        os.close(source)
        await asyncio.gather(filling, return_exceptions=True)


async def test_a_ca_is_imported_from_a_pipe(tmp_path: Path) -> None:
    authority = await asyncio.to_thread(device_ca, "made elsewhere")
    async with desk(tmp_path) as one, pipe(authority.secret().reveal()) as source:
        assert await one.service.import_authority(source, "uid 0") == authority.pem
        assert (await one.service.show())["Fingerprint"] == authority.fingerprint


async def test_what_is_not_imported(tmp_path: Path) -> None:
    key = key_pem(await asyncio.to_thread(make_key, "ec-p256"))
    for data, words in ((b"", "private key"), (b"x" * 200_000, "at most"), (key, "missing")):
        async with desk(tmp_path) as one, pipe(data) as source:
            with pytest.raises(InvalidArgs, match=words):
                await one.service.import_authority(source, "uid 0")
            assert not (await one.service.show())["Present"]
    assert MAX_BYTES < 200_000


async def test_an_old_ca_is_not_imported_and_not_used(tmp_path: Path) -> None:
    authority = await asyncio.to_thread(device_ca)
    end = authority.span.ends.timestamp()
    async with desk(tmp_path, end + DAY) as one, pipe(authority.secret().reveal()) as source:
        with pytest.raises(InvalidArgs, match="has expired"):
            await one.service.import_authority(source, "uid 0")
    async with desk(tmp_path, end - DAY) as one, pipe(authority.secret().reveal()) as source:
        await one.service.import_authority(source, "uid 0")
        assert "in 1 days" in str((await one.service.show())["Explanation"])
    async with desk(tmp_path, end + DAY) as one:
        assert (await one.service.show())["Explanation"] == "The device CA has expired."
        with pytest.raises(WrongState, match="has expired"):
            await one.service.prove("code", "uid 0")


async def test_a_closed_descriptor_is_an_error(tmp_path: Path) -> None:
    async with desk(tmp_path) as one:
        source, target = os.pipe()
        os.close(source)
        with pytest.raises(InvalidArgs, match="cannot be read"):
            await one.service.import_authority(target, "uid 0")
        os.close(target)


async def test_possession_is_proven(tmp_path: Path) -> None:
    async with desk(tmp_path) as one:
        with pytest.raises(WrongState, match="no device CA"):
            await one.service.prove("code-1", "uid 0")
        await one.make()
        proof = await one.service.prove("code-1", "uid 0")
        assert "PRIVATE" not in proof
        (certificate,) = read_certificates(proof.encode())
        assert certificate.subject.rfc4514_string() == "CN=code-1"


async def test_a_request_is_passed_on(tmp_path: Path) -> None:
    async with desk(tmp_path) as one:
        issue = one.service.issue
        assert await issue(ONE, "request", {"days": 3}, "uid 0") == "chain"
        await issue("", "request", {"product": "p", "node-id": "x"}, "uid 0")
        await issue("", "request", {}, "uid 0")
        assert one.issuer.asked == [
            (b"request", NAMES[ONE], 3),
            (b"request", CloudName("huawei", "p", "x"), 0),
            (b"request", None, 0),
        ]
        for device, request, options, words in (
            (ONE, "", {}, "request is needed"),
            ("", "request", {"product": "p"}, "node-id"),
            ("", "request", {"subject": "p"}, "node-id"),
        ):
            with pytest.raises(InvalidArgs, match=words):
                await issue(device, request, options, "uid 0")
        with pytest.raises(WrongState, match="not belong"):
            await issue(OTHER, "request", {}, "uid 0")
        with pytest.raises(NoSuchDevice):
            await issue("child-9", "request", {}, "uid 0")


async def test_a_renewal_is_for_a_child_that_is_online(tmp_path: Path) -> None:
    async with desk(tmp_path) as one:
        with pytest.raises(WrongState, match="not online"):
            await one.service.renew(ONE, "uid 0")
        one.online.add(ONE)
        await one.service.renew(ONE, "uid 0")
        with pytest.raises(WrongState, match="not belong"):
            await one.service.renew(OTHER, "uid 0")
        assert one.renewed == [ONE, ONE]


async def test_a_ca_that_ends_soon_is_warned_of_once_a_day(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk(tmp_path) as one:
        await one.make(days=20)
        with caplog.at_level(logging.WARNING):
            watching = asyncio.create_task(one.service.watch())
            async with asyncio.timeout(30):
                while not caplog.records:
                    await asyncio.sleep(0.01)
            await one.service.prove("code", "uid 0")
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        (record,) = caplog.records
        assert "in 19 days" in record.getMessage()


async def test_nothing_is_dated_by_a_clock_that_is_not_set(tmp_path: Path) -> None:
    async with desk(tmp_path) as one:
        await one.make()
        one.clock_fault = "the clock is not set"
        with tempfile.TemporaryFile() as file:
            for refused in (
                one.make(replace=True),
                one.service.import_authority(file.fileno(), "uid 0"),
                one.service.prove("code", "uid 0"),
                one.service.issue("child-1", "request", {}, "uid 0"),
            ):
                with pytest.raises(WrongState, match="The clock is not set"):
                    await refused
        assert (await one.service.show())["Generation"] == 1
        assert not one.issuer.asked
        one.clock_fault = ""
        await one.make(replace=True)
        assert (await one.service.show())["Generation"] == 2


def piped(data: bytes) -> int:
    """Return a descriptor to read these bytes from; the caller closes it."""
    out, into = os.pipe()
    os.write(into, data)
    os.close(into)
    return out


async def import_certificate(one: Desk, device: str, data: bytes, **options: str) -> Facts:
    source = piped(data)
    try:
        named = {key.replace("_", "-"): value for key, value in options.items()}
        return await one.service.import_certificate(device, source, named, "uid 0")
    finally:
        os.close(source)


async def test_a_certificate_is_kept_until_it_is_removed_and_goes_before_the_cas(
    tmp_path: Path,
) -> None:
    ca = device_ca("elsewhere")
    first, second = identity(ca, days=50), identity(ca, days=50)
    async with desk(tmp_path) as one:
        one.online.add(ONE)
        facts = await import_certificate(one, "child-1", first.reveal())
        assert (facts["Product"], facts["NodeId"], facts["CloudDeviceId"]) == ("p", "n", "p_n")
        assert facts["Notes"] == [
            "The cloud has to trust its issuer, CN=elsewhere: gatewayd cannot check that."
        ]
        assert "PRIVATE" not in str(facts)
        assert await one.issuer.authority.check_ready(NAMES[ONE]) is None
        assert await one.issuer.authority.check_ready(CloudName("huawei", "p", "m"))
        await import_certificate(one, "child-1", second.reveal(), device_id="own-id")
    async with desk(tmp_path) as again:
        keeper = again.issuer.authority
        kept = await keeper.given_to(NAMES[ONE])
        assert kept is not None
        assert kept.device_id == "own-id"
        assert kept.secret.reveal().endswith(second.reveal())
        assert keeper.replaces(NAMES[ONE], first)
        assert not keeper.replaces(NAMES[ONE], kept.secret)
        await again.service.remove_certificate("child-1", {}, "uid 0")
        assert await keeper.given_to(NAMES[ONE]) is None
        assert not keeper.replaces(NAMES[ONE], first)
        with pytest.raises(WrongState, match="No certificate was imported"):
            await again.service.remove_certificate("child-1", {}, "uid 0")
        with pytest.raises(InvalidArgs, match="Name the device"):
            await again.service.remove_certificate("", {}, "uid 0")


async def test_a_child_whose_route_uses_no_certificate_is_given_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is named by its id or not, or only by its certificate."""
    data = identity(device_ca(), days=50).reveal()
    monkeypatch.setitem(NAMES, ONE, replace(NAMES[ONE], route="sub-device"))
    async with desk(tmp_path) as one:
        one.service._resolve = lambda _: ONE
        for device, options in (("child-1", {}), ("", {"product": "p", "node_id": "n"}), ("", {})):
            with pytest.raises(WrongState, match="'sub-device', which logs in by no certificate"):
                await import_certificate(one, device, data, **options)
        assert await one.issuer.authority.given_to(NAMES[ONE]) is None


async def test_what_cannot_be_removed_of_a_child_that_is_gone_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: SecretRef) -> None:
        raise StoreFull("no space")

    async with desk(tmp_path) as one:
        await import_certificate(one, "child-1", identity(device_ca(), days=50).reveal())
        monkeypatch.setattr(one.secrets, "delete", broken)
        await one.issuer.authority.forget_given(NAMES[ONE])
    assert "imported for p/n stays: no space" in caplog.text
    assert "certificate remove --cloud huawei --product p --node-id n" in caplog.text


async def test_a_certificate_that_would_be_renewed_at_once_is_refused(tmp_path: Path) -> None:
    ca = device_ca("elsewhere")
    async with desk(tmp_path) as one:
        with pytest.raises(InvalidArgs, match="renewed 30 days before: get one"):
            await import_certificate(one, "child-1", identity(ca, days=29).reveal())
        assert await one.issuer.authority.given_to(NAMES[ONE]) is None


async def test_where_an_imported_certificate_ends_and_no_ca_is_here_it_is_reported(
    tmp_path: Path,
) -> None:
    """The one in use is still good for 30 days: an operator can act."""
    ca, now = device_ca("elsewhere"), time.time()
    async with desk(tmp_path) as one:
        await import_certificate(one, "child-1", identity(ca, days=40).reveal())
    async with desk(tmp_path, now + 11 * DAY) as later:
        reason = await later.issuer.authority.check_ready(NAMES[ONE])
        assert reason == GIVEN_ENDS
        assert not later.issuer.authority.replaces(NAMES[ONE], identity(ca))
        await later.make(days=100)
        assert await later.issuer.authority.check_ready(NAMES[ONE]) is None
