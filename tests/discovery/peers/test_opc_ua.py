"""OPC UA on a cable: servers of asyncua that are renamed, restarted and moved."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gatewayd.device.identity import Claim
from gatewayd.discovery.polled.opc_ua import OpcUa, OpcUaSettings
from tests.support.cable import CHILD, MOVED, Cable, laid
from tests.support.far_server import FarServer, far_server
from tests.support.household import household

pytestmark = [pytest.mark.namespace, pytest.mark.root]

TOP = Path(__file__).parents[3]
SERVER = (
    str(TOP / ".venv-peers/bin/python"), str(Path(__file__).with_name("opc_ua_server.py")),
)  # fmt: skip


@pytest.fixture
def cable() -> Iterator[Cable]:
    with laid() as one:
        yield one


@pytest.fixture
async def server(cable: Cable) -> AsyncIterator[FarServer]:
    async with far_server(cable) as one:
        yield one


async def test_a_server_stays_one_child_renamed_restarted_and_elsewhere(
    server: FarServer, tmp_path: Path
) -> None:
    await server.start(*SERVER, "Press 1", str(tmp_path))
    made = OpcUa("plcs", OpcUaSettings(hosts=(CHILD, MOVED)), gap=0.1)
    async with household(made) as home:
        first = await home.shows(lambda one: one.label == "Press 1")
        certificate = (tmp_path / "certificate.der").read_bytes()
        fingerprint = hashlib.sha256(certificate).hexdigest()
        assert Claim("serial", "opcua.certificate", fingerprint) in first.claims
        (view,) = first.views
        assert view["opcua.application-uri"] == "urn:plc.example:press"
        assert view["opcua.policies"] == "None Basic256Sha256"

        await server.start(*SERVER, "Press 2", str(tmp_path))
        await home.shows(lambda one: one.label == "Press 2")

        server.move()
        last = await home.shows(lambda one: MOVED in one.addresses)
        assert not last.conflict
    assert not made.health.dropped
