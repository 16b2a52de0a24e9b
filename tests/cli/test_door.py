"""`gatewayctl door`, over a real bus, on the list of users that gatewayd keeps."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gatewayd.ca.certificates import read_certificates, request
from gatewayd.ca.keys import make_key
from gatewayd.dbus.methods import BROKER_METHODS
from gatewayd.dbus.names import NAME, OWN_BROKER
from gatewayd.dbus.objects import ExportedObject
from gatewayd.device.identity import DeviceId
from gatewayd.messages.broker import files
from gatewayd.messages.broker.access import BrokerAccess
from gatewayd.messages.broker.certificates import BrokerAuthority
from gatewayd.messages.broker.settings import BrokerPlaces, BrokerSettings
from gatewayd.messages.broker.users import Standing
from gatewayd.runtime.clock import SYSTEM_CLOCK
from gatewayd.simulator.bus import PrivateBus
from tests.dbus.support import OTHERS, RecordingCommands, run, served, view
from tests.support.fakes import MemoryRecords, MemorySecrets
from tests.support.gatewayctl import ctl

pytestmark = pytest.mark.integration

ONE, OTHER = DeviceId("child-0123456789ab"), DeviceId("child-ba9876543210")


@pytest.fixture
async def passwords(bus: PrivateBus, tmp_path: Path) -> AsyncIterator[Path]:
    """The daemon runs, and has written the password file that is given."""
    commands = RecordingCommands(ONE, OTHER)
    directory = tmp_path / "access"
    directory.mkdir()
    access = BrokerAccess(
        BrokerSettings(names=("gateway.local",)),
        BrokerPlaces(directory, tmp_path / "socket"),
        tmp_path,
        BrokerAuthority(MemorySecrets(MemoryRecords())),
        standing=lambda _: Standing.ADMITTED,
        resolve=commands.resolve,
        clock=SYSTEM_CLOCK,
    )
    broker = ExportedObject(OWN_BROKER, None, BROKER_METHODS.bind(access))
    running = asyncio.create_task(access.run())
    async with served(bus, commands, view(ONE), view(OTHER), further=(broker,), gather=0.02):
        async with asyncio.timeout(30):
            while not access._writer._written:
                await asyncio.sleep(0.01)
        yield directory / files.PASSWORDS
        running.cancel()
        await asyncio.wait({running})


async def done(bus: PrivateBus, *words: str) -> str:
    """Run a command of the door that succeeds; return what it prints."""
    status, printed = await ctl(bus, "door", *words)
    assert status == 0, printed
    return printed


async def test_a_password_is_shown_once_and_another_one_replaces_it(
    bus: PrivateBus, passwords: Path, tmp_path: Path
) -> None:
    first = (await done(bus, "password", "child-01")).strip()
    line = passwords.read_text().splitlines()[0]
    assert line.startswith(f"{ONE}:$7$")
    assert first not in passwords.read_text()
    file = tmp_path / "password"
    assert await done(bus, "password", ONE, "--output", str(file)) == ""
    assert file.read_text() not in (first, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert passwords.read_text().splitlines()[0] != line


async def test_users_are_listed_until_they_are_revoked(bus: PrivateBus, passwords: Path) -> None:
    await done(bus, "password", ONE)
    await done(bus, "program", "modbus", "--children", ONE, OTHER)
    lines = (await done(bus, "list")).splitlines()
    assert [line.split() for line in lines[1:]] == [
        [ONE, "child", "password", ONE],
        ["modbus", "program", "password", f"{ONE},", OTHER],
    ]
    await done(bus, "revoke", "modbus")
    await done(bus, "revoke", "child-01")
    assert len((await done(bus, "list")).splitlines()) == 1
    assert [line.partition(":")[0] for line in passwords.read_text().splitlines()] == ["gatewayd"]
    assert (await ctl(bus, "door", "revoke", "modbus"))[0] == 1


async def test_a_certificate_is_issued_for_the_key_of_a_request(
    bus: PrivateBus, passwords: Path, tmp_path: Path
) -> None:
    file = tmp_path / "request.pem"
    file.write_bytes(request(make_key("ec-p256")))
    printed = await done(bus, "certificate", ONE, "--csr", str(file), "--days", "7")
    leaf, authority = read_certificates(printed.encode())
    assert leaf.subject.rfc4514_string() == f"CN={ONE}"
    assert leaf.issuer == authority.subject
    assert read_certificates((await done(bus, "authority")).encode()) == [authority]
    status, printed = await ctl(bus, "door", "certificate", ONE, "--csr", str(passwords))
    assert status == 1
    assert "certificate request" in printed


@pytest.mark.parametrize("prefix", OTHERS)
async def test_only_an_administrator_changes_who_may_use_it(
    bus: PrivateBus, passwords: Path, prefix: tuple[str, ...]
) -> None:
    before = passwords.read_text()
    busctl = [*prefix, "busctl", f"--address={bus.address}", "call", NAME, *OWN_BROKER]
    for word in ("ListUsers", "GetAuthority"):
        status, printed = await run(*busctl, word)
        assert status == 0, printed
    for words in (["Revoke", "s", ONE], ["IssueCertificate", "ssa{sv}", ONE, "", "0"]):
        status, printed = await run(*busctl, *words)
        assert status == 1
        assert "denied" in printed.lower() or "authori" in printed.lower(), printed
    assert passwords.read_text() == before


async def test_a_gateway_without_a_broker_of_its_own_says_how_to_have_one(
    bus: PrivateBus,
) -> None:
    async with served(bus, RecordingCommands(ONE), view(ONE)):
        for words in (("list",), ("authority",), ("password", ONE), ("revoke", ONE)):
            status, printed = await ctl(bus, "door", *words)
            assert status == 1
            assert "broker is not enabled" in printed
            assert "[messages.broker]" in printed


async def test_a_cloud_without_a_device_ca_is_no_riddle(bus: PrivateBus) -> None:
    async with served(bus, RecordingCommands(ONE), view(ONE)):
        status, printed = await ctl(bus, "ca", "show", "--cloud", "far-east")
    assert status == 1
    assert "gatewayctl clouds" in printed
