"""The commands on the broker's users, and the files that follow, without a broker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography import x509

from gatewayd.ca.certificates import read_certificates, request
from gatewayd.ca.keys import make_key
from gatewayd.device.identity import DeviceId
from gatewayd.errors import InvalidArgs, StoreSealed, StoreUnavailable
from gatewayd.messages.broker import files
from gatewayd.messages.broker.access import FILE, BrokerAccess
from gatewayd.messages.broker.certificates import (
    SERVER_DAYS,
    BrokerAuthority,
    names_of_this_host,
)
from gatewayd.messages.broker.settings import BrokerPlaces, BrokerSettings
from gatewayd.messages.broker.users import Standing, decode
from gatewayd.runtime.clock import Clock
from tests.messages.broker.running import ONE, OTHER, secret_from
from tests.support.fakes import MemoryRecords, MemorySecrets

DAY, LOOK, PATIENCE = 86_400, 0.02, 60.0
SETTINGS = BrokerSettings(names=("gateway.local", "192.0.2.7"))


class Gateway:
    """gatewayd's side, on a clock of its own, with what is kept of it.

    wall: seconds.  ahead: of its steady clock, seconds.
    """

    ahead = 0.0

    def __init__(self, directory: Path, settings: BrokerSettings = SETTINGS) -> None:
        self.directory, self.settings, self.wall = directory, settings, 1_800_000_000
        self.admitted = {ONE, OTHER}
        self.secrets = MemorySecrets(MemoryRecords())
        self.access_directory = directory / "access"
        self.access_directory.mkdir()
        self.new_process()

    def new_process(self) -> None:
        places = BrokerPlaces(self.access_directory, self.directory / "socket")
        self.access = BrokerAccess(
            self.settings,
            places,
            self.directory,
            BrokerAuthority(self.secrets),
            standing=lambda child: Standing.ADMITTED if child in self.admitted else Standing.OUT,
            resolve=DeviceId,
            clock=Clock(
                lambda: asyncio.get_running_loop().time() + self.ahead,
                lambda: self.wall * 1_000_000,
            ),
            look=LOOK,
        )

    def file(self, name: str) -> str:
        return (self.access_directory / name).read_text()

    def written(self) -> tuple[int, int]:
        """Return what changes whenever the password file is written."""
        found = (self.access_directory / files.PASSWORDS).stat()
        return found.st_ino, found.st_mtime_ns

    def pass_time(self, seconds: float) -> None:
        self.ahead += seconds
        self.access._stale.set()

    async def copy(self) -> None:
        """Copy the password file as the broker does, a tick of the clock of files later."""
        await asyncio.sleep(0.05)
        content = (self.access_directory / files.PASSWORDS).read_bytes()
        (self.directory / files.PASSWORDS).write_bytes(content)

    async def read_by_the_broker(self, seconds: float) -> None:
        """Copy it, and return once it was seen, so many seconds later, that it was read."""
        await self.copy()
        self.pass_time(seconds)
        await self.until(lambda: self.access._writer.pause is None)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        run = asyncio.create_task(self.access.run())
        try:
            await self.until(
                lambda: bool(self.access._writer._written) or bool(self.access.faults())
            )
            yield
        finally:
            run.cancel()
            await asyncio.wait({run})

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not holds():
                await asyncio.sleep(0.01)


@pytest.fixture
async def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path)


async def test_the_files_are_for_the_group_and_the_list_is_private(gateway: Gateway) -> None:
    before = os.umask(0o077)
    try:
        async with gateway.running():
            password = await secret_from(lambda end: gateway.access.set_password(ONE, end, "uid 0"))
    finally:
        os.umask(before)
    for path in gateway.access_directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o640, path
    kept = gateway.directory / FILE
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert password not in kept.read_bytes()
    assert len(password) == 43
    assert {one.name for one in gateway.access_directory.iterdir()} == {
        files.PASSWORDS, files.ACCESS, files.LISTENERS, files.LIMIT,
        files.CERTIFICATE, files.KEY, files.AUTHORITY, files.REVOKED,
    }  # fmt: skip


async def test_the_password_file_is_replaced_last(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced: list[str] = []
    replace = files.AccessDirectory._replace

    def recorded(self: files.AccessDirectory, name: str, content: bytes) -> None:
        replaced.append(name)
        replace(self, name, content)

    monkeypatch.setattr(files.AccessDirectory, "_replace", recorded)
    async with gateway.running():
        pass
    assert len(replaced) == 8
    assert replaced[-1] == files.PASSWORDS


async def test_nothing_is_written_while_nothing_changes(gateway: Gateway) -> None:
    async with gateway.running():
        before = (gateway.access_directory / files.PASSWORDS).stat()
        await asyncio.sleep(10 * LOOK)
        gateway.access.update(ONE)
        gateway.access.forget(ONE)  # is no user
        await asyncio.sleep(10 * LOOK)
        assert (gateway.access_directory / files.PASSWORDS).stat() == before


async def test_users_outlive_the_process_and_certificates_their_names(gateway: Gateway) -> None:
    async with gateway.running():
        await secret_from(lambda end: gateway.access.set_password(ONE, end, "uid 0"))
        csr = request(make_key("ec-p256")).decode()
        chain = await gateway.access.issue_certificate(OTHER, csr, {"days": 30}, "uid 0")
        authority = await gateway.access.authority()
    leaf, _ = read_certificates(chain.encode())
    assert leaf.subject.rfc4514_string() == f"CN={OTHER}"
    assert chain.endswith(authority)
    assert authority == gateway.file(files.AUTHORITY)

    gateway.new_process()
    async with gateway.running():
        assert gateway.access.list_users() == (
            (ONE, "child", ("password",), (ONE,)),
            (OTHER, "child", ("certificate",), (OTHER,)),
        )
        assert await gateway.access.authority() == authority


async def test_a_forgotten_child_is_gone_for_good(gateway: Gateway) -> None:
    async with gateway.running():
        await secret_from(lambda end: gateway.access.set_password(ONE, end, "uid 0"))
        await secret_from(lambda end: gateway.access.add_program("bus", [ONE, OTHER], end, "uid 0"))
        assert f"{ONE}:" in gateway.file(files.PASSWORDS)
        gateway.admitted.remove(ONE)
        gateway.access.forget(ONE)
        await gateway.until(lambda: f"{ONE}:" not in gateway.file(files.PASSWORDS))
        assert ONE not in gateway.file(files.ACCESS)
        assert OTHER in gateway.file(files.ACCESS)
    kept = decode((gateway.directory / FILE).read_bytes())
    assert set(kept.users) == {"bus"}
    assert kept.users["bus"].children == (OTHER,)


async def test_the_certificate_is_renewed_in_time_and_after_a_jump_of_the_clock(
    gateway: Gateway,
) -> None:
    def serial() -> int:
        return x509.load_pem_x509_certificate(
            gateway.file(files.CERTIFICATE).encode()
        ).serial_number

    async def moved(wall: int) -> None:
        before, gateway.wall = serial(), wall
        await gateway.until(lambda: serial() != before)

    start = gateway.wall
    async with gateway.running():
        first, gateway.wall = serial(), start + (SERVER_DAYS * 2 // 3 - 2) * DAY
        await asyncio.sleep(10 * LOOK)
        assert serial() == first
        await moved(start + (SERVER_DAYS * 2 // 3 + 2) * DAY)
        await moved(start)  # it is not valid yet
        await moved(start + 3 * 365 * DAY)


async def test_without_a_key_of_the_store_local_programs_are_served(gateway: Gateway) -> None:
    async def sealed(_: object) -> object:
        raise StoreSealed("the vault is sealed")

    gateway.secrets.get = sealed  # type: ignore[assignment,method-assign]  # it fails
    async with gateway.running():
        await gateway.until(lambda: bool(gateway.access._writer._written))
        assert gateway.file(files.LISTENERS) == ""
        assert "gatewayd:" in gateway.file(files.PASSWORDS)
        assert any("certificate" in fault for fault in gateway.access.faults())
        with pytest.raises(StoreSealed):
            await gateway.access.authority()


@pytest.mark.parametrize("content", [b"damaged", b'{"version": 9, "revoked": {}}\n'])
async def test_a_list_that_cannot_be_read_is_left_alone(gateway: Gateway, content: bytes) -> None:
    (gateway.directory / FILE).write_bytes(content)
    async with gateway.running():
        assert gateway.access.faults()
        with pytest.raises(StoreUnavailable):
            await secret_from(lambda end: gateway.access.set_password(ONE, end, "uid 0"))
        assert (gateway.directory / FILE).read_bytes() == content
        assert not list(gateway.access_directory.iterdir())


async def test_files_that_the_broker_has_not_read_are_written_again(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway.running():
        first = gateway.written()
        gateway.pass_time(3)
        await gateway.until(lambda: gateway.written() != first)
        assert not gateway.access.faults()
        second = gateway.written()
        gateway.pass_time(60)
        await gateway.until(lambda: gateway.written() != second)
        assert gateway.access.faults()
        await gateway.read_by_the_broker(200)
        assert not gateway.access.faults()
        entries = [getattr(one, "message_id", "") for one in caplog.records]
        assert [one for one in entries if one] == ["broker-unread", "broker-read"]
        last = gateway.written()
        gateway.ahead += 1000
        await asyncio.sleep(10 * LOOK)
        assert gateway.written() == last


async def test_what_followed_a_change_at_once_is_written_again_though_it_was_copied(
    gateway: Gateway,
) -> None:
    async with gateway.running():
        await secret_from(lambda end: gateway.access.set_password(ONE, end, "uid 0"))
        await gateway.until(lambda: f"{ONE}:" in gateway.file(files.PASSWORDS))
        first = gateway.written()
        await gateway.copy()
        gateway.pass_time(3)
        await gateway.until(lambda: gateway.written() != first)  # mosquitto may have missed it
        again = gateway.written()
        await gateway.read_by_the_broker(5)
        assert gateway.written() == again
        await secret_from(lambda end: gateway.access.set_password(OTHER, end, "uid 0"))
        await gateway.until(lambda: f"{OTHER}:" in gateway.file(files.PASSWORDS))
        alone = gateway.written()
        await gateway.read_by_the_broker(3)
        assert gateway.written() == alone, "nothing was in the way"


async def test_what_cannot_be_written_is_reported_and_tried_again(gateway: Gateway) -> None:
    gateway.access_directory.rmdir()
    async with gateway.running():
        assert any(str(gateway.access_directory) in fault for fault in gateway.access.faults())
        with pytest.raises(StoreUnavailable):
            await secret_from(lambda end: gateway.access.set_password(ONE, end, "uid 0"))
        gateway.access_directory.mkdir()
        gateway.access._stale.set()
        await gateway.until(lambda: not gateway.access.faults())
        assert f"{ONE}:" in gateway.file(files.PASSWORDS)


async def test_a_list_that_cannot_be_kept_changes_nothing(gateway: Gateway) -> None:
    async with gateway.running():
        (gateway.directory / f"{FILE}.new").mkdir()
        with pytest.raises(StoreUnavailable):
            await secret_from(lambda end: gateway.access.set_password(ONE, end, "uid 0"))
        assert gateway.access.list_users() == ()
        assert ONE not in gateway.file(files.PASSWORDS)


@pytest.mark.parametrize(
    "options", [{"days": 0}, {"days": 4000}, {"days": True}, {"days": "1"}, {"other": 1}]
)
async def test_options_of_a_certificate_are_checked(
    gateway: Gateway, options: dict[str, object]
) -> None:
    async with gateway.running():
        csr = request(make_key("ec-p256")).decode()
        with pytest.raises(InvalidArgs):
            await gateway.access.issue_certificate(ONE, csr, options, "uid 0")
        with pytest.raises(InvalidArgs):
            await gateway.access.issue_certificate(ONE, "no request", {}, "uid 0")


async def test_a_program_needs_a_name_and_children(gateway: Gateway) -> None:
    async with gateway.running():
        for name, children in (("gatewayd", [ONE]), ("bus", []), ("bus", ["no child"])):
            with pytest.raises(InvalidArgs):
                await gateway.access.add_program(name, children, 1, "uid 0")
        with pytest.raises(InvalidArgs):
            await gateway.access.revoke("bus", "uid 0")


async def test_a_reader_that_is_gone_is_reported(gateway: Gateway) -> None:
    async with gateway.running():
        reading, writing = os.pipe()
        os.close(reading)
        try:
            with pytest.raises(InvalidArgs):
                await gateway.access.set_password(ONE, writing, "uid 0")
        finally:
            os.close(writing)


def test_the_directory_can_be_cleared(tmp_path: Path) -> None:
    directory = files.AccessDirectory(BrokerPlaces(tmp_path / "nothing", tmp_path / "socket"))
    directory.clear()
    directory.path.mkdir()
    directory.write({files.PASSWORDS: b"", files.ACCESS: b""})
    directory.clear()
    assert not list(directory.path.iterdir())


def test_each_address_has_its_listeners() -> None:
    settings = BrokerSettings(port=1, certificate_port=0, addresses=("192.0.2.1", "2001:db8::1"))
    text = files.listeners(settings, Path("/x"))
    assert [line for line in text.splitlines() if line.startswith("listener ")] == [
        "listener 1 192.0.2.1", "listener 1 2001:db8::1",
    ]  # fmt: skip
    assert "require_certificate" not in text
    every = files.listeners(BrokerSettings(), Path("/x"))
    assert "listener 8883\n" in every
    assert every.index("require_certificate true") > every.index("listener 8884\n")
    assert not list(BrokerSettings().problems())
    assert list(BrokerSettings(port=1, certificate_port=1).problems())


@pytest.mark.parametrize("name", ["", "höst", "under_score", "a" * 64])
def test_an_odd_host_name_is_no_name_of_the_broker(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: name)
    assert names_of_this_host()[:2] == ("gateway", "gateway.local")


async def test_names_of_every_kind_are_in_the_certificate(tmp_path: Path) -> None:
    names = ("gäteway.local", "fe80::1%lan0", "192.0.2.7")
    gateway = Gateway(tmp_path, BrokerSettings(names=names))
    async with gateway.running():
        (made,) = read_certificates(gateway.file(files.CERTIFICATE).encode())
    listed = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert listed.get_values_for_type(x509.DNSName) == ["xn--gteway-bua.local"]
    assert {str(one) for one in listed.get_values_for_type(x509.IPAddress)} == {
        "fe80::1", "192.0.2.7",
    }  # fmt: skip


async def test_a_child_that_is_forgotten_on_a_full_disk_is_out_and_may_come_back(
    gateway: Gateway,
) -> None:
    async with gateway.running():
        await secret_from(lambda end: gateway.access.set_password(ONE, end, "uid 0"))
        obstacle = gateway.directory / f"{FILE}.new"
        obstacle.mkdir()
        gateway.access.forget(ONE)
        await gateway.until(lambda: f"{ONE}:" not in gateway.file(files.PASSWORDS))
        await gateway.until(lambda: bool(gateway.access.faults()))
        obstacle.rmdir()
        await secret_from(lambda end: gateway.access.set_password(ONE, end, "uid 0"))
        await gateway.until(lambda: f"{ONE}:" in gateway.file(files.PASSWORDS))
        await asyncio.sleep(10 * LOOK)
        assert gateway.access.list_users() == ((ONE, "child", ("password",), (ONE,)),)


async def test_a_damaged_list_can_be_removed(gateway: Gateway) -> None:
    (gateway.directory / FILE).write_bytes(b"damaged")
    async with gateway.running():
        assert gateway.access.faults()
        (gateway.directory / FILE).unlink()
        await gateway.until(lambda: not gateway.access.faults())
        assert gateway.access.list_users() == ()


def test_the_names_of_this_host_have_no_loopback() -> None:
    name, local, *addresses = names_of_this_host()
    assert local == f"{name}.local"
    assert "127.0.0.1" not in addresses
