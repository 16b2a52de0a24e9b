"""The CA of gatewayd's own broker: it signs the broker's certificate, and those of children.

The CA is a secret in the store.  The broker's key is new with each certificate, and nowhere but in
memory and in the directory that the broker reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gatewayd.ca.authority import Authority, make_root, read_authority
from gatewayd.ca.certificates import Validity, common_name, read_request, to_pem
from gatewayd.ca.keys import key_pem, make_key
from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef, SecretSlots
from gatewayd.errors import InvalidArgs, SecretNotFound, StoreUnavailable
from gatewayd.messages.broker.files import TlsFiles
from gatewayd.settings import grammar

log = logging.getLogger(__name__)

SLOT: Final = SecretRef("broker", DeviceId("authority-broker"), 1, "authority")
"""Where the CA is kept."""

ALGORITHM = "ec-p256"

ALWAYS: Final = Validity(datetime(2020, 1, 1, tzinfo=UTC), datetime(2049, 12, 31, tzinfo=UTC))
"""When the CA is valid.  Children are given it by hand, so it outlives them; and it does not depend
on the clock, which may be wrong when it is made.  2049 is the last year that the short form of a
time can say (RFC 5280, 4.1.2.5)."""

SERVER_DAYS = 90
CHILD_DAYS, MOST_CHILD_DAYS = 365, 3650
_SIOCGIFADDR = 0x8915  # linux/sockios.h
_NO_ADDRESS = ("127.", "169.254.", "0.")


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """The broker's certificate, for some names, with its key, PEM."""

    names: tuple[str, ...]
    span: Validity
    certificate: str
    key: Secret

    def is_due(self, names: Sequence[str], now: float) -> bool:
        """Whether another one is needed: for other names, or a third of its life before its end.

        Also where the clock was set back, so that it is not valid yet.
        now: seconds since the epoch.
        """
        life = self.span.ends.timestamp() - self.span.starts.timestamp()
        late = now >= self.span.ends.timestamp() - life / 3
        return late or bool(self.span.fault(now)) or tuple(names) != self.names


@dataclass(frozen=True, slots=True)
class ChildCertificate:
    """A child's certificate.

    ends: seconds since the epoch.  chain: it, and the certificate of the CA, PEM.
    """

    serial: int
    ends: float
    chain: str


class BrokerAuthority:
    """The CA of the broker.  slots: of the secret store."""

    def __init__(self, slots: SecretSlots) -> None:
        self._slots = slots
        self._authority: Authority | None = None
        self._lock = asyncio.Lock()

    async def get(self) -> Authority:
        """Return the CA, which is made once.  Raises StoreError."""
        async with self._lock:
            if self._authority is None:
                self._authority = await self._read_or_make()
            return self._authority

    async def server(self, names: Sequence[str], now: float) -> ServerCertificate:
        """Make a key, and issue the certificate of the broker.  Raises StoreError."""
        authority = await self.get()
        return await asyncio.to_thread(_issue_server, authority, tuple(names), now)

    async def child(self, name: str, request: bytes, days: int, now: float) -> ChildCertificate:
        """Issue the certificate of a child.

        request: PKCS #10, PEM; its own subject is ignored.  Raises InvalidArgs, StoreError.
        """
        authority = await self.get()
        return await asyncio.to_thread(_issue_child, authority, name, request, days, now)

    async def tls_files(self, server: ServerCertificate, revoked: Iterable[int]) -> TlsFiles:
        """Return what the broker's listeners need.  Raises StoreError."""
        authority = await self.get()
        listed = await asyncio.to_thread(authority.revoke, sorted(revoked))
        return TlsFiles(server.certificate, server.key.reveal(), authority.pem, listed)

    async def _read_or_make(self) -> Authority:
        try:
            return await asyncio.to_thread(read_authority, await self._slots.get(SLOT))
        except SecretNotFound:
            name = common_name("gatewayd broker CA")
            made = await asyncio.to_thread(make_root, name, ALGORITHM, ALWAYS)
            await self._slots.put(SLOT, made.secret())
            log.info("Made the CA of the broker: SHA-256 %s.", made.fingerprint)
            return made
        except InvalidArgs as error:
            raise StoreUnavailable(f"The CA of the broker cannot be used: {error}") from error


def _issue_server(authority: Authority, names: tuple[str, ...], now: float) -> ServerCertificate:
    key = make_key(ALGORITHM)
    made = authority.sign_server(names, key.public_key(), SERVER_DAYS, now)
    return ServerCertificate(names, Validity.of(made), to_pem(made), Secret(key_pem(key)))


def _issue_child(
    authority: Authority, name: str, request: bytes, days: int, now: float
) -> ChildCertificate:
    made = authority.sign(common_name(name), read_request(request).key, days, now)
    ends = Validity.of(made).ends.timestamp()
    return ChildCertificate(made.serial_number, ends, to_pem(made) + authority.pem)


def names_of_this_host() -> tuple[str, ...]:
    """Return by what children may reach this gateway: its name, and its IPv4 addresses.  Blocks."""
    name = socket.gethostname().partition(".")[0].lower()
    if grammar.label(name):
        name = "gateway"  # no name that a child could look up
    return tuple(dict.fromkeys((name, f"{name}.local", *sorted(_addresses()))))


def _addresses() -> set[str]:
    """Return the first IPv4 address of each interface (netdevice(7)), but of the loopback."""
    found = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, interface in socket.if_nameindex():
            wanted = struct.pack("256s", interface.encode()[:15])
            with contextlib.suppress(OSError):  # it has no address, or is gone
                answer = fcntl.ioctl(asked.fileno(), _SIOCGIFADDR, wanted)
                found.add(socket.inet_ntoa(answer[20:24]))
    return {address for address in found if not address.startswith(_NO_ADDRESS)}
