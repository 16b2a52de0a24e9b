"""Looks whether everything is in place for Alibaba Cloud, without registering anything."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gatewayd.cloud import network, tls
from gatewayd.cloud.alibaba import endpoint
from gatewayd.cloud.alibaba.preflight_roots import needed, read, told, when
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.cloud.certificates import span
from gatewayd.cloud.checks import Check, Surroundings, Verdict
from gatewayd.cloud.faults import ConnectError, Fault
from gatewayd.errors import ConfigError

OK, UNSURE, FAILED = Verdict.OK, Verdict.UNSURE, Verdict.FAILED
MAX_HOSTS = 8
"""So many endpoints are looked at; the products of an old public instance have one each."""

_DEVICE_SECRET = re.compile(rb"[0-9a-f]{32}")
_TCP = frozenset({Fault.TCP_REFUSED, Fault.TCP_UNREACHABLE})
_DATES = frozenset({Fault.TLS_EXPIRED, Fault.TLS_NOT_YET_VALID})
_AS_GATEWAYD = "run sudo -u gatewayd gatewayctl preflight"
_SYNCHRONISE = "Set the clock, and keep it right: timedatectl set-ntp true"

NO_HOST = Check(
    "endpoint",
    FAILED,
    "The endpoint is not known: its name begins with a product, and none is configured.",
    "Add a product, or set host or instance_id.",
)
NOT_ASKED = Check(
    "cloud",
    UNSURE,
    "Whether the cloud accepts the secrets, and knows the devices, shows only when one "
    "registers; nothing was registered.",
)


@dataclass(frozen=True, slots=True)
class Reached:
    """How far an endpoint was reached.

    fault: the step that failed; None if TLS stands.  addresses: of the host.
    valid: between which times the server's certificate is valid, seconds since the epoch; None
    where it was not trusted, or not seen.  protocol: as "TLSv1.3".
    """

    host: str
    fault: Fault | None
    addresses: tuple[str, ...] = ()
    valid: tuple[float, float] | None = None
    protocol: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """A secret that is configured.  what: whose it is, for people."""

    what: str
    credential: str
    file: Path | None


async def preflight(settings: AlibabaSettings, around: Surroundings) -> AsyncGenerator[Check, None]:
    """Yield what was found of endpoints, roots, clock and credentials.  A Preflight."""
    hosts = hosts_of(settings)
    if not hosts:
        yield NO_HOST
    roots = await asyncio.to_thread(read, settings.ca_file)
    attempts = []
    for host in hosts[:MAX_HOSTS]:
        yield describe(host, settings.port)
        attempt = await reach(host, settings)
        attempts.append(attempt)
        for check in connection(attempt, settings.port):
            yield check
        if root := needed(roots, host, settings.port, trusted=attempt.fault is None):
            yield root
    if len(hosts) > MAX_HOSTS:
        yield Check("endpoint", UNSURE, f"{len(hosts) - MAX_HOSTS} more were not looked at.")
    for check in told(roots, hosts, around.time()):
        yield check
    yield clock(attempts, around.time(), synchronised=around.synchronised())
    for held in held_in(settings):
        yield await asyncio.to_thread(credential, held, around)
    yield NOT_ASKED


def hosts_of(settings: AlibabaSettings) -> Sequence[str]:
    """Return the hosts of all endpoints, without repetition."""
    products = [*settings.products]
    if settings.gateway is not None:
        products.append(settings.gateway.product)
    hosts = (
        endpoint.host_of(product, settings.host, settings.region, settings.instance_id)
        for product in products or [""]
    )
    return tuple(dict.fromkeys(filter(None, hosts)))


def held_in(settings: AlibabaSettings) -> Iterator[Held]:
    """Yield the secrets that are configured."""
    for key, product in settings.products.items():
        yield Held(f"product {key}", product.secret_credential, product.secret_file)
    gateway = settings.gateway
    if gateway is not None and not gateway.register:
        yield Held("the gateway", gateway.secret_credential, gateway.secret_file)


def describe(host: str, port: int) -> Check:
    """Say where the cloud is looked for, and what that belongs to."""
    text = f"{host} port {port}, {endpoint.instance_of(host)}."
    if endpoint.odd_port(host, port):
        return Check("endpoint", UNSURE, text, "Set port: the vendor serves 8883, 1883 and 443.")
    return Check("endpoint", OK, text)


async def reach(host: str, settings: AlibabaSettings) -> Reached:
    """Look the host up, connect, shake hands, and close."""
    seconds = settings.connect_timeout
    server = tls.Server(host, settings.port, await _context(settings.ca_file), seconds, seconds)
    found: tuple[str, ...] = ()
    try:
        addresses = await tls.resolve(server)
        found = tuple(dict.fromkeys(str(address[0]) for _, address in addresses))
        sock = await tls.dial_one_of(addresses, server)
    except ConnectError as error:
        return Reached(host, error.fault, found)
    with sock:
        facts = sock.getpeercert()
        return Reached(host, None, found, span(facts) if facts else None, sock.version() or "")


async def _context(ca_file: Path | None) -> ssl.SSLContext:
    """Return what is trusted: nothing, where the file is of no use, so that the rest is seen."""
    try:
        return await tls.Trust(ca_file).context()
    except ConnectError:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def connection(attempt: Reached, port: int) -> Iterator[Check]:
    """Yield the steps of an attempt, up to the one that failed."""
    fault = attempt.fault
    steps = (
        ("dns", {Fault.DNS}, f"{attempt.host} is {', '.join(attempt.addresses)}."),
        ("tcp", _TCP, f"Port {port} takes connections."),
        ("tls", set(Fault), f"The certificate is trusted, and of this host; {attempt.protocol}."),
    )
    for step, faults, text in steps:
        if fault is not None and fault in faults:
            reason = network.reason(fault, attempt.host, port)
            yield Check(step, FAILED, reason.text, reason.remedy)
            return
        yield Check(step, OK, text)


def clock(attempts: Iterable[Reached], now: float, *, synchronised: bool | None) -> Check:
    """Compare the clock with the certificates of the servers."""
    attempts = tuple(attempts)
    text = f"It is {when(now)} here"
    if any(attempt.fault in _DATES for attempt in attempts):
        if synchronised:
            return Check("clock", OK, f"{text}, synchronised: the certificate is at fault.")
        return Check("clock", FAILED, f"{text}, when a certificate is not valid.", _SYNCHRONISE)
    if any(attempt.valid for attempt in attempts):
        text += ", when the certificate of the server is valid"
    if synchronised:
        return Check("clock", OK, f"{text}; the clock is synchronised.")
    if synchronised is None:
        return Check("clock", UNSURE, f"{text}; whether the clock is synchronised is not known.")
    return Check("clock", UNSURE, f"{text}; the clock is not synchronised.", _SYNCHRONISE)


def credential(held: Held, around: Surroundings) -> Check:
    """Say whether a secret can be read.  Blocks."""
    if not held.credential and held.file is None:
        return Check("secret", OK, f"No secret of {held.what} is configured: some routes need it.")
    if held.credential and not around.credentials:
        text = f"The secret of {held.what} is given to the service, and not to be seen from here."
        return Check("secret", UNSURE, text, f"While gatewayd is running, {_AS_GATEWAYD}")
    try:
        value = around.read_secret(held.credential, held.file).reveal()
    except ConfigError as error:
        return _unreadable(error)
    if held.what.startswith("product") and _DEVICE_SECRET.fullmatch(value):
        text = f"The secret of {held.what} looks like that of a device."
        return Check("secret", UNSURE, text, "Check that it is the productSecret.")
    return Check("secret", OK, f"The secret of {held.what} can be read by {around.user}.")


def _unreadable(error: ConfigError) -> Check:
    if isinstance(error.__cause__, PermissionError):
        remedy = f"To see whether gatewayd may, {_AS_GATEWAYD}; give the file to that user."
        return Check("secret", FAILED, str(error), remedy)
    return Check("secret", FAILED, str(error))
