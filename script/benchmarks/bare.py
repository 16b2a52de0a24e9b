"""A bare TLS connection: what nobody who speaks MQTT over TLS can do without."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable

from gatewayd.simulator.site import Site
from script.benchmarks.identities import Identity

CONNECT = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x3c\x00\x05bench"
"""CONNECT of MQTT 3.1.1 with the client id "bench"; any CONNACK is an answer."""
CONNACK, CONNACK_SIZE = 0x20, 4
WARM = 20  # connections that are not counted


async def cost(site: Site, times: int) -> float:
    """Return the milliseconds of CPU of one connection to the site's cloud, of so many."""
    context = ssl.create_default_context(cafile=site.directory / "ca.pem")
    hosts, port = site.plant.get("hosts"), site.plant["port"]
    host = next(iter(hosts.values())) if hosts else site.plant["host"]
    return await asyncio.to_thread(_cost, lambda: _connect(context, host, port), times)


async def mutual(site: Site, identity: Identity, times: int) -> float:
    """Do the same with a certificate that is shown, and so with a context for each."""
    port = site.plant["port"]

    def connect() -> None:
        context = ssl.create_default_context(cafile=site.directory / "ca.pem")
        context.load_cert_chain(identity.file)
        _connect(context, identity.host, port)

    return await asyncio.to_thread(_cost, connect, times)


def _cost(connect: Callable[[], None], times: int) -> float:
    for _ in range(WARM):
        connect()
    before = time.thread_time()
    for _ in range(times):
        connect()
    return (time.thread_time() - before) / times * 1000


def _connect(context: ssl.SSLContext, host: str, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_hostname=host) as tls:
            tls.sendall(CONNECT)
            answer = tls.recv(CONNACK_SIZE)
    if answer[:1] != bytes([CONNACK]):
        raise RuntimeError("the simulated cloud has not answered a CONNECT")
