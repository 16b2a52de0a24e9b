"""OPC UA servers of another author prove who they are to the real daemon."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from gatewayd.proofs.application import FILE
from gatewayd.simulator.site import end
from tests.integration.test_identity import ctl, shown, until_shown
from tests.integration.test_identity import site as site_with_rules
from tests.support.device_certificates import (
    BEGUN,
    NO_END,
    DeviceCertificate,
    DeviceKey,
    issue,
    rsa_key,
    vendor,
)
from tests.support.responder import Announced

pytestmark = pytest.mark.namespace

TOP = Path(__file__).parents[2]
KIND, PATIENCE = "_opcua-tcp._tcp", 60.0
RULES = """\
[[rule]]
name = "presses"
match = {{ service = "_opcua-tcp._tcp" }}
extract = {{ serial = "txt.sn" }}
action = "register"
provider = "alibaba"
product = "{product}"
route = "direct-preregistration-free"
device_name = "{{serial|lower}}"
require = {{ trust = "proven" }}
proof = "press"
"""
TYPES = ("nothing", ["_none._tcp", KIND], "serial", "txt.none")
CONFIG = """\
[proof.press]
port = 4840
kind = "opc-ua"
ca_files = ["{ca}"]
retry = 10
"""


def uri(n: int) -> str:
    return f"urn:press.example:{n}"


def announced(n: int) -> Announced:
    return Announced(KIND, f"Press {n}", f"press{n}", f"10.77.1.{n}", {"sn": f"PRESS-{n}"}, 4840)


class Presses:
    """The servers, in one process.  folder: for their keys."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process, self._folder = process, folder

    async def serve(self, n: int, shown: DeviceCertificate, key: DeviceKey | None = None) -> None:
        """Have a press show a certificate; key: in place of that of the certificate."""
        folder = self._folder / f"{n}.{len(list(self._folder.iterdir()))}"
        folder.mkdir()
        (folder / "uri").write_text(uri(n))
        (folder / "certificate.der").write_bytes(shown.der)
        (folder / "key.pem").write_bytes((key or shown.key).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ))  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{announced(n).address} {folder}\n".encode())
        async with asyncio.timeout(PATIENCE):
            while b"It serves." not in (line := await self._process.stdout.readline()):
                assert line, "the servers have ended"


@contextlib.asynccontextmanager
async def presses(prefix: Sequence[str], folder: Path) -> AsyncIterator[Presses]:
    """Yield the servers, which are stopped at the end."""
    folder.mkdir()
    process = await asyncio.create_subprocess_exec(
        *prefix, str(TOP / ".venv-peers/bin/python"), str(TOP / "tests/support/opc_ua_devices.py"),
        str(folder.with_name("nodes")), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield Presses(process, folder)
    finally:
        await end(process)


async def test_admitted_held_frozen_and_held(tmp_path: Path) -> None:
    """A vendor's certificate, a wrong chain, a changed key, a certificate without its key."""
    maker, alien, ca = vendor("Press"), vendor("Alien"), tmp_path / "press.pem"
    ca.write_text(maker.pem)
    key, other = rsa_key(), rsa_key()

    def certificate(n: int, key: DeviceKey, root: DeviceCertificate) -> DeviceCertificate:
        subject = x509.Name([x509.NameAttribute(NameOID.SERIAL_NUMBER, f"PRESS-{n}")])
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri(n))])
        return issue(subject, root, BEGUN, NO_END, [names], key=key)

    async with (
        site_with_rules(tmp_path, TYPES, listed=CONFIG.format(ca=ca), more=RULES) as (one, lan),
        presses(one.children, tmp_path / "presses") as servers,
    ):

        async def until(name: str, **wanted: object) -> str:
            return await until_shown(one, f"{name} to be {wanted}", Name=name, **wanted)

        genuine = certificate(1, key, maker.root)
        await servers.serve(1, genuine)
        await lan.add(announced(1))
        child = await until("Press 1", State="online", Trust="proven")
        proof = {k: v["data"] for k, v in (await shown(one))[child]["Proof"].items()}
        assert (proof["Identity"], proof["Signer"]) == ("press-1", "CN=Press root CA")
        assert proof["Key"] == proof["PinnedKey"]
        said = await ctl(one, "explain", child)
        assert f"{genuine.certificate.serial_number:x}" in said

        await servers.serve(2, certificate(2, other, alien.root))
        await lan.add(announced(2))
        await until("Press 2", State="pending", Reason="proof-not-trusted")

        await servers.serve(3, certificate(3, other, maker.root))
        await lan.add(announced(3))
        frozen = await until("Press 3", State="online")
        await servers.serve(3, certificate(3, rsa_key(), maker.root))
        await lan.remove(announced(3))
        await until("Press 3", State="offline")
        await lan.add(announced(3))
        await until("Press 3", State="frozen", Reason="key-changed")
        assert "Refused: sha256:" in await ctl(one, "explain", frozen)

        await servers.serve(
            4, certificate(4, key, maker.root), other
        )  # without its key: asyncua falls silent
        await lan.add(announced(4))
        await until("Press 4", State="pending", Reason="proof-timed-out")

        own = (one.directory / "state" / FILE).read_bytes()
        assert x509.load_der_x509_certificate(own).subject.rfc4514_string() == "CN=gatewayd"
        await until("Press 1", State="online")
