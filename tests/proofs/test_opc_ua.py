"""OPC UA servers prove the keys of their certificates on the loopback; what is no proof is none."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from gatewayd.admission.controller import PROOF_PREFIX
from gatewayd.device.proof import Proof
from gatewayd.device.reason import Reason
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.discovery.protocols.opc_ua import binary as ua
from gatewayd.discovery.protocols.opc_ua.messages import CHUNK, HEADER
from gatewayd.errors import SecretCorrupt, StoreError, StoreSealed
from gatewayd.proofs import prover as module
from gatewayd.proofs import reasons
from gatewayd.proofs.application import FILE, OwnApplication
from gatewayd.proofs.certificate import read_certificate
from gatewayd.proofs.prover import Asked, Prover
from gatewayd.proofs.secure_channel import POLICIES, ChannelPolicy, derived
from gatewayd.proofs.settings import CertificateField, KeyKind, ProofSettings
from gatewayd.runtime.clock import SYSTEM_CLOCK
from gatewayd.testing.waiting import until
from tests.proofs.test_prover import HERE, closing, serving, silent, text
from tests.support.device_certificates import (
    BEGUN,
    NO_END,
    DeviceCertificate,
    ago,
    pem,
    rsa_key,
    self_signed,
    vendor,
)
from tests.support.fakes import MemoryRecords
from tests.support.ua_server import (
    CHANNEL,
    NONCE,
    TOKEN,
    URI,
    Opening,
    SecureServer,
    message,
    unchanged,
    with_fields,
)

KEY, OTHER_KEY = rsa_key(), rsa_key()
NAMED = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(URI)])
SIEMENS = vendor("Siemens")
GENUINE = SIEMENS.device("S-7", key=KEY, extensions=[NAMED])
PRESS = self_signed("press", KEY)


def key_of(one: DeviceCertificate) -> str:
    return read_certificate(one.der, CertificateField.SERIAL).key


SECRETS = MemoryRecords().secrets
"""With the key of gatewayd, which is made once for all tests."""


class Site:
    """A prover of one table, with the store and the directory that it needs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.secrets = folder, SECRETS

    async def proven(self, port: int, *, roots: str = "", key: str = "") -> Proof:
        """Have what answers at a port prove its key."""
        files: tuple[Path, ...] = ()
        if roots:
            files = (self.folder / "roots.pem",)
            files[0].write_text(roots)
        settings = ProofSettings(port=port, kind=KeyKind.OPC_UA, ca_files=files)
        own = OwnApplication(self.secrets, self.folder, "gateway")
        made = Prover({"plc": settings}, SYSTEM_CLOCK, own)
        return await made.prove("plc", [HERE], known=True, asked=Asked.RETURNED, key=key)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize("mode", [2, 3])
@pytest.mark.parametrize("policy", POLICIES, ids=lambda one: one.name)
async def test_a_secure_channel_proves_a_key_and_is_closed(
    site: Site, policy: ChannelPolicy, mode: int
) -> None:
    server = SecureServer(PRESS, policy=policy, mode=mode)
    async with serving(server.serve) as served:
        proof = await site.proven(served.port)
        await until(lambda: server.closed)
    assert (proof.key, proof.reason.code) == (key_of(PRESS), "")
    assert (proof.identity, proof.signer) == ("", "CN=press")
    assert server.opened == 1


async def test_a_longer_key_is_proven(site: Site) -> None:
    wide = self_signed("press", rsa_key(3072))
    server = SecureServer(wide)
    async with serving(server.serve) as served:
        assert (await site.proven(served.port, key=key_of(wide))).pinned
        await until(lambda: server.closed)


FORGED = {
    "signed with another key": (OTHER_KEY, unchanged, reasons.NOT_ITS_KEY),
    "of another question": (None, with_fields(number=ua.u32(7)), reasons.NOT_ITS_KEY),
    "with another handle": (None, with_fields(handle=ua.u32(7)), reasons.NOT_ITS_KEY),
    "for another client": (None, with_fields(thumbprint=bytes(20)), reasons.NO_CHANNEL),
    "with another certificate": (
        None, with_fields(certificates=self_signed("x", KEY).der), reasons.NOT_ITS_KEY,
    ),
    "with none": (None, with_fields(certificates=b""), reasons.NOT_ITS_KEY),
}  # fmt: skip


class Forger(SecureServer):
    """A server that answers what it can read with the key of its certificate, and signs with
    another: who holds the right key for one of the two only."""

    def _answer(self, made: Opening, peer: object) -> bytes:
        self.key, genuine = OTHER_KEY, self.key
        try:
            return super()._answer(made, peer)  # type: ignore[arg-type]  # as it is called
        finally:
            self.key = genuine


@pytest.mark.parametrize("name", FORGED)
async def test_an_answer_that_the_key_has_not_made_for_this_question_proves_nothing(
    site: Site, name: str
) -> None:
    key, changed, reason = FORGED[name]
    server = (Forger if key else SecureServer)(PRESS, changed=changed)
    async with serving(server.serve) as served:
        proof = await site.proven(served.port)
    assert proof.reason == reason
    assert not proof.key


async def test_a_recorded_answer_proves_nothing(site: Site) -> None:
    """The same client certificate, so that the record can be decrypted: only the numbers differ."""
    server = SecureServer(PRESS, repeats=True)
    async with serving(server.serve) as served:
        assert (await site.proven(served.port)).key
        proof = await site.proven(served.port)
    assert (proof.key, proof.reason) == ("", reasons.NOT_ITS_KEY)
    assert server.opened == 2


async def test_who_cannot_decrypt_the_question_proves_nothing(site: Site) -> None:
    """A host that shows the certificate of another, whose key it does not have."""
    server = SecureServer(PRESS, key=OTHER_KEY)
    async with serving(server.serve) as served:
        proof = await site.proven(served.port)
    assert (proof.key, proof.reason) == ("", reasons.CLIENT_REFUSED)


# Whom the vendor vouches for.


async def test_a_vendors_certificate_proves_the_identity(site: Site) -> None:
    async with serving(SecureServer(GENUINE).serve) as served:
        proof = await site.proven(served.port, roots=SIEMENS.pem)
    assert (proof.identity, proof.signer) == ("s-7", "CN=Siemens device CA")
    assert (proof.key, proof.reason.code) == (key_of(GENUINE), "")


ALIEN = vendor("Siemens")
USES = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
BARE = DeviceCertificate(GENUINE.certificate, KEY)
CHAINS: dict[str, tuple[DeviceCertificate, str, Reason]] = {
    "of another CA of this name": (
        ALIEN.device("S-7", key=KEY, extensions=[NAMED]), URI, reasons.NOT_TRUSTED,
    ),
    "self-signed": (PRESS, URI, reasons.NOT_TRUSTED),
    "without its chain": (BARE, URI, reasons.NOT_TRUSTED),
    "expired": (
        SIEMENS.device("S-7", key=KEY, extensions=[NAMED], not_after=ago(days=1)), URI,
        reasons.EXPIRED,
    ),
    "not yet valid": (
        SIEMENS.device("S-7", key=KEY, extensions=[NAMED], not_before=ago(days=-2)), URI,
        reasons.NOT_YET_VALID,
    ),
    "for another purpose": (
        SIEMENS.device("S-7", key=KEY, extensions=[NAMED, USES]), URI, reasons.NOT_TRUSTED,
    ),
    "of another application": (GENUINE, "urn:plc.example:oven", reasons.OTHER_APPLICATION),
    "without an identity": (
        SIEMENS.device("", key=KEY, extensions=[NAMED]), URI, reasons.NAMELESS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
async def test_what_the_vendor_does_not_vouch_for_proves_a_key_and_no_identity(
    site: Site, name: str
) -> None:
    shown, uri, reason = CHAINS[name]
    async with serving(SecureServer(shown, uri=uri).serve) as served:
        proof = await site.proven(served.port, roots=SIEMENS.pem)
    assert proof.reason == reason
    assert (proof.key, proof.identity) == (key_of(shown), "")


async def test_the_ca_of_a_product_line_may_be_the_root(site: Site) -> None:
    line = pem(SIEMENS.line.certificate)
    async with serving(SecureServer(BARE).serve) as served:
        assert (await site.proven(served.port, roots=line)).identity == "s-7"


@pytest.mark.parametrize("content", ["no PEM", "-----BEGIN CERTIFICATE-----\nAA\n"])
async def test_ca_files_that_cannot_be_used_are_named(site: Site, content: str) -> None:
    async with serving(SecureServer(GENUINE).serve) as served:
        proof = await site.proven(served.port, roots=content)
    assert (proof.reason, proof.key) == (reasons.NO_ROOTS, key_of(GENUINE))


async def test_without_the_library_the_remedy_is_to_install_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "OpenSSL.crypto", None)
    async with serving(SecureServer(GENUINE).serve) as served:
        assert (await site.proven(served.port, roots="x")).reason == reasons.NO_VERIFIER
        assert (await site.proven(served.port)).key


# What refuses, and what is hostile.


@pytest.mark.parametrize(
    ("error", "reason"),
    [(0x801A0000, reasons.CLIENT_REFUSED), (0x80130000, reasons.CLIENT_REFUSED),
     (0x80550000, reasons.NO_CHANNEL)],
)  # fmt: skip
async def test_a_server_that_does_not_trust_gatewayd_says_so(
    site: Site, error: int, reason: Reason
) -> None:
    async with serving(SecureServer(PRESS, error=error).serve) as served:
        assert (await site.proven(served.port)).reason == reason


UNFIT = {
    "an older policy": SecureServer(PRESS, policy=replace(POLICIES[0], name="Basic128Rsa15")),
    "no security at all": SecureServer(PRESS, mode=1),
    "a key of a curve": SecureServer(self_signed("press")),
    "a short key": SecureServer(self_signed("press", rsa_key(1024))),
}


@pytest.mark.parametrize("name", UNFIT)
async def test_a_server_without_a_policy_that_proves_a_key_says_so(site: Site, name: str) -> None:
    async with serving(UNFIT[name].serve) as served:
        assert (await site.proven(served.port)).reason == reasons.NO_POLICY


async def test_a_key_that_encrypts_nothing_is_no_fault_of_gatewayd(site: Site) -> None:
    """A certificate with numbers that are no key of RSA, which libraries read all the same."""
    key = rsa.RSAPublicNumbers(3, 1 << 2047).public_key()
    builder = x509.CertificateBuilder(
        PRESS.certificate.issuer, PRESS.certificate.subject, key, 7, BEGUN, NO_END
    )
    hollow = DeviceCertificate(builder.sign(KEY, hashes.SHA256()), KEY)
    async with serving(SecureServer(hollow).serve) as served:
        assert (await site.proven(served.port)).reason == reasons.NO_CHANNEL


async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send chunks that go on."""
    writer.write(message(b"ACKF", ua.u32(0, CHUNK, CHUNK, 0, 0)))
    while not writer.is_closing():
        writer.write(message(b"OPNC", bytes(CHUNK - HEADER)))
        await writer.drain()


async def bomb(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer GetEndpoints with chunks that go on, each as it should be."""
    server = SecureServer(PRESS)

    def goes_on(_: bytes) -> bytes:
        chunk = ua.u32(CHANNEL, TOKEN, 1, 2) + bytes(CHUNK - HEADER - 16)
        return message(b"MSGC", chunk) * 32

    server.listed = goes_on
    await server.serve(reader, writer)


async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with the half of a message, and be silent."""
    writer.write(message(b"ACKF", ua.u32(0, CHUNK, CHUNK, 0, 0))[:14])
    await silent(reader, writer)


async def huge(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Announce four gigabytes."""
    writer.write(b"ACKF\xff\xff\xff\xff")
    await writer.drain()


@pytest.mark.parametrize(
    ("serve", "reason"),
    [(silent, reasons.TIMED_OUT), (text, reasons.NO_CHANNEL), (closing, reasons.NO_HANDSHAKE),
     (endless, reasons.NO_CHANNEL), (huge, reasons.NO_CHANNEL), (bomb, reasons.TOO_MUCH),
     (stall, reasons.TIMED_OUT)],
)  # fmt: skip
async def test_what_is_no_server_has_its_reason(
    site: Site, serve: object, reason: Reason, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason is reasons.TIMED_OUT:
        monkeypatch.setattr(module, "TIMEOUT", 0.5)
    async with serving(serve) as served:  # type: ignore[arg-type]  # one of these
        proof = await site.proven(served.port)
    assert (proof.reason, proof.key) == (reason, "")


# gatewayd's own certificate.


async def test_the_own_certificate_stays_the_same_and_is_a_file(site: Site) -> None:
    first = await OwnApplication(site.secrets, site.folder, "gateway").get()
    (site.folder / FILE).unlink()
    again = await OwnApplication(site.secrets, site.folder, "gateway").get()
    assert again.certificate == first.certificate == (site.folder / FILE).read_bytes()
    read = x509.load_der_x509_certificate(first.certificate)
    names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:gateway:gatewayd"]
    assert names.get_values_for_type(x509.DNSName) == ["gateway"]


@pytest.mark.parametrize("error", [StoreSealed, SecretCorrupt])
async def test_a_store_without_the_own_certificate_is_a_reason_that_is_tried_again(
    site: Site, error: type[StoreError]
) -> None:
    async def fails(ref: SecretRef) -> Secret:
        raise error("it is not there")

    site.secrets = MemoryRecords().secrets
    site.secrets.get = fails  # type: ignore[method-assign]  # of this store
    async with serving(SecureServer(PRESS).serve) as served:
        proof = await site.proven(served.port)
    assert proof.reason == reasons.NO_OWN
    assert proof.reason.code.startswith(PROOF_PREFIX)
    assert not served.connections


def test_keys_are_derived_as_tls_does() -> None:
    """A published vector of P_SHA256."""
    secret = bytes.fromhex("9bbe436ba940f017b17652849a71db35")
    seed = b"test label" + bytes.fromhex("a0ba9f936cda311827a6f796ffd5198c")
    assert derived(secret, seed, 36).hex() == (
        "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791"
    )
    assert len(NONCE) == 32
