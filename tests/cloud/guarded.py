"""A broker that wants to see a client's certificate, and sends the alerts that real ones send."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.x509.oid import NameOID

from gatewayd.ca import certificates
from gatewayd.ca.authority import Authority, make_authority
from gatewayd.ca.keys import key_pem, make_key
from gatewayd.device.secret import Secret
from gatewayd.simulator import pki
from gatewayd.simulator.mqtt import codec
from gatewayd.simulator.mqtt.link import ConnectReply, MqttLink, MqttService, ReplyStep
from gatewayd.simulator.mqtt.packets import Connect, Publish
from gatewayd.simulator.mqtt.server import MqttServer

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def subject(**names: str) -> x509.Name:
    """Return a subject by the names of NameOID, in lower case."""
    return x509.Name(
        x509.NameAttribute(getattr(NameOID, name.upper()), text) for name, text in names.items()
    )


def device_ca(name: str = "device CA") -> Authority:
    """Make an authority for devices, ten days old."""
    made = time.time() - 10 * 86400
    return make_authority(subject(common_name=name), "ec-p256", 60, made)


def identity(authority: Authority, *, days: int = 30, made: float | None = None) -> Secret:
    """Make a key and its certificate; made: when, seconds since the epoch."""
    key = make_key("ec-p256")
    leaf = authority.sign(
        subject(common_name="device"), key.public_key(), days, time.time() if made is None else made
    )
    return Secret(key_pem(key) + certificates.to_pem(leaf).encode() + authority.pem.encode())


@dataclass
class Guarded:
    """Obeys the port Hooks.

    answers: codes of the CONNACKs to come; None hangs up instead; accepted when there are none.
    silent: answer nothing.  seen: the CONNECTs, and the names that were asked for by TLS.
    """

    answers: list[int | None] = field(default_factory=list)
    silent: bool = False
    seen: list[Connect] = field(default_factory=list)
    shown: list[bytes] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    server: MqttServer = field(init=False)

    @property
    def port(self) -> int:
        return self.server.port

    def on_connect(self, link: MqttLink, connect: Connect) -> ConnectReply:
        self.seen.append(connect)
        if link.tls is not None:
            self.shown.append(link.tls.getpeercert(binary_form=True) or b"")
        if self.silent:
            return ConnectReply(False, ())
        code = self.answers.pop(0) if self.answers else 0
        if code is None:
            return ConnectReply(False, (ReplyStep(close=True),))
        return ConnectReply(code == 0, (ReplyStep(codec.connack(code), close=code != 0),))

    def on_publish(self, link: MqttLink, publish: Publish) -> None:
        """Ignore it."""

    def on_close(self, link: MqttLink) -> None:
        """Ignore it."""


def server_context(
    certificate: pki.KeyedCertificate,
    trusted: Sequence[Authority],
    versions: tuple[ssl.TLSVersion, ssl.TLSVersion] = VERSIONS,
) -> ssl.SSLContext:
    """Return a context that insists on a certificate of one of these authorities."""
    context = certificate.server_context()
    context.minimum_version, context.maximum_version = versions
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata="\n".join(one.pem for one in trusted))
    return context


@contextlib.asynccontextmanager
async def guarded(context: ssl.SSLContext, served: str = "localhost") -> AsyncIterator[Guarded]:
    """Serve on the loopback interface.  served: the only name that clients may ask for."""
    broker = Guarded()

    def look(_sock: object, name: str | None, _context: object) -> int | None:
        broker.names.append(name)
        return None if name == served else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    context.sni_callback = look
    broker.server = MqttServer(MqttService(broker, context))
    broker.server.start("127.0.0.1")
    try:
        yield broker
    finally:
        broker.server.stop()
