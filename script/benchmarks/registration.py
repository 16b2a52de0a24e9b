"""What it costs to register a child with a cloud directly, beside a bare TLS connection."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time

from script.benchmarks.process import cpu, memory
from script.benchmarks.stage import Stage, stage
from script.benchmarks.table import Figure

CONNECT = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x3c\x00\x05bench"
"""CONNECT of MQTT 3.1.1 with the client id "bench"; any CONNACK is an answer."""
CONNACK, CONNACK_SIZE = 0x20, 4
CONNECTIONS = 2  # of a child: one to register, one to log in
WARM = 20  # bare connections that are not counted
IDLE = 5.0  # seconds


async def measure(children: int) -> list[Figure]:
    """Register so many children, all held before, and log them in."""
    async with stage(late=children) as one:
        one.rule("ask")
        await one.start()
        held = memory(one.pid)
        sighting = await _sight(one, children)
        bare = [await asyncio.to_thread(_bare, one, children)]
        online, seconds = await _register(one, children)
        bare.append(await asyncio.to_thread(_bare, one, children))
        kept = memory(one.pid)
        await asyncio.sleep(1)
        idle = await _idle(one)
    measured = (sighting, online, min(bare), max(bare), kept.pss - held.pss)
    return _figures(children, measured, seconds, idle)


def _figures(
    children: int, measured: tuple[float, ...], seconds: float, idle: float
) -> list[Figure]:
    sighting, online, least, most, grown = measured
    bare = (least + most) / 2
    shared = f"{children} children in {seconds:.1f} s, {children / seconds:.0f}/s"
    each = online / CONNECTIONS
    return [
        Figure("registration and first login, CPU per child", online, "ms", note=shared),
        Figure("  bare TLS and CONNECT/CONNACK, CPU", bare, "ms", note=f"{least:.2f}-{most:.2f}"),
        Figure(
            "  per TLS connection, of a bare one", each / bare, "times", 2,
            f"{each:.2f} ms; a child has {CONNECTIONS}, and costs {online / bare:.1f} bare ones",
        ),
        Figure("  sighting before it, CPU per child", sighting, "ms", note="from mDNS to pending"),
        Figure("  PSS per child online", grown / children * 1000, "kB"),
        Figure(f"  idle CPU, {children} children online", idle, "%", note="of a core"),
    ]  # fmt: skip


async def _sight(one: Stage, children: int) -> float:
    """Return the milliseconds of CPU that a child costs until it waits for an operator."""
    before = cpu(one.pid)
    await one.announce(one.site.plant["serials"])
    await one.until(lambda: one.client.count("pending") == children, "all to be pending")
    await asyncio.sleep(2)  # the second announcement
    return (cpu(one.pid) - before) / children * 1000


async def _register(one: Stage, children: int) -> tuple[float, float]:
    """Return milliseconds of CPU for each child, and the seconds for all."""
    one.rule("register")
    before = cpu(one.pid)
    one.client.call("Reload")
    seconds = await one.until(lambda: one.client.count("online") == children, "all to be online")
    return (cpu(one.pid) - before) / children * 1000, seconds


async def _idle(one: Stage) -> float:
    before = cpu(one.pid)
    await asyncio.sleep(IDLE)
    return (cpu(one.pid) - before) / IDLE * 100


def _bare(one: Stage, times: int) -> float:
    """Return the milliseconds of CPU of one connection to the same cloud."""
    context = ssl.create_default_context(cafile=one.site.directory / "ca.pem")
    host, port = one.site.plant["host"], one.site.plant["port"]
    for _ in range(WARM):
        _connect(context, host, port)
    before = time.thread_time()
    for _ in range(times):
        _connect(context, host, port)
    return (time.thread_time() - before) / times * 1000


def _connect(context: ssl.SSLContext, host: str, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_hostname=host) as tls:
            tls.sendall(CONNECT)
            answer = tls.recv(CONNACK_SIZE)
    if answer[:1] != bytes([CONNACK]):
        raise RuntimeError("the simulated cloud has not answered a CONNECT")
