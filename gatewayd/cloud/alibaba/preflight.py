"""Looks whether everything is in place for Alibaba Cloud, without registering anything."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

from gatewayd.cloud import tls
from gatewayd.cloud.alibaba import endpoint
from gatewayd.cloud.alibaba.preflight_roots import needed, told
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.cloud.checks import Check, Surroundings, Verdict
from gatewayd.cloud.preflight import NOT_ASKED, Held, clock, connection, credential, reach, trust
from gatewayd.cloud.preflight_roots import read
from gatewayd.device.secret import Secret

OK, UNSURE, FAILED = Verdict.OK, Verdict.UNSURE, Verdict.FAILED
MAX_HOSTS = 8
"""So many endpoints are looked at; the products of an old public instance have one each."""

_DEVICE_SECRET = re.compile(rb"[0-9a-f]{32}")

NO_HOST = Check(
    "endpoint",
    FAILED,
    "The endpoint is not known: its name begins with a product, and none is configured.",
    "Add a product, or set host or instance_id.",
)


async def preflight(settings: AlibabaSettings, around: Surroundings) -> AsyncGenerator[Check, None]:
    """Yield what was found of endpoints, roots, clock and credentials.  A Preflight."""
    hosts, port, seconds = hosts_of(settings), settings.port, settings.connect_timeout
    if not hosts:
        yield NO_HOST
    roots = await asyncio.to_thread(read, settings.ca_file)
    attempts = []
    for host in hosts[:MAX_HOSTS]:
        yield describe(host, port)
        context = await trust(settings.ca_file)
        attempt = await reach(tls.Server(host, port, context, seconds, seconds))
        attempts.append(attempt)
        for check in connection(attempt, port):
            yield check
        if root := needed(roots, host, port, trusted=attempt.fault is None):
            yield root
    if len(hosts) > MAX_HOSTS:
        yield Check("endpoint", UNSURE, f"{len(hosts) - MAX_HOSTS} more were not looked at.")
    for check in told(roots, hosts, around.time()):
        yield check
    yield clock(attempts, around.time(), synchronised=around.synchronised())
    for held in held_in(settings):
        yield await credential(held, around)
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
        whose = f"product {key}"
        yield Held(whose, product.secret_credential, product.secret_file, _of_a_device(whose))
    gateway = settings.gateway
    if gateway is not None and not gateway.register:
        yield Held("the gateway", gateway.secret_credential, gateway.secret_file)


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
