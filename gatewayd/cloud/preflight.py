"""The preflight of a cloud: the port, and the checks that clouds share.

A provider's class may have a `preflight`: see SupportsPreflight.  It checks name lookup, TLS, the
clock and the configured secrets before the cloud is asked for anything, and registers nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from gatewayd.ca.certificates import RootCertificate, read_roots, span
from gatewayd.cloud.credentials import ReadAnySecret, read_secret
from gatewayd.cloud.outbound import EndpointSettings, ProxySettings, proxy_of, server_of
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError
from gatewayd.network import connect_errors, tls
from gatewayd.network.addresses import AddressBook
from gatewayd.network.connect_errors import ConnectError, ConnectFault
from gatewayd.network.proxy import are_credentials
from gatewayd.network.websocket_stream import open_websocket
from gatewayd.runtime.clock import synchronised


class CheckResult(StrEnum):
    """The result of a check."""

    OK = "ok"
    UNSURE = "unsure"  # it could not be checked, or may be good enough
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One step of a preflight.

    step: one word.  text: what was found, a sentence.  remedy: what to do, as an imperative;
    "" where there is nothing to do.  None holds a secret.
    """

    step: str
    verdict: CheckResult
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class PreflightContext:
    """The facts of this machine for a preflight.

    user: that of this process; gatewayd's own user may read less, or more.
    read_secret: see credentials.py.  credentials: whether those of systemd can be read here.
    time: seconds since the epoch.  synchronised: whether a time service keeps the clock in step;
    None where that is not known.
    """

    user: str
    read_secret: ReadAnySecret
    credentials: bool
    time: Callable[[], float]
    synchronised: Callable[[], bool | None]


Preflight: TypeAlias = Callable[[Any, PreflightContext], AsyncGenerator[Check, None]]
"""Takes the provider's settings; yields the checks as they are made.

Cancelled, or not read to its end: leaves nothing open.
"""


@runtime_checkable
class SupportsPreflight(Protocol):
    """A class of a provider that has a preflight."""

    preflight: Preflight


CREDENTIALS = Path("/run/credentials/gatewayd.service")
"""Where systemd keeps the credentials of a unit that is running; for its user, and for root."""


def local_context(environ: Mapping[str, str], service: Path = CREDENTIALS) -> PreflightContext:
    """Return this machine as a preflight sees it.

    environ: of the process.  service: the credentials of the running service.
    """
    given = environ.get("CREDENTIALS_DIRECTORY")
    seen = Path(given) if given else service if os.access(service, os.R_OK | os.X_OK) else None
    read = partial(read_secret, seen)
    return PreflightContext(_user(), read, seen is not None, time.time, synchronised)


def _user() -> str:
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


async def checks(
    plugin: object, settings: object, context: PreflightContext
) -> AsyncGenerator[Check, None]:
    """Yield each check of one cloud as it is made.

    plugin: the class of its provider.  settings: an instance of its `Settings`.
    """
    if not isinstance(plugin, SupportsPreflight):
        yield Check("cloud", CheckResult.UNSURE, "This kind of cloud has no preflight.")
        return
    async with contextlib.aclosing(plugin.preflight(settings, context)) as found:
        async for check in found:
            yield check


async def first_failure(plugin: object, settings: object, context: PreflightContext) -> str:
    """Return what the first check finds that fails, and what to do; "" where none does.

    The arguments are those of `checks`.
    """
    async with contextlib.aclosing(checks(plugin, settings, context)) as found:
        async for check in found:
            if check.verdict is CheckResult.FAILED:
                return f"{check.text} {check.remedy}".strip()
    return ""


OK, UNSURE, FAILED = CheckResult.OK, CheckResult.UNSURE, CheckResult.FAILED
MAX_ROOTS = 16
"""The most certificates of a file that are shown."""

ConfiguredRoots: TypeAlias = Sequence[RootCertificate] | ConfigError | None
"""The roots in ca_file, or why they cannot be read; None for those of the system."""


def load_roots(ca_file: Path | None) -> ConfiguredRoots:
    """Read the configured roots.  Blocks."""
    try:
        return None if ca_file is None else read_roots(ca_file)
    except ConfigError as error:
        return error


def root_checks(
    roots: ConfiguredRoots, show: Callable[[RootCertificate], Check]
) -> Iterator[Check]:
    """Yield a check for each root that is trusted.  show: makes that of one root."""
    if roots is None:
        yield Check("root", OK, "ca_file is not set: the roots of the system are trusted.")
    elif isinstance(roots, ConfigError):
        yield Check("root", FAILED, str(roots), "Set ca_file to a PEM file with the roots.")
    else:
        yield from map(show, roots[:MAX_ROOTS])
        if len(roots) > MAX_ROOTS:
            yield Check("root", UNSURE, f"ca_file has {len(roots) - MAX_ROOTS} more.")


def root_check(root: RootCertificate, now: float, status: str, *, expected: bool = True) -> Check:
    """Check one root, and show its fingerprint.

    now: seconds since the epoch.  status: what is known of it, as "is trusted".
    expected: whether it is clear where it is from.
    """
    text = f"{root.name!a} {status}; until {when(root.ends)}, SHA-256 {root.sha256}."
    if not root.valid(now):
        return Check("root", UNSURE, text, "Check the clock; if it is right, replace this root.")
    if expected:
        return Check("root", OK, text)
    return Check("root", UNSURE, text, "Keep it in ca_file only if you know where it is from.")


def when(seconds: float) -> str:
    """Return a time as text; seconds since the epoch."""
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")


_TCP = frozenset({ConnectFault.TCP_REFUSED, ConnectFault.TCP_UNREACHABLE})
_WEBSOCKET = frozenset({ConnectFault.WEBSOCKET_TIMEOUT, ConnectFault.WEBSOCKET_REFUSED})
_DATES = frozenset({ConnectFault.TLS_EXPIRED, ConnectFault.TLS_NOT_YET_VALID})
_AS_GATEWAYD = "run, as root, runuser -u gatewayd -- gatewayctl preflight"
_SYNCHRONISE = (
    "Set the clock, and keep it right: install systemd-timesyncd or chrony, and run "
    "timedatectl set-ntp true"
)

NOTHING_REGISTERED = Check(
    "cloud",
    UNSURE,
    "Whether the cloud accepts the secrets, and knows the devices, shows only when one "
    "registers; nothing was registered.",
)


@dataclass(frozen=True, slots=True)
class EndpointProbe:
    """The attempt to reach an endpoint.

    fault: the step that failed; None if TLS stands.  addresses: of the host.
    valid: between which times the server's certificate is valid, seconds since the epoch; None
    if it was not trusted, or not received.  protocol: as "TLSv1.3".
    proxy: host and port of the proxy; "" without one.  The addresses are the proxy's then.
    websocket: the path at which MQTT is spoken; "" for none.
    """

    host: str
    fault: ConnectFault | None
    addresses: tuple[str, ...] = ()
    valid: tuple[float, float] | None = None
    protocol: str = ""
    proxy: str = ""
    websocket: str = ""

    @property
    def trusted(self) -> bool:
        """Whether TLS stands, whatever is spoken inside it."""
        return self.fault is None or self.fault in _WEBSOCKET


@dataclass(frozen=True, slots=True)
class ConfiguredSecret:
    """A secret that is configured.

    what: its owner, for people.  doubt: makes another check of its value; None if it is good.
    """

    what: str
    credential: str
    file: Path | None
    doubt: Callable[[Secret], Check | None] = lambda _: None


async def probe_endpoint(server: tls.Server) -> EndpointProbe:
    """Look a host up, connect, make the TLS handshake, and close; through the proxy, if any."""
    found: tuple[str, ...] = ()
    proxy = f"{server.proxy.host} port {server.proxy.port}" if server.proxy else ""
    try:
        addresses = await tls.resolve(server)
        found = tuple(dict.fromkeys(str(address[0]) for _, address in addresses))
        sock = await tls.dial_one_of(addresses, server)
    except ConnectError as error:
        return EndpointProbe(server.host, error.fault, found, proxy=proxy)
    with sock:
        facts, protocol, fault = sock.getpeercert(), sock.version() or "", None
        if server.websocket:
            try:
                (await open_websocket(sock, server)).close()
            except ConnectError as error:
                fault = error.fault
        valid = span(facts) if facts else None
        return EndpointProbe(server.host, fault, found, valid, protocol, proxy, server.websocket)


async def trust_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return the trusted roots; none if the file is unusable, so that other checks still run."""
    try:
        return await tls.TrustStore(ca_file).context()
    except ConnectError:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def connection_checks(attempt: EndpointProbe, port: int) -> Iterator[Check]:
    """Yield a check for each step of an attempt, up to the one that failed."""
    fault, addresses = attempt.fault, ", ".join(attempt.addresses)
    direct = (
        ("dns", {ConnectFault.DNS}, f"{attempt.host} is {addresses}."),
        ("tcp", _TCP, f"Port {port} accepts connections."),
    )
    tunnel = f"The proxy, {attempt.proxy} ({addresses}), connects to {attempt.host} port {port}."
    way = (("proxy", connect_errors.PROXY, tunnel),) if attempt.proxy else direct
    secure = f"The certificate is trusted, and of this host; {attempt.protocol}."
    upgraded = f"MQTT over WebSocket is served at {attempt.websocket}."
    last = (("websocket", _WEBSOCKET, upgraded),) if attempt.websocket else ()
    for step, faults, text in (*way, ("tls", set(ConnectFault) - _WEBSOCKET, secure), *last):
        if fault is not None and fault in faults:
            reason = connect_errors.reason(fault, attempt.host, port, reload="")
            yield Check(step, FAILED, reason.text, reason.remedy)
            return
        yield Check(step, OK, text)


def clock_check(
    attempts: Iterable[EndpointProbe], now: float, *, synchronised: bool | None
) -> Check:
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


async def proxy_checks(settings: ProxySettings, context: PreflightContext) -> Sequence[Check]:
    """Check that user and password for the proxy can be read, if there are any.

    Ends with NOT_TRIED where they cannot: a connection would fail for that reason.
    """
    if not settings.proxy_credential and settings.proxy_file is None:
        return ()
    given = ConfiguredSecret(
        "the proxy", settings.proxy_credential, settings.proxy_file, _check_credentials
    )
    check = await secret_check(given, context)
    return (check,) if check.verdict is OK else (check, NOT_TRIED)


def _check_credentials(secret: Secret) -> Check | None:
    if are_credentials(secret):
        return None
    text = "The secret of the proxy must be user:password, in one line."
    return Check("secret", FAILED, text, "Write user, colon and password into it.")


NOT_TRIED = Check(
    "proxy",
    UNSURE,
    "Whether the cloud can be reached through the proxy was not tried: user and password for it "
    "cannot be used here.",
)


async def secret_check(secret: ConfiguredSecret, context: PreflightContext) -> Check:
    """Check that a secret can be read."""
    if not secret.credential and secret.file is None:
        text = f"No secret of {secret.what} is configured: some routes need it."
        return Check("secret", OK, text)
    if secret.credential and not context.credentials:
        text = f"The secret of {secret.what} is passed to the service: it cannot be read here."
        return Check("secret", UNSURE, text, f"While gatewayd is running, {_AS_GATEWAYD}")
    try:
        value = await asyncio.to_thread(context.read_secret, secret.credential, secret.file)
    except ConfigError as error:
        return _unreadable(error)
    readable = Check("secret", OK, f"The secret of {secret.what} can be read by {context.user}.")
    return secret.doubt(value) or readable


def _unreadable(error: ConfigError) -> Check:
    if isinstance(error.__cause__, PermissionError):
        remedy = f"To see whether gatewayd may, {_AS_GATEWAYD}; give the file to that user."
        return Check("secret", FAILED, str(error), remedy)
    return Check("secret", FAILED, str(error))


class ProbedSettings(EndpointSettings, ProxySettings, Protocol):
    """The settings of a cloud with one endpoint, and of the way to it."""

    @property
    def ca_file(self) -> Path | None: ...


class EndpointPreflight:
    """The checks with which a cloud of one endpoint begins: endpoint, connection, roots and clock.

    reached: the endpoint, once a connection stands.
    """

    def __init__(self, settings: ProbedSettings, context: PreflightContext) -> None:
        self._settings, self._context = settings, context
        self.reached: tls.Server | None = None

    async def checks(self) -> AsyncGenerator[Check, None]:
        """Yield them as they are made."""
        settings, context, attempts = self._settings, self._context, list[EndpointProbe]()
        address = f", address {settings.address!a}" if settings.address else ""
        yield Check("endpoint", OK, f"{settings.host!a} port {settings.port}{address}.")
        of_proxy = await proxy_checks(settings, context)
        for check in of_proxy:
            yield check
        if NOT_TRIED not in of_proxy:
            trusted = await trust_context(settings.ca_file)
            proxy = proxy_of(settings, context.read_secret)
            server = server_of(settings, trusted, AddressBook(), proxy)
            attempts.append(attempt := await probe_endpoint(server))
            for check in connection_checks(attempt, settings.port):
                yield check
            if attempt.fault is None:
                self.reached = server
        now = context.time()
        show = partial(root_check, now=now, status="is trusted")
        for check in root_checks(await asyncio.to_thread(load_roots, settings.ca_file), show):
            yield check
        yield clock_check(attempts, now, synchronised=context.synchronised())
