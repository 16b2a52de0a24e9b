"""Who an OPC UA server is, by the endpoints that it offers.  Pure.

The certificate of the application is shown to everyone, and nothing is signed with its key here: so
it identifies the server as a serial number does, and proves nothing.  `cert` would be a claim of a
key that the device has proven.
Facts: OPC 10000-4, 7.1 and 7.14; OPC 10000-6, 6.7.2.3 (thumbprints are SHA-1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from gatewayd.device.identity import claim
from gatewayd.discovery.probing.protocol import Found, UnreadableAnswer
from gatewayd.discovery.protocols.opc_ua.messages import (
    POLICIES,
    PORT,
    ApplicationType,
    UaApplication,
    UaEndpoint,
)
from gatewayd.discovery.protocols.snmp import ber
from gatewayd.discovery.sanitize import escaped_attributes, is_clean, is_text

NAMESPACE = "opcua.certificate"
SCHEME = "opc.tcp"
USUAL = f"{POLICIES}Basic256Sha256"
"""The policy whose certificate counts where a server has several: most servers have it."""


def url_of(address: str, port: int) -> str:
    """Return the URL of a server as it is dialled."""
    bare = address.partition("%")[0]
    return f"{SCHEME}://[{bare}]:{port}" if ":" in bare else f"{SCHEME}://{bare}:{port}"


def leaf(raw: bytes) -> bytes:
    """Return the first certificate of a chain, in DER; b"" where there is none."""
    return next(iter(certificates_in(raw)), b"")


def certificates_in(raw: bytes) -> list[bytes]:
    """Return the certificates of a chain, in DER; none of what is no chain."""
    try:
        found = ber.read_elements(raw)
    except UnreadableAnswer:
        return []
    are_some = all(one.tag == ber.SEQUENCE for one in found)
    return [ber.element(*one) for one in found] if are_some else []


def certificate_of(endpoints: Sequence[UaEndpoint]) -> bytes:
    """Return the certificate that identifies a server; b"" if it has none.

    One with keys of several kinds has several: always the same of them counts.
    """
    found = [(one.policy != USUAL, leaf(one.certificate)) for one in endpoints]
    return min((one for one in found if one[1]), default=(False, b""))[1]


def found_server(key: str, port: int, endpoints: Sequence[UaEndpoint]) -> Found | None:
    """Return a server as a device; None for a discovery server, which lists others.

    Where the endpoints are those of several applications, the first one is it.
    """
    if not endpoints:
        raise UnreadableAnswer("nothing-shown")
    server = endpoints[0].server
    if server.type == ApplicationType.DISCOVERY_SERVER:
        return None
    own = [one for one in endpoints if one.server.uri == server.uri]
    certificate = certificate_of(own)
    fingerprint = hashlib.sha256(certificate).hexdigest() if certificate else ""
    thumbprint = hashlib.sha1(certificate, usedforsecurity=False).hexdigest()
    policies = dict.fromkeys(one.policy.removeprefix(POLICIES) for one in own)
    named = {
        "opcua.application": server.name,
        "opcua.application-uri": server.uri,
        "opcua.product-uri": server.product,
        "opcua.certificate": fingerprint,
        "opcua.thumbprint": thumbprint if certificate else "",
        "opcua.policies": " ".join(one for one in policies if is_clean(one)),
    }
    made = claim("serial", NAMESPACE, fingerprint)
    return Found(
        key=key,
        claims=frozenset({made} if made else ()),
        attributes=escaped_attributes({k: v for k, v in named.items() if is_text(v)}),
        label=server.name or server.uri or "OPC UA server",
        valid_for=0.0,
        port=port,
    )


def ports_of(servers: Sequence[UaApplication], address: str) -> Iterator[int | None]:
    """Yield the port of each URL at which a host says that a server can be asked; None for one of
    another host, which is not asked.

    A URL by a name, or by an address that no other host can have, is taken for the host's own.
    """
    for url in dict.fromkeys(url for server in servers for url in server.urls):
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or PORT
        except ValueError:
            continue
        if parts.scheme == SCHEME:
            yield port if _may_be(host, address) else None


def _may_be(host: str, address: str) -> bool:
    """Whether the host of a URL may be the one that was dialled."""
    try:
        named, dialled = ip_address(host.partition("%")[0]), ip_address(address.partition("%")[0])
    except ValueError:
        return True  # a name, which is not looked up
    return named == dialled or named.is_loopback or named.is_unspecified
