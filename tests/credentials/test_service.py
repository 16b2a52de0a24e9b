"""What leaves gatewayd is in the log of decisions: once, and also where that failed at first."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatewayd.credentials.server import CredentialSocket
from gatewayd.credentials.service import CredentialService
from gatewayd.credentials.settings import CredentialSettings, UnitSettings
from gatewayd.device.decision_log import DecisionKind
from gatewayd.device.identity import DeviceId
from gatewayd.errors import StoreUnavailable
from tests.credentials.support import Held, a_record, answer, client, listener
from tests.support.fakes import MemoryDecisions, MemoryRecords
from tests.support.tasks import in_background

pytestmark = pytest.mark.root  # as systemd, which alone gets what is for units

CHILD = a_record("TH20-1")


async def test_what_could_not_be_logged_is_logged_the_next_time(tmp_path: Path) -> None:
    records, decisions = MemoryRecords(), MemoryDecisions()
    records.rows[CHILD.device] = CHILD
    place = tmp_path / "s"
    with listener(place) as of_systemd:
        service = CredentialService(
            CredentialSettings(units={"bridge": UnitSettings(child="TH20-1")}),
            records,
            Held(CHILD.device),
            sockets=[CredentialSocket(of_systemd)],
            directory=None,
            decisions=decisions,
            resolve=DeviceId,
            is_for_holder=lambda _: True,
        )
        async with in_background(service.run()):

            async def ask() -> None:
                assert await answer(client(place, "unit/bridge.service/child.json"))

            decisions.failing = StoreUnavailable("the disk is full")
            await ask()
            assert decisions.logged == []
            decisions.failing = None
            await ask()
            await ask()
    entries = [(one.kind, one.device, one.by) for one in decisions.logged]
    assert entries == [(DecisionKind.CREDENTIAL_READ, CHILD.device, "unit bridge.service")], "once"
