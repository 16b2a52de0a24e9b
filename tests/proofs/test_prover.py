"""Devices prove their keys by real handshakes, on the loopback; what is no proof has its reason."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from gatewayd.device.proof import Proof
from gatewayd.device.reason import Reason
from gatewayd.proofs import prover as module
from gatewayd.proofs import reasons
from gatewayd.proofs.application import OwnApplication
from gatewayd.proofs.certificate import read_certificate
from gatewayd.proofs.link import Place
from gatewayd.proofs.prover import AT_ONCE, STRANGERS, Asked, Prover
from gatewayd.proofs.settings import CertificateField, KeyKind, ProofSettings
from gatewayd.proofs.tls import MAX_HANDSHAKE
from gatewayd.runtime.clock import SYSTEM_CLOCK, Clock
from tests.support.device_certificates import (
    BEGUN,
    NO_END,
    DeviceCertificate,
    ago,
    authority,
    issue,
    pem,
    self_signed,
    vendor,
)
from tests.support.fakes import MemoryRecords

AXIS = vendor()
GENUINE = AXIS.device("ACCC8E000001")
SERIAL = CertificateField.SERIAL
HERE = Place("127.0.0.1", "")

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def key_of(one: DeviceCertificate) -> str:
    return read_certificate(one.der, SERIAL).key


@dataclass
class Served:
    """A server on the loopback.  connections: so many have come."""

    port: int
    connections: list[float] = field(default_factory=list)


def context_of(folder: Path, one: DeviceCertificate, **limits: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate, key, chain = one.write(folder, "served")
    certificate.write_text(certificate.read_text() + chain.read_text())
    context.load_cert_chain(certificate, key)
    for name, limit in limits.items():
        setattr(context, name, limit)
    return context


@contextlib.asynccontextmanager
async def serving(
    serve: Serve | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Served]:
    """Serve TLS, or anything."""
    open_ones: set[asyncio.StreamWriter] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.connections.append(time.monotonic())
        open_ones.add(writer)
        with contextlib.suppress(OSError):
            if serve is not None:
                await serve(reader, writer)
            writer.close()

    server = await asyncio.start_server(accepted, HERE.address, 0, ssl=tls)
    made = Served(server.sockets[0].getsockname()[1])
    try:
        yield made
    finally:
        for writer in open_ones:
            writer.close()
        server.close()


def a_prover(tmp_path: Path, port: int, *, roots: str | None = AXIS.pem, **facts: object) -> Prover:
    files: tuple[Path, ...] = ()
    if roots is not None:
        (tmp_path / "roots.pem").write_text(roots)
        files = (tmp_path / "roots.pem",)
    settings = ProofSettings(port=port, ca_files=files, **facts)  # type: ignore[arg-type]  # by name
    return Prover({"axis": settings}, SYSTEM_CLOCK, own_application(tmp_path))


def own_application(folder: Path) -> OwnApplication:
    return OwnApplication(MemoryRecords().secrets, folder, "gateway")


async def proven(
    made: Prover, *, asked: Asked = Asked.RETURNED, key: str = "", known: bool = True
) -> Proof:
    return await made.prove("axis", [HERE], known=known, asked=asked, key=key)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_vendors_certificate_proves_the_identity(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    tls = context_of(tmp_path, GENUINE, minimum_version=version, maximum_version=version)
    async with serving(tls=tls) as server:
        proof = await proven(a_prover(tmp_path, server.port))
    assert (proof.identity, proof.signer) == ("accc8e000001", "CN=Axis device CA")
    assert (proof.key, proof.address) == (key_of(GENUINE), "127.0.0.1")
    assert not proof.reason.code
    assert not proof.pinned


MALLORY = vendor("Axis")  # of the same name
OTHER = vendor("Other")
CRITICAL = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
PURPOSE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
SUBJECT = GENUINE.certificate.subject
LEAF_AS_CA = DeviceCertificate(
    (_made := issue(SUBJECT, GENUINE, BEGUN, NO_END, [])).certificate, _made.key,
    (GENUINE.certificate, AXIS.line.certificate),
)  # fmt: skip
TOO_LONG = DeviceCertificate(
    (_leaf := issue(SUBJECT, _sub := authority("sub", AXIS.line), BEGUN, NO_END, [])).certificate,
    _leaf.key, (_sub.certificate, AXIS.line.certificate),
)  # fmt: skip
ELSEWHERE = issue(
    AXIS.line.certificate.subject, AXIS.root, BEGUN, NO_END,
    [x509.BasicConstraints(ca=True, path_length=0),
     x509.NameConstraints([x509.DNSName("axis.example")], None)],
)  # fmt: skip
OUTSIDE = DeviceCertificate(
    (_out := issue(SUBJECT, ELSEWHERE, BEGUN, NO_END,
                   [x509.SubjectAlternativeName([x509.DNSName("evil.example")])])).certificate,
    _out.key, (ELSEWHERE.certificate,),
)  # fmt: skip
STRANGE = AXIS.device("1", extensions=[CRITICAL])
DISTRUSTED: Mapping[str, tuple[DeviceCertificate, Reason]] = {
    "of another CA of this name": (MALLORY.device("ACCC8E000001"), reasons.NOT_TRUSTED),
    "self-signed": (self_signed("ACCC8E000001"), reasons.NOT_TRUSTED),
    "without its chain": (DeviceCertificate(GENUINE.certificate, GENUINE.key), reasons.NOT_TRUSTED),
    "signed by a device": (LEAF_AS_CA, reasons.NOT_TRUSTED),
    "below a path that is too long": (TOO_LONG, reasons.NOT_TRUSTED),
    "outside the constraints of names": (OUTSIDE, reasons.NOT_TRUSTED),
    "expired": (AXIS.device("ACCC8E000001", not_after=ago(days=1)), reasons.EXPIRED),
    "not yet valid": (AXIS.device("1", not_before=ago(days=-2)), reasons.NOT_YET_VALID),
    "with an unknown critical extension": (STRANGE, reasons.NOT_TRUSTED),
    "for another purpose": (AXIS.device("1", extensions=[PURPOSE]), reasons.NOT_TRUSTED),
}  # fmt: skip


@pytest.mark.parametrize("name", DISTRUSTED)
async def test_what_the_vendor_does_not_vouch_for_proves_a_key_and_no_identity(
    tmp_path: Path, name: str
) -> None:
    shown, reason = DISTRUSTED[name]
    async with serving(tls=context_of(tmp_path, shown)) as server:
        proof = await proven(a_prover(tmp_path, server.port))
    assert proof.reason == reason
    assert not proof.identity
    assert proof.key == key_of(shown)


async def test_the_ca_of_a_product_line_may_be_the_root(tmp_path: Path) -> None:
    line = pem(AXIS.line.certificate)
    bare = DeviceCertificate(GENUINE.certificate, GENUINE.key)
    async with serving(tls=context_of(tmp_path, bare)) as server:
        assert (await proven(a_prover(tmp_path, server.port, roots=line))).identity


async def test_without_ca_files_the_key_alone_is_proven(tmp_path: Path) -> None:
    shown = self_signed("lamp")
    async with serving(tls=context_of(tmp_path, shown)) as server:
        made = a_prover(tmp_path, server.port, roots=None)
        proof = await proven(made, key=key_of(shown))
        assert (proof.key, proof.identity, proof.reason.code) == (key_of(shown), "", "")
        assert proof.pinned
        assert not (await proven(made, key="sha256:other")).pinned


async def test_a_certificate_without_the_identity_says_so(tmp_path: Path) -> None:
    async with serving(tls=context_of(tmp_path, AXIS.device(""))) as server:
        proof = await proven(a_prover(tmp_path, server.port))
    assert proof.reason == reasons.NAMELESS
    assert proof.key


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    while await reader.read(4096):
        pass


async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a record of TLS after the other, each of a handshake message that goes on."""
    writer.write(b"\x16\x03\x03\x00\x04\x02\xff\xff\xff")
    while not writer.is_closing():
        writer.write(b"\x16\x03\x03\x40\x00" + bytes(0x4000))
        await writer.drain()


async def text(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
    await writer.drain()


async def closing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Close at once."""


@pytest.mark.parametrize(
    ("serve", "reason"),
    [(silent, reasons.TIMED_OUT), (text, reasons.NO_HANDSHAKE), (closing, reasons.NO_HANDSHAKE)],
)
async def test_what_is_no_handshake_has_its_reason(
    tmp_path: Path, serve: Serve, reason: Reason, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason is reasons.TIMED_OUT:
        monkeypatch.setattr(module, "TIMEOUT", 0.5)
    async with serving(serve) as server:
        proof = await proven(a_prover(tmp_path, server.port))
    assert proof.reason == reason
    assert not proof.key


async def test_a_stream_without_an_end_is_cut(tmp_path: Path) -> None:
    async with serving(endless) as server:
        proof = await proven(a_prover(tmp_path, server.port))
    assert proof.reason in (reasons.TOO_MUCH, reasons.NO_HANDSHAKE)


async def test_a_chain_that_is_too_long_is_cut(tmp_path: Path) -> None:
    more = tuple([AXIS.line.certificate] * (MAX_HANDSHAKE // len(AXIS.line.der) + 2))
    shown = DeviceCertificate(GENUINE.certificate, GENUINE.key, more)
    async with serving(tls=context_of(tmp_path, shown)) as server:
        proof = await proven(a_prover(tmp_path, server.port))
    assert proof.reason == reasons.TOO_MUCH


async def test_a_port_that_is_closed_says_so(tmp_path: Path) -> None:
    with socket.create_server((HERE.address, 0)) as taken:
        port = taken.getsockname()[1]
    proof = await proven(a_prover(tmp_path, port))
    assert proof.reason == reasons.REFUSED


async def test_a_device_without_an_address_is_not_asked(tmp_path: Path) -> None:
    made = a_prover(tmp_path, 1)
    proof = await made.prove("axis", [], known=True, asked=Asked.SOON)
    assert proof.reason == reasons.NO_ADDRESS


@pytest.mark.parametrize("content", ["", "no PEM", "\ufffd", None])
async def test_ca_files_that_cannot_be_used_are_named(tmp_path: Path, content: str | None) -> None:
    async with serving(tls=context_of(tmp_path, GENUINE)) as server:
        made = a_prover(tmp_path, server.port)
        if content is None:
            (tmp_path / "roots.pem").unlink()
        else:
            (tmp_path / "roots.pem").write_text(content)
        assert (await proven(made)).reason == reasons.NO_ROOTS


async def test_ca_files_are_read_again_when_they_have_changed(tmp_path: Path) -> None:
    async with serving(tls=context_of(tmp_path, GENUINE)) as server:
        made = a_prover(tmp_path, server.port, roots=OTHER.pem)
        assert (await proven(made)).reason == reasons.NOT_TRUSTED
        (tmp_path / "roots.pem").write_text(OTHER.pem + AXIS.pem)
        assert (await proven(made)).identity == "accc8e000001"


# How often, and how many at once.


async def test_a_failure_counts_for_a_while_and_a_success_for_one_question(tmp_path: Path) -> None:
    now = [100.0]
    clock = Clock(lambda: now[0], lambda: 7)
    settings = {"axis": ProofSettings(port=1, ca_files=(tmp_path / "none",), retry=300.0)}
    made = Prover(settings, clock, own_application(tmp_path))
    calls: list[float] = []

    async def refused(name: str, place: Place, blank: Proof) -> Proof:
        calls.append(now[0])
        return Proof("axis", "", 7, reason=answer[0])

    answer = [reasons.REFUSED]
    made._ask = refused  # type: ignore[method-assign]  # what connects
    for moment, asked, count in (
        (100.0, Asked.LATER, 1), (101.0, Asked.LATER, 1), (109.0, Asked.SOON, 1),
        (109.0, Asked.RETURNED, 2), (130.0, Asked.LATER, 2), (130.0, Asked.SOON, 3),
        (431.0, Asked.LATER, 4),
    ):  # fmt: skip
        now[0] = moment
        await proven(made, asked=asked)
        assert len(calls) == count, (moment, asked)
    answer[0] = Reason("")
    await proven(made, asked=Asked.RETURNED)
    await proven(made, asked=Asked.LATER)
    assert len(calls) == 6
    answer[0] = reasons.REFUSED
    await proven(made, asked=Asked.RETURNED)
    made.reread()
    await proven(made, asked=Asked.LATER)
    assert len(calls) == 8


async def test_many_devices_at_one_place_share_a_connection(tmp_path: Path) -> None:
    async with serving(tls=context_of(tmp_path, MALLORY.device("1"))) as server:
        made = a_prover(tmp_path, server.port)
        await asyncio.gather(*(proven(made, asked=Asked.SOON, known=False) for _ in range(200)))
        assert len(server.connections) <= 2  # the second shows which key it is


async def test_strangers_that_hang_leave_a_turn_for_children(tmp_path: Path) -> None:
    """A flood of strangers at many addresses, each of whom never ends its handshake; one of them
    announces the address of the child, which waits behind them."""
    under_way = 0
    most = 0

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await silent(reader, writer)
        under_way -= 1
        writer.close()

    hosts = [f"127.0.1.{n}" for n in range(1, 21)]
    async with serving() as free:  # a port that is free here is so on all of them
        port = free.port
    server = await asyncio.start_server(hang, hosts, port)
    async with server:
        made = a_prover(tmp_path, port)
        strangers = [
            asyncio.create_task(made.prove(
                "axis", [Place(host, "")], known=False, asked=Asked.SOON))
            for host in [*hosts, "127.0.0.9"]
        ]  # fmt: skip
        tls = context_of(tmp_path, GENUINE)
        async with asyncio.timeout(60):
            while under_way < STRANGERS:
                await asyncio.sleep(0.01)
            genuine = await asyncio.start_server(closing, "127.0.0.9", port, ssl=tls)
            found = await made.prove(
                "axis", [Place("127.0.0.9", "")], known=True, asked=Asked.RETURNED
            )
        genuine.close()
        assert found.identity == "accc8e000001"
        assert most <= STRANGERS < AT_ONCE
        for one in strangers:
            one.cancel()
        await asyncio.gather(*strangers, return_exceptions=True)
        attempts = [attempt.made for attempt in made._attempts.values()]
        for one in attempts:
            one.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)


async def test_the_place_of_the_pinned_key_goes_before_all(tmp_path: Path) -> None:
    async with serving(tls=context_of(tmp_path, MALLORY.device("1"))) as server:
        tls = context_of(tmp_path, GENUINE)
        other = await asyncio.start_server(closing, "127.0.0.9", server.port, ssl=tls)
        made = a_prover(tmp_path, server.port)
        places = [HERE, Place("127.0.0.9", "")]
        proof = await made.prove(
            "axis", places, known=True, asked=Asked.RETURNED, key=key_of(GENUINE)
        )
        other.close()
        assert (proof.address, proof.pinned) == ("127.0.0.9", True)


async def test_an_address_that_a_stranger_adds_rules_out_no_other(tmp_path: Path) -> None:
    async with serving(tls=context_of(tmp_path, MALLORY.device("1"))) as server:
        tls = context_of(tmp_path, GENUINE)
        other = await asyncio.start_server(closing, "127.0.0.9", server.port, ssl=tls)
        made = a_prover(tmp_path, server.port)
        places = [Place("127.0.0.7", ""), HERE, Place("127.0.0.9", "")]
        proof = await made.prove("axis", places, known=False, asked=Asked.SOON)
        other.close()
        assert (proof.address, proof.identity) == ("127.0.0.9", "accc8e000001")
        proof = await made.prove("axis", places[:2], known=False, asked=Asked.SOON)
        assert (proof.address, proof.reason) == (HERE.address, reasons.NOT_TRUSTED)


async def test_a_fault_of_a_library_is_no_proof_and_stops_nothing(tmp_path: Path) -> None:
    made = a_prover(tmp_path, 1, kind=KeyKind.TLS)

    async def broken(name: str, place: Place, blank: Proof) -> Proof:
        raise RuntimeError

    made._ask = broken  # type: ignore[method-assign]  # what connects
    assert (await proven(made)).reason == reasons.FAILED
