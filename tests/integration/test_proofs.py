"""Devices prove who they are to the real daemon, with real TLS servers, on a LAN of namespaces."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gatewayd.simulator.site import Site
from tests.integration.test_identity import ctl, shown, until_shown
from tests.integration.test_identity import site as site_with_rules
from tests.support.device_certificates import (
    DeviceCertificate,
    Vendor,
    vendor,
)
from tests.support.responder import Announced, Responder
from tests.support.tls_devices import TlsDevices, tls_devices

pytestmark = pytest.mark.namespace

CAMERA, LAMP = "_axis-video._tcp", "_lamp._tcp"
RULES = """\
[[rule]]
name = "cameras"
match = {{ service = "_axis-video._tcp" }}
extract = {{ serial = "txt.macaddress" }}
action = "register"
provider = "alibaba"
product = "{product}"
route = "direct-preregistration-free"
device_name = "cam-{{serial|lower}}"
require = {{ trust = "proven" }}
proof = "axis"
[[rule]]
name = "lamps"
match = {{ service = "_lamp._tcp" }}
extract = {{ serial = "txt.sn" }}
action = "register"
provider = "alibaba"
product = "{product}"
route = "direct-preregistration-free"
device_name = "lamp-{{serial}}"
require = {{ trust = "pinned" }}
proof = "lamp"
"""
CONFIG = """\
[proof.axis]
port = 443
ca_files = ["{ca}"]
retry = 10
[proof.lamp]
port = 443
retry = 10
"""
NOTHING = ("nothing", ["_none._tcp"], "serial", "txt.none")


@dataclass
class ProvingLan:
    """A site whose rules have cameras and lamps prove keys, with its devices."""

    one: Site
    lan: Responder
    tls: TlsDevices
    vendor: Vendor
    ca: Path

    async def camera(self, n: int, certificate: DeviceCertificate | None = None) -> Announced:
        """Have a camera serve TLS, by default with its vendor's certificate, and announce it."""
        made = announced(n)
        await self.tls.serve(made.address, certificate or self.vendor.device(serial(n)))
        await self.lan.add(made)
        return made

    async def until(self, name: str, **wanted: Any) -> str:
        return await until_shown(self.one, f"{name} to be {wanted}", Name=name, **wanted)

    async def proof(self, device: str) -> dict[str, Any]:
        facts = (await shown(self.one))[device].get("Proof", {})
        return {name: value["data"] for name, value in facts.items()}


def serial(n: int) -> str:
    return f"ACCC8E0000{n:02X}"


def announced(n: int) -> Announced:
    return Announced(CAMERA, f"Camera {n}", f"camera{n}", f"10.77.1.{n}", {"macaddress": serial(n)})


def lamp(n: int) -> Announced:
    return Announced(LAMP, f"Lamp {n}", f"lamp{n}", f"10.77.1.{n}", {"sn": f"L-{n}"})


@contextlib.asynccontextmanager
async def proving(tmp_path: Path) -> AsyncIterator[ProvingLan]:
    axis, ca = vendor(), tmp_path / "axis.pem"
    ca.write_text(axis.pem)
    types = ("nothing", ["_none._tcp", CAMERA, LAMP], "serial", "txt.none")
    configured = CONFIG.format(ca=ca)
    async with (
        site_with_rules(tmp_path, types, listed=configured, more=RULES) as (one, lan),
        tls_devices(one.children, tmp_path / "devices") as tls,
    ):
        yield ProvingLan(one, lan, tls, axis, ca)


async def test_admitted_held_frozen_and_held(tmp_path: Path) -> None:
    """A vendor's certificate, a wrong chain, a changed key, one that answers in another's place."""
    async with proving(tmp_path) as here:
        await here.camera(1)
        child = await here.until("Camera 1", State="online", Trust="proven")
        proof = await here.proof(child)
        assert proof["Identity"] == serial(1).lower()
        assert proof["Signer"] == "CN=Axis device CA"
        assert proof["Key"] == proof["PinnedKey"]

        await here.camera(2, vendor("Mallory").device(serial(2)))
        held = await here.until("Camera 2", State="pending", Reason="proof-not-trusted")
        assert (await here.proof(held))["Signer"] == "CN=Mallory device CA"

        await here.camera(3)
        frozen = await here.until("Camera 3", State="online")
        changed = announced(3)
        await here.tls.serve(changed.address, here.vendor.device(serial(3)))
        await here.lan.remove(changed)
        await here.until("Camera 3", State="offline")
        await here.lan.add(changed)
        await here.until("Camera 3", State="frozen", Reason="key-changed")
        said = await ctl(here.one, "explain", frozen)
        assert "Refused: sha256:" in said

        thief = replace(announced(4), txt={"macaddress": serial(4)})
        await here.tls.serve(thief.address, here.vendor.device(serial(1)))
        await here.lan.add(thief)
        conflict = await here.until("Camera 4", State="pending", Reason="proof-of-another")
        facts = (await shown(here.one))[conflict]
        assert (facts["Conflict"], facts["ConflictWith"]) == ("proof-of-another", [child])
        await here.until("Camera 1", State="online")
