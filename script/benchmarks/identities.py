"""Certificates for devices that gatewayd does not serve, of its own device CA."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from gatewayd.ca.authority import authority_name, make_authority
from gatewayd.ca.keys import key_pem, make_key
from gatewayd.dbus.glib import Variant
from gatewayd.dbus.names import AUTHORITY, NAME, provider_path
from gatewayd.device.secret import Secret
from gatewayd.network.tls import client_context
from gatewayd.simulator.huawei import account
from script.benchmarks.process import memory
from script.benchmarks.stage import Stage

DAYS = 30
CONTEXTS = 40


@dataclass(frozen=True, slots=True)
class Identity:
    """A device that shows a certificate.  host: its instance.  file: PEM of all that it has."""

    device_id: str
    host: str
    file: Path


async def enrol(one: Stage) -> None:
    """Give each instance a device CA of a gatewayd that runs."""
    for instance in one.site.plant["hosts"]:
        await one.site.enrol(instance)


async def issue(one: Stage, devices: Sequence[str]) -> list[Identity]:
    """Have a gatewayd that runs sign certificates of these devices."""
    return [await asyncio.to_thread(_issue, one, device) for device in devices]


async def cost(algorithm: str, times: int) -> float:
    """Return the milliseconds of CPU that a key and its certificate take, of so many."""
    return await asyncio.to_thread(_cost, algorithm, times)


async def context_cost(identity: Identity) -> tuple[float, float]:
    """Return what gatewayd's TLS context for one identity takes that trusts the system's roots.

    Milliseconds of CPU, and kB of PSS as long as it is in use.
    """
    return await asyncio.to_thread(_context_cost, Secret(identity.file.read_bytes()))


def _context_cost(secret: Secret) -> tuple[float, float]:
    client_context(None, secret)  # what is loaded once does not count
    before, held = time.thread_time(), memory(os.getpid()).pss
    contexts = [client_context(None, secret) for _ in range(CONTEXTS)]
    used, more = time.thread_time() - before, memory(os.getpid()).pss - held
    return used / len(contexts) * 1000, more / len(contexts) * 1000


async def issue_at_broker(one: Stage, cloud: str, devices: Sequence[str]) -> list[Identity]:
    """Have a gatewayd that runs sign certificates of these devices for a broker.

    cloud: its name in the configuration.  The user of a device is "product/device".
    """
    product, host = one.site.plant["product"], one.site.plant["host"]

    def made(device: str) -> Identity:
        return Identity(f"{product}/{device}", host, _certified(one, cloud, product, device))

    return [await asyncio.to_thread(made, device) for device in devices]


def _issue(one: Stage, device: str) -> Identity:
    instance = account.home(device)
    file = _certified(one, instance, account.PRODUCT, device)
    return Identity(account.device_id(device), one.site.plant["hosts"][instance], file)


def _certified(one: Stage, cloud: str, product: str, device: str) -> Path:
    """Return a file with the key and the certificate of a device, and that of its CA."""
    key = make_key(one.site.key_algorithm)
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())
    pem = request.public_bytes(serialization.Encoding.PEM).decode()
    options = {"product": Variant("s", product), "node-id": Variant("s", device)}
    answer = one.client.ask(
        NAME, provider_path(cloud), AUTHORITY, "Issue",
        Variant("(ssa{sv})", ("", pem, options)),
    )  # fmt: skip
    file = one.site.directory / f"{device}.pem"
    file.write_bytes(key_pem(key) + answer.unpack()[0].encode())
    return file


def _cost(algorithm: str, times: int) -> float:
    name = authority_name({"common-name": "bench"})
    authority = make_authority(name, algorithm, DAYS, time.time())
    before = time.thread_time()
    for _ in range(times):
        authority.sign(name, make_key(algorithm).public_key(), DAYS, time.time())
    return (time.thread_time() - before) / times * 1000
