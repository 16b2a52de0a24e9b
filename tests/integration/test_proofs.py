"""Devices prove who they are to the real daemon, with real TLS servers, on a LAN of namespaces."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gatewayd.device.proof import Pin
from gatewayd.simulator.site import Site
from tests.integration.test_identity import ctl, restarted, shown, until_shown
from tests.integration.test_identity import site as site_with_rules
from tests.support.device_certificates import (
    DeviceCertificate,
    Vendor,
    self_signed,
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

    @property
    def state(self) -> Path:
        return self.one.directory / "state"

    async def camera(self, n: int, certificate: DeviceCertificate | None = None) -> Announced:
        """Have a camera serve TLS, by default with its vendor's certificate, and announce it."""
        made = announced(n)
        await self.tls.serve(made.address, certificate or self.vendor.device(serial(n)))
        await self.lan.add(made)
        return made

    async def leave(self, device: Announced) -> None:
        """Let a device say goodbye and be silent; return when its child is absent."""
        await self.lan.remove(device)
        await self.until(device.instance, SubState="absent")

    async def come(self, device: Announced) -> None:
        """Let a device come back; return when its child is no longer absent."""
        await self.lan.add(device)

        async def is_back() -> bool:
            found = (await shown(self.one)).values()
            return any(f["Name"] == device.instance and f["SubState"] != "absent" for f in found)

        await self.one.until(is_back, f"{device.instance} to be back")

    async def announce(self, child: str, device: Announced, address: str) -> None:
        """Announce a child differently; wait until it has proven its key again, at an address."""
        before = (await self.proof(child))["Timestamp"]
        await self.lan.add(device)

        async def is_newer() -> bool:
            proof = await self.proof(child)
            return bool(proof["Timestamp"] > before and proof["Address"] == address)

        await self.one.until(is_newer, f"{child} to be asked at {address}")

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


async def test_a_key_that_changes_is_refused_until_an_operator_decides(tmp_path: Path) -> None:
    """Return after absence, a restart in the midst, both verbs; and the pin stays all the while."""
    async with proving(tmp_path) as here:
        first, second = here.vendor.device(serial(1)), here.vendor.device(serial(1))
        device = await here.camera(1, first)
        child = await here.until("Camera 1", State="online")
        pinned = (await here.proof(child))["PinnedKey"]

        await here.leave(device)
        await here.come(device)
        await here.until("Camera 1", State="online", Trust="proven")

        await here.tls.serve(device.address, second)
        await restarted(here.one)
        await here.until("Camera 1", State="frozen", Reason="key-changed")
        await restarted(here.one)
        await here.until("Camera 1", State="frozen", Reason="key-changed")
        refused = (await here.proof(child))["RefusedKey"]
        assert refused != pinned

        await ctl(here.one, "approve", child)  # the old one is to count, and is not there
        await here.until("Camera 1", State="frozen", Reason="key-changed")
        await here.tls.serve(device.address, first)
        await ctl(here.one, "approve", child)
        await here.until("Camera 1", State="online", Trust="proven")
        assert (await here.proof(child))["PinnedKey"] == pinned

        await here.tls.serve(device.address, second)
        await here.leave(device)
        await here.come(device)
        await here.until("Camera 1", State="frozen")
        said = await here.one.call("Consequences", "ss", child, "Repin")
        assert refused in str(said)
        await ctl(here.one, "repin", child, "--yes")
        await here.until("Camera 1", State="online", Trust="proven")
        proof = await here.proof(child)
        assert (proof["PinnedKey"], proof.get("RefusedKey")) == (refused, None)
        assert "repinned" in await ctl(here.one, "log")


async def test_another_address_is_asked_and_a_forged_one_freezes_nothing(tmp_path: Path) -> None:
    async with proving(tmp_path) as here:
        own = here.vendor.device(serial(1))
        device = await here.camera(1, own)
        child = await here.until("Camera 1", State="online")

        # a host announces its own address for the camera, which still answers at the old one
        await here.tls.serve("10.77.2.9", here.vendor.device(serial(1)))
        await here.announce(child, replace(device, address="10.77.2.9"), device.address)
        await here.until("Camera 1", State="online")

        # the camera moves, and is asked there
        await here.tls.serve("10.77.1.101", own)
        await here.tls.silence(device.address)
        await here.announce(child, replace(device, address="10.77.1.101"), "10.77.1.101")
        await here.until("Camera 1", State="online", Trust="proven")

        # another takes its place at a third address
        await here.tls.silence("10.77.1.101")
        await here.tls.serve("10.77.1.102", self_signed("camera1"))
        await here.lan.add(replace(device, address="10.77.1.102"))
        await here.until("Camera 1", State="frozen", Reason="key-changed")


async def test_another_childs_certificate_in_a_childs_place_freezes_it_in_conflict(
    tmp_path: Path,
) -> None:
    async with proving(tmp_path) as here:
        first, second = here.vendor.device(serial(1)), here.vendor.device(serial(2))
        one, two = await here.camera(1, first), await here.camera(2, second)
        child = await here.until("Camera 1", State="online")
        other = await here.until("Camera 2", State="online")
        await here.leave(one)
        await here.tls.serve(one.address, second)
        await here.come(one)
        await here.until("Camera 1", State="frozen", Reason="key-of-another")
        facts = (await shown(here.one))[child]
        assert (facts["Conflict"], facts["ConflictWith"]) == ("proof-of-another", [other])
        assert two.instance == "Camera 2"
        await here.until("Camera 2", State="online")


async def test_what_cannot_be_asked_waits_says_why_and_is_tried_again(tmp_path: Path) -> None:
    """A closed port, TLS 1.0, a handshake without an end, a megabyte of certificates."""
    async with proving(tmp_path) as here:
        chain = DeviceCertificate(
            (own := here.vendor.device(serial(4))).certificate, own.key, own.chain * 3_000
        )
        await here.tls.serve(
            announced(2).address, here.vendor.device(serial(2)), "-tls1", "-cipher",
            "ALL:@SECLEVEL=0",
        )  # fmt: skip
        silent = announced(3).address
        await here.tls.run(
            silent, sys.executable, "-m", "tests.support.tls_devices", "silent", silent
        )
        await here.tls.serve(announced(4).address, chain)
        for n in (1, 2, 3, 4):
            await here.lan.add(announced(n))
        for n, reason in enumerate(
            ("proof-port-closed", "proof-tls-too-old", "proof-timed-out", "proof-too-large"), 1
        ):
            await here.until(f"Camera {n}", State="pending", Reason=reason)
        for n in (1, 2, 3, 4):
            await here.tls.serve(announced(n).address, here.vendor.device(serial(n)))
        for n in (1, 2, 3, 4):
            await here.until(f"Camera {n}", State="online", Trust="proven")


async def test_a_child_that_is_back_without_its_port_waits_offline(tmp_path: Path) -> None:
    async with proving(tmp_path) as here:
        own = here.vendor.device(serial(1))
        device = await here.camera(1, own)
        child = await here.until("Camera 1", State="online")
        await here.leave(device)
        await here.tls.silence(device.address)
        await here.lan.add(device)
        await here.until("Camera 1", State="registered", Reason="proof-port-closed")
        await here.tls.serve(device.address, own)
        await ctl(here.one, "retry", child)
        await here.until("Camera 1", State="online", Trust="proven")


async def test_ca_files_that_have_changed_count_at_a_reload(tmp_path: Path) -> None:
    async with proving(tmp_path) as here:
        here.ca.write_text(vendor("Other").pem)
        device = await here.camera(1)
        await here.until("Camera 1", State="pending", Reason="proof-not-trusted")
        here.ca.write_text(here.vendor.pem)
        await ctl(here.one, "reload")
        await here.until("Camera 1", State="online", Trust="proven")

        here.ca.write_text(vendor("Other").pem)
        await here.leave(device)
        await here.come(device)  # the key is the same, and its vendor's word is gone
        await here.until("Camera 1", State="registered", Reason="proof-not-trusted")
        here.ca.write_text(here.vendor.pem)
        await ctl(here.one, "reload")
        await here.until("Camera 1", State="online", Trust="proven")


async def test_a_lamp_is_pinned_when_it_is_approved(tmp_path: Path) -> None:
    async with proving(tmp_path) as here:
        own, device = self_signed("lamp"), lamp(1)
        await here.tls.serve(device.address, own)
        await here.lan.add(device)
        child = await here.until("Lamp 1", State="pending", Reason="key-not-pinned")
        assert "Key: sha256:" in await ctl(here.one, "explain", child)
        await ctl(here.one, "approve", child)
        await here.until("Lamp 1", State="online", Trust="pinned")
        await here.leave(device)
        await here.tls.serve(device.address, self_signed("lamp"))
        await here.come(device)
        await here.until("Lamp 1", State="frozen", Reason="key-changed")


async def test_a_flood_of_devices_that_never_prove_anything_keeps_none_out(tmp_path: Path) -> None:
    async with proving(tmp_path) as here:
        silent = "10.77.2.1"
        await here.tls.run(
            silent, sys.executable, "-m", "tests.support.tls_devices", "silent", silent
        )
        crowd = [replace(announced(n), address=silent) for n in range(60, 140)]
        await here.lan.add(*crowd)
        await here.camera(1)
        await here.until("Camera 1", State="online", Trust="proven")


async def test_a_kill_loses_no_pin_and_pins_nothing_twice(tmp_path: Path) -> None:
    """Killed with its first durable step, and again with the last."""
    async with proving(tmp_path) as here:
        assert await here.one.stop() == 0
        pins: list[str] = []
        for step in ("intent-on-record", "activation-confirmed"):
            await here.one.launch("tests.support.kill_points", step)
            if not pins:
                await here.camera(1)
            assert here.one.daemon is not None
            assert await here.one.daemon.wait() == -signal.SIGKILL
            await here.one.stop()
            with contextlib.closing(sqlite3.connect(here.state / "state.db")) as file:
                pins += [pin for (pin,) in file.execute("SELECT pin FROM record") if pin]
        await here.one.start()
        child = await here.until("Camera 1", State="online", Trust="proven")
        proof = await here.proof(child)
        assert len(pins) == 2
        assert {Pin.parse(one).key for one in pins} == {proof["PinnedKey"]}
        assert {Pin.parse(one).at for one in pins} == {proof["PinnedTimestamp"]}
