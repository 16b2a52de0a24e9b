"""An OPC UA server of asyncua: opc_ua_server.py NAME DIRECTORY.  It prints when it serves.

It is run by the interpreter of .venv-peers.  Its key and certificate, and what it has made of the
standard's nodes, are in the directory, and are made where they are not there.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
from pathlib import Path

from asyncua import Server, ua  # type: ignore[import-not-found]  # of .venv-peers
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

URI = "urn:plc.example:press"


def make_key(key_file: Path, certificate_file: Path) -> None:
    """Make a key and a certificate of its own."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "press")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=365))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(URI)]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key_file.write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.DER))


async def main(name: str, directory: Path) -> None:
    """Serve until the process is ended."""
    key_file, certificate_file = directory / "key.pem", directory / "certificate.der"
    if not key_file.exists():
        make_key(key_file, certificate_file)
    server = Server()
    await server.init(shelf_file=directory / "nodes")
    server.set_endpoint("opc.tcp://0.0.0.0:4840/press")
    await server.set_application_uri(URI)
    server.set_server_name(name)
    policies = ua.SecurityPolicyType
    server.set_security_policy([policies.NoSecurity, policies.Basic256Sha256_SignAndEncrypt])
    await server.load_certificate(str(certificate_file))
    await server.load_private_key(str(key_file))
    async with server:
        print("It serves.", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
