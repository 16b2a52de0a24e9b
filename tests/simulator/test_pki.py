"""Our certificate authority, judged by OpenSSL's strict checks in real handshakes."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from gatewayd.simulator import pki
from tests.simulator.wire import trusting
from tests.support.simulated_ca import AUTHORITY, NOW

ANOTHER = pki.make_ca("simulated cloud", NOW - pki.LIFE, NOW + pki.LIFE)  # of the same name


def verdict(certificate: pki.KeyedCertificate, name: str, trusted: str = AUTHORITY.pem) -> str:
    """Make a handshake over a socket pair; return what the client says of it, "" if all is well."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            with certificate.server_context().wrap_socket(theirs, server_side=True) as server:
                server.recv(1)
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with trusting(trusted).wrap_socket(ours, server_hostname=name) as client:
            assert client.version() in {"TLSv1.2", "TLSv1.3"}
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    finally:
        ours.close()
        thread.join()
    return ""


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_a_good_certificate_passes_strict_checks(name: str) -> None:
    assert verdict(pki.localhost(AUTHORITY, NOW), name) == ""


@pytest.mark.parametrize(
    ("certificate", "complaint"),
    [
        (pki.expired(AUTHORITY, NOW), "expired"),
        (pki.wrong_host(AUTHORITY, NOW), "mismatch"),
        (pki.localhost(ANOTHER, NOW), "certificate"),
        (AUTHORITY.issue(["localhost"], [], NOW + pki.LIFE, NOW + 2 * pki.LIFE), "not yet valid"),
    ],
)
def test_a_bad_certificate_is_turned_down(
    certificate: pki.KeyedCertificate, complaint: str
) -> None:
    assert complaint in verdict(certificate, "localhost")


def test_several_names() -> None:
    certificate = AUTHORITY.issue(
        ["mqtt.example", "*.iot.example"], ["192.0.2.7", "2001:db8::7"], NOW, NOW + pki.LIFE
    )
    for name in ("mqtt.example", "a.iot.example", "192.0.2.7", "2001:db8::7"):
        assert verdict(certificate, name) == ""
    assert verdict(certificate, "iot.example") != ""


def test_the_root_may_sign_and_nothing_else_may() -> None:
    leaf = x509.load_pem_x509_certificate(
        pki.localhost(AUTHORITY, NOW).certificate_pem.encode("ascii")
    )
    for one, authority in ((AUTHORITY.certificate, True), (leaf, False)):
        usage = one.extensions.get_extension_for_class(x509.KeyUsage)
        basic = one.extensions.get_extension_for_class(x509.BasicConstraints)
        assert (usage.critical, usage.value.key_cert_sign) == (True, authority)
        assert (basic.critical, basic.value.ca) == (True, authority)
    assert leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)


def test_written_files_serve(tmp_path: Path) -> None:
    certificate = pki.localhost(AUTHORITY, NOW)
    certificate.write(tmp_path)
    certificate.write(tmp_path)
    key = tmp_path / "server.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert (tmp_path / "ca.pem").read_text() == AUTHORITY.pem
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "server.pem", key)


def test_no_key_is_shown() -> None:
    assert "PRIVATE" not in repr(pki.localhost(AUTHORITY, NOW))
    assert "PrivateKey" not in repr(AUTHORITY)


def test_a_life_has_a_time_zone() -> None:
    assert pki.life(AUTHORITY.certificate) == (
        (NOW - pki.LIFE).replace(microsecond=0),
        (NOW + pki.LIFE).replace(microsecond=0),
    )


@pytest.mark.parametrize("rsa_key", [False, True])
def test_certificates_of_clients(rsa_key: bool) -> None:
    authority = pki.make_ca("Device CA", NOW - pki.LIFE, NOW + pki.LIFE, rsa_key=rsa_key)
    subject = [("2.5.4.3", "gateway-1"), ("2.5.4.5", "SN1")]
    issued = authority.issue_client(subject, NOW - pki.LIFE, NOW + pki.LIFE, rsa_key=rsa_key)
    certificate = x509.load_pem_x509_certificate(issued.certificate_pem.encode())
    assert [(one.oid.dotted_string, one.value) for one in certificate.subject] == subject
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert ("RSA" in type(certificate.public_key()).__name__) is rsa_key
