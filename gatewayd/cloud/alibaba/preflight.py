"""The preflight for Alibaba Cloud: endpoints, root certificates, clock and secrets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from gatewayd.ca.certificates import RootCertificate
from gatewayd.cloud import preflight as checks
from gatewayd.cloud.alibaba import reasons
from gatewayd.cloud.alibaba import settings as endpoint
from gatewayd.cloud.alibaba.settings import AlibabaInstance, AlibabaSettings
from gatewayd.cloud.outbound import proxy_of
from gatewayd.cloud.preflight import (
    NOT_TRIED,
    NOTHING_REGISTERED,
    Check,
    CheckResult,
    ConfiguredRoots,
    ConfiguredSecret,
    EndpointProbe,
    PreflightContext,
    clock_check,
    connection_checks,
    load_roots,
    probe_endpoint,
    proxy_checks,
    secret_check,
    trust_context,
)
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError
from gatewayd.network import tls
from gatewayd.runtime.text import plain_hex

OK, UNSURE, FAILED = CheckResult.OK, CheckResult.UNSURE, CheckResult.FAILED


MAX_HOSTS = 8
"""Endpoints that are checked, at most; the products of an old public instance have one each."""

_DEVICE_SECRET = 32
"""Hexadecimal digits of a device secret; a product secret has 16 letters and digits."""

NO_HOST = Check(
    "endpoint",
    FAILED,
    "The endpoint is not known: its name begins with a product, but none is configured.",
    "Add a product, or set host or instance_id.",
)


async def preflight(
    settings: AlibabaSettings, context: PreflightContext
) -> AsyncGenerator[Check, None]:
    """Yield the checks of endpoints, roots, clock and secrets.  A Preflight."""
    hosts, port = hosts_of(settings), settings.port
    if not hosts:
        yield NO_HOST
    roots = await asyncio.to_thread(load_roots, settings.ca_file)
    of_proxy = await proxy_checks(settings, context)
    for check in of_proxy:
        yield check
    attempts = []
    for host in hosts[:MAX_HOSTS] if NOT_TRIED not in of_proxy else ():
        yield endpoint_check(host, port)
        attempts.append(attempt := await _probe(settings, context, host))
        for check in connection_checks(attempt, port):
            yield check
        if root := needed_root_check(roots, host, port, trusted=attempt.trusted):
            yield root
    if len(hosts) > MAX_HOSTS:
        yield Check("endpoint", UNSURE, f"{len(hosts) - MAX_HOSTS} more were not checked.")
    for check in alibaba_root_checks(roots, hosts, context.time()):
        yield check
    yield clock_check(attempts, context.time(), synchronised=context.synchronised())
    if products := sorted(settings.products):
        yield route_check(products)
    for secret in configured_secrets(settings):
        yield await secret_check(secret, context)
    yield NOTHING_REGISTERED


async def _probe(settings: AlibabaSettings, context: PreflightContext, host: str) -> EndpointProbe:
    seconds, trusted = settings.connect_timeout, await trust_context(settings.ca_file)
    proxy = proxy_of(settings, context.read_secret)
    server = tls.Server(host, settings.port, trusted, seconds, seconds, settings.address)
    return await probe_endpoint(replace(server, proxy=proxy, websocket=settings.websocket))


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


def configured_secrets(settings: AlibabaSettings) -> Iterator[ConfiguredSecret]:
    """Yield the secrets that are configured."""
    for key, product in settings.products.items():
        owner = f"product {key}"
        yield ConfiguredSecret(
            owner, product.secret_credential, product.secret_file, _device_secret_doubt(owner)
        )
    gateway = settings.gateway
    if gateway is not None and not gateway.register:
        yield ConfiguredSecret("the gateway", gateway.secret_credential, gateway.secret_file)


def _device_secret_doubt(owner: str) -> Callable[[Secret], Check | None]:
    def doubt(secret: Secret) -> Check | None:
        if len(plain_hex(secret.reveal().decode("ascii", "replace"))) != _DEVICE_SECRET:
            return None
        text = f"The secret of {owner} looks like that of a device."
        return Check("secret", UNSURE, text, "Check that it is the productSecret.")

    return doubt


def route_check(products: Sequence[str]) -> Check:
    """Remind of the node type, which only the console shows: the cloud refuses without a word.

    Source: "Register sub-devices" (help.aliyun.com/document_detail/89298).
    """
    named = ", ".join(products[:MAX_HOSTS])
    text = f"The node type of {named} is not known here; rules have the route direct by default."
    return Check("route", UNSURE, text, reasons.NODE_TYPE)


def endpoint_check(host: str, port: int) -> Check:
    """Show the endpoint, and the kind of instance that it belongs to."""
    text = f"{host} port {port}, {endpoint.instance_of(host)}."
    if endpoint.odd_port(host, port):
        return Check("endpoint", UNSURE, text, "Set port: the vendor serves 8883, 1883 and 443.")
    return Check("endpoint", OK, text)


def needed_root_check(
    roots: ConfiguredRoots, host: str, port: int, *, trusted: bool
) -> Check | None:
    """Check that the root of a vendor's endpoint is trusted.

    trusted: whether the server was, just now.  None for an endpoint of the customer's own, and
    where nothing is known.
    """
    root = endpoint.root_for(host, port)
    if root is None or isinstance(roots, ConfigError):
        return None
    if roots is None:
        return _of_the_system(root, port, trusted=trusted)
    if any(plain_hex(one.sha256) == plain_hex(root.sha256) for one in roots):
        return Check("root", OK, f"ca_file has {root.name}, which port {port} needs.")
    text = f"ca_file lacks {root.name}, which port {port} needs"
    if trusted:
        text, remedy = f"{text}, but the server is trusted.", "Check who runs the server."
        return Check("root", UNSURE, text, remedy)
    return Check("root", FAILED, f"{text}.", f"{_get(root)} add it to ca_file.")


def _of_the_system(root: endpoint.AlibabaRoot, port: int, *, trusted: bool) -> Check:
    if trusted:
        text = f"The server is trusted by a root of the system; port {port} needs {root.name}."
        return Check("root", OK, text)
    if root is endpoint.PRIVATE:
        text = f"Port {port} needs {root.name}, which is in no system's trust store."
        return Check("root", FAILED, text, f"{_get(root)} set ca_file to it.")
    text = f"Port {port} needs {root.name}, which was not seen to be trusted here."
    return Check("root", UNSURE, text, "Install the package ca-certificates, or set ca_file.")


def _get(root: endpoint.AlibabaRoot) -> str:
    return f"Get {root.name} ({root.published}), compare its SHA-256 with {root.sha256}, and"


def alibaba_root_checks(
    roots: ConfiguredRoots, hosts: Iterable[str], now: float
) -> Iterator[Check]:
    """Yield a check for each trusted root.  now: seconds since the epoch."""
    custom = any(endpoint.instance_of(host) is AlibabaInstance.CUSTOM for host in hosts)
    return checks.root_checks(roots, lambda root: alibaba_root_check(root, now, custom=custom))


def alibaba_root_check(root: RootCertificate, now: float, *, custom: bool) -> Check:
    """Check one root by its fingerprint.

    custom: whether an endpoint is the customer's own, so that its root may be, too.
    """
    known = endpoint.root_of(root.sha256)
    status = f"is the vendor's {known.name}" if known else "is not known to be the vendor's"
    expected = known is not None or custom
    return checks.root_check(root, now, status, expected=expected)
