"""`gatewayctl credential`, over a real bus: to a file or a pipe, and never to a terminal."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gatewayd.cli.main import commands_for
from gatewayd.credentials.service import CredentialService
from gatewayd.credentials.settings import CredentialSettings
from gatewayd.dbus.methods import CREDENTIAL_METHODS
from gatewayd.dbus.names import HANDED_OVER
from gatewayd.dbus.objects import ExportedObject
from gatewayd.simulator.bus import PrivateBus
from tests.credentials.support import Held, a_record
from tests.dbus.support import RecordingCommands, served, view
from tests.support.fakes import MemoryDecisions, MemoryRecords
from tests.support.gatewayctl import GATEWAYCTL, ctl, validate

pytestmark = pytest.mark.integration

CHILD, OTHER = a_record("TH20-1"), a_record("TH20-2")


@pytest.fixture
async def daemon(bus: PrivateBus) -> AsyncIterator[PrivateBus]:
    """A daemon of which one of two children is handed over."""
    commands, records = RecordingCommands(CHILD.device, OTHER.device), MemoryRecords()
    records.rows = {one.device: one for one in (CHILD, OTHER)}
    service = CredentialService(
        CredentialSettings(), records, Held(CHILD.device),
        sockets=(), directory=None, decisions=MemoryDecisions(), resolve=commands.resolve,
        is_for_holder=lambda _: True,
    )  # fmt: skip
    credentials = ExportedObject(HANDED_OVER, None, CREDENTIAL_METHODS.bind(service))
    views = (view(CHILD.device), view(OTHER.device))
    async with served(bus, commands, *views, further=(credentials,), gather=0.02):
        yield bus


async def test_it_is_written_for_its_owner_alone(daemon: PrivateBus, tmp_path: Path) -> None:
    file = tmp_path / "credential"
    assert await ctl(daemon, "credential", CHILD.device, "--output", str(file)) == (0, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    status, printed = await ctl(daemon, "credential", CHILD.device)
    assert status == 0
    assert json.loads(printed) == json.loads(file.read_text())
    assert json.loads(printed)["device"] == CHILD.device


async def test_it_is_an_object_for_programs_too(daemon: PrivateBus, tmp_path: Path) -> None:
    (command,) = (one for one in commands_for(()) if one.words == "credential")
    file = tmp_path / "credential"
    for words in ((), ("--output", str(file))):
        status, printed = await ctl(daemon, "--json", "credential", CHILD.device, *words)
        validate(printed, command.fields, status)
        assert status == 0
    assert json.loads(printed) == {"File": str(file)}
    status, printed = await ctl(daemon, "--json", "credential", OTHER.device)
    validate(printed, command.fields, status)
    assert status == 1


async def test_who_is_not_handed_over_has_none(daemon: PrivateBus, tmp_path: Path) -> None:
    file = tmp_path / "credential"
    status, told = await ctl(daemon, "credential", OTHER.device, "--output", str(file))
    assert status == 1
    assert "not handed over" in told
    assert not file.exists()


async def test_a_terminal_shows_none(daemon: PrivateBus) -> None:
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *GATEWAYCTL, "--bus", daemon.address, "credential", CHILD.device,
        stdout=theirs, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, told = await process.communicate()
    os.close(theirs)
    os.close(ours)
    assert process.returncode == 1
    assert b"terminal" in told
