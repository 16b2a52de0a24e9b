"""Looks whether everything is in place for Alibaba Cloud, without registering anything.

What a preflight says of the root certificates that are trusted at Alibaba Cloud.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence

from gatewayd.cloud import preflight as checks
from gatewayd.cloud import tls
from gatewayd.cloud.alibaba import settings
from gatewayd.cloud.alibaba import settings as endpoint
from gatewayd.cloud.alibaba.settings import AlibabaInstance, AlibabaSettings
from gatewayd.cloud.ca.certificates import RootCertificate
from gatewayd.cloud.preflight import (
    NOTHING_REGISTERED,
    Check,
    CheckResult,
    ConfiguredRoots,
    ConfiguredSecret,
    PreflightContext,
    clock_check,
    connection_checks,
    load_roots,
    probe_endpoint,
    secret_check,
    trust_context,
)
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError

OK, UNSURE, FAILED = CheckResult.OK, CheckResult.UNSURE, CheckResult.FAILED


def needed(roots: ConfiguredRoots, host: str, port: int, *, trusted: bool) -> Check | None:
    """Say whether the root that vouches for an endpoint of the vendor is trusted.

    trusted: whether the server was, just now.  None for an endpoint of the customer's own, and
    where nothing is known.
    """
    root = settings.root_for(host, port)
    if root is None or isinstance(roots, ConfigError):
        return None
    if roots is None:
        return _of_the_system(root, port, trusted=trusted)
    if any(one.sha256 == root.sha256 for one in roots):
        return Check("root", OK, f"ca_file has {root.name}, which port {port} needs.")
    text = f"ca_file lacks {root.name}, which port {port} needs"
    if trusted:
        text, remedy = f"{text}, and yet vouches for the server.", "Make sure who runs the server."
        return Check("root", UNSURE, text, remedy)
    return Check("root", FAILED, f"{text}.", f"{_get(root)} add it to ca_file.")


def _of_the_system(root: settings.AlibabaRoot, port: int, *, trusted: bool) -> Check | None:
    if trusted:
        return Check("root", OK, "The system vouches for the server.")
    if root is not settings.PRIVATE:
        return None
    text = f"Port {port} needs {root.name}, which no system has."
    return Check("root", FAILED, text, f"{_get(root)} set ca_file to it.")


def _get(root: settings.AlibabaRoot) -> str:
    return f"Get {root.name} ({root.published}), compare its SHA-256 with {root.sha256}, and"


def alibaba_root_checks(
    roots: ConfiguredRoots, hosts: Iterable[str], now: float
) -> Iterator[Check]:
    """Say which roots are trusted.  now: seconds since the epoch."""
    custom = any(settings.instance_of(host) is AlibabaInstance.CUSTOM for host in hosts)
    return checks.root_checks(roots, lambda root: certificate(root, now, custom=custom))


def certificate(root: RootCertificate, now: float, *, custom: bool) -> Check:
    """Say which root this is, by its fingerprint.

    custom: whether an endpoint is the customer's own, so that its root may be, too.
    """
    known = settings.root_of(root.sha256)
    whose = f"is the vendor's {known.name}" if known else "is none that the vendor is known to use"
    expected = known is not None or custom
    return checks.root_check(root, now, whose, expected=expected)


MAX_HOSTS = 8
"""So many endpoints are looked at; the products of an old public instance have one each."""

_DEVICE_SECRET = re.compile(rb"[0-9a-f]{32}")

NO_HOST = Check(
    "endpoint",
    FAILED,
    "The endpoint is not known: its name begins with a product, and none is configured.",
    "Add a product, or set host or instance_id.",
)


async def preflight(
    settings: AlibabaSettings, around: PreflightContext
) -> AsyncGenerator[Check, None]:
    """Yield what was found of endpoints, roots, clock and credentials.  A Preflight."""
    hosts, port, seconds = hosts_of(settings), settings.port, settings.connect_timeout
    if not hosts:
        yield NO_HOST
    roots = await asyncio.to_thread(load_roots, settings.ca_file)
    attempts = []
    for host in hosts[:MAX_HOSTS]:
        yield describe(host, port)
        context = await trust_context(settings.ca_file)
        attempt = await probe_endpoint(tls.Server(host, port, context, seconds, seconds))
        attempts.append(attempt)
        for check in connection_checks(attempt, port):
            yield check
        if root := needed(roots, host, port, trusted=attempt.fault is None):
            yield root
    if len(hosts) > MAX_HOSTS:
        yield Check("endpoint", UNSURE, f"{len(hosts) - MAX_HOSTS} more were not looked at.")
    for check in alibaba_root_checks(roots, hosts, around.time()):
        yield check
    yield clock_check(attempts, around.time(), synchronised=around.synchronised())
    for held in held_in(settings):
        yield await secret_check(held, around)
    yield NOTHING_REGISTERED


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


def held_in(settings: AlibabaSettings) -> Iterator[ConfiguredSecret]:
    """Yield the secrets that are configured."""
    for key, product in settings.products.items():
        whose = f"product {key}"
        yield ConfiguredSecret(
            whose, product.secret_credential, product.secret_file, _of_a_device(whose)
        )
    gateway = settings.gateway
    if gateway is not None and not gateway.register:
        yield ConfiguredSecret("the gateway", gateway.secret_credential, gateway.secret_file)


def _of_a_device(whose: str) -> Callable[[Secret], Check | None]:
    def doubt(secret: Secret) -> Check | None:
        if not _DEVICE_SECRET.fullmatch(secret.reveal()):
            return None
        text = f"The secret of {whose} looks like that of a device."
        return Check("secret", UNSURE, text, "Check that it is the productSecret.")

    return doubt


def describe(host: str, port: int) -> Check:
    """Say where the cloud is looked for, and what that belongs to."""
    text = f"{host} port {port}, {endpoint.instance_of(host)}."
    if endpoint.odd_port(host, port):
        return Check("endpoint", UNSURE, text, "Set port: the vendor serves 8883, 1883 and 443.")
    return Check("endpoint", OK, text)
