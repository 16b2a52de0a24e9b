"""A unit that is enabled before its child was ever seen: how long it waits once that is registered.

The time is that of a clock that jumps: it is counted, not measured, and has in it whatever waits.
"""

from __future__ import annotations

import asyncio
import configparser
import json
import re
from pathlib import Path

import pytest

from gatewayd.cloud.provider import KeepSecret, Outcome
from gatewayd.credentials.holders import Holder
from gatewayd.credentials.server import CredentialServer, CredentialSocket
from gatewayd.credentials.settings import CredentialSettings, UnitSettings
from gatewayd.device.record import CloudName, Record
from tests.credentials.support import client, listener
from tests.support.fakes import MemoryRecords
from tests.support.renewing_cloud import HoldableCloud
from tests.support.stage import NameRules, Stage
from tests.support.tasks import in_background

TOP = Path(__file__).parents[2]
SOCKET = "/run/gatewayd/credentials"
EXAMPLES = sorted(
    path
    for path in (TOP / "systemd/examples").iterdir()
    if path.suffix in (".service", ".conf") and SOCKET in path.read_text()
)
PROMISED = 10.0
"""Seconds from the registration of a child until its unit has what it needs to run."""
PAUSE = 3.0
"""Seconds until a unit that got nothing asks again (RestartSec=)."""
MANAGER = 90.0
"""Seconds that systemd gives a unit to start, where it does not say (DefaultTimeoutStartSec=)."""
SETTINGS = CredentialSettings(units={"mosquitto-bridge": UnitSettings(child="TH20-1")})
ADDRESS = "unit/mosquitto-bridge.service/child.json"


def parsed(unit: str) -> configparser.ConfigParser:
    """Return a unit whose options occur once in a section."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # as its manual says
    parser.read_string(unit)
    return parser


def guide() -> str:
    """Return the unit that the guide shows."""
    text = (TOP / "docs/how-to/give-a-credential.md").read_text()
    (shown,) = [one for one in re.findall(r"```ini\n(.*?)```", text, re.DOTALL) if SOCKET in one]
    return str(shown)


@pytest.mark.parametrize("unit", [*(path.name for path in EXAMPLES), "guide"])
def test_a_unit_that_got_nothing_asks_again_soon_and_without_end(unit: str) -> None:
    text = guide() if unit == "guide" else (TOP / "systemd/examples" / unit).read_text()
    found = parsed(text)
    assert found["Unit"]["StartLimitIntervalSec"] == "0"
    assert found["Unit"]["Wants"] == "gatewayd-credential@%N.path"
    service = found["Service"]
    assert service["LoadCredential"] == f"child.json:{SOCKET}"
    assert service["Restart"] == "on-failure"
    assert float(service["RestartSec"].removesuffix("s")) <= PAUSE
    assert "TimeoutStartSec" not in service
    assert SETTINGS.wait < MANAGER, "else systemd ends the unit while it waits"


class NotingCloud(HoldableCloud):
    """A cloud that notes when its child was registered."""

    registered = 0.0

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        outcome = await super().register(name, keep)
        self.registered = asyncio.get_running_loop().time()
        return outcome


async def started(path: Path) -> float:
    """Start a unit as systemd does, again and again; return when it has its credential."""
    loop = asyncio.get_running_loop()
    while True:
        with client(path, ADDRESS) as connection:
            connection.setblocking(False)
            text = b""
            while part := await loop.sock_recv(connection, 65536):
                text += part
        if text:
            assert json.loads(text)["name"] == "p/TH20-1"
            return loop.time()
        await asyncio.sleep(PAUSE)


async def waited(path: Path, absent: float) -> float:
    """Return for how long a unit waits after its child is registered.

    absent: seconds for which the unit has run when the child is seen first.
    """
    cloud, records = NotingCloud(), MemoryRecords()
    stage = Stage(records, cloud, rules=NameRules(held=True))

    async def given(holder: Holder, record: Record) -> None:
        """Nothing is noted."""

    source = stage.app.keeper.held
    server = CredentialServer(SETTINGS, records, source, given)
    source.listen(server)
    with listener(path) as listening:
        async with in_background(server.run([CredentialSocket(listening)])), stage.running():
            unit = asyncio.create_task(started(path))
            await asyncio.sleep(absent)
            assert not unit.done()
            stage.announce("TH20-1")
            ended = await unit
    return ended - cloud.registered


@pytest.mark.root  # as systemd, which alone gets what is for units
@pytest.mark.jumping_clock
async def test_a_unit_has_its_credential_soon_after_the_registration(tmp_path: Path) -> None:
    """Whenever it has begun to wait: in the midst, at the end, and between two of its tries."""
    turn = SETTINGS.wait + PAUSE
    moments = [turn * step / 42 for step in range(1, 85)]
    waits = [await waited(tmp_path / f"{n}", moment) for n, moment in enumerate(moments)]
    assert max(waits) <= PROMISED
    assert max(waits) > 1.0, "some have met the unit between two of its tries"
    assert min(waits) < 1.0, "and others have met it as it asked: that has no wait of its own"
