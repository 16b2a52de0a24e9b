"""Debian's mosquitto, with our configuration and users: who may do what, and what it survives."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gatewayd.ca.certificates import request
from gatewayd.ca.keys import key_pem, make_key
from tests.messages.broker.client import (
    NOT_AUTHORIZED,
    PATIENCE,
    REFUSED_311,
    SUCCESS,
    V5,
    V311,
    MqttClient,
    Place,
    Published,
    connected,
    open_stream,
)
from tests.messages.broker.running import LOOK, ONE, OTHER, Site, secret_from, until_connected

pytestmark = pytest.mark.integration

UP, DOWN = f"c/{ONE}/up/properties", f"c/{ONE}/down/status"
ALL_UP = "c/+/up/#"


async def trusting(site: Site) -> ssl.SSLContext:
    """Return what a child knows of the broker: its CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=await site.access.authority())
    return context


async def with_certificate(site: Site, child: str, directory: Path) -> ssl.SSLContext:
    """Return what a child with a certificate has."""
    key = make_key("ec-p256")
    chain = await site.access.issue_certificate(child, request(key).decode(), {}, "uid 0")
    file = directory / f"{child}.pem"

    def load(context: ssl.SSLContext) -> ssl.SSLContext:
        file.write_bytes(key_pem(key) + chain.encode())
        context.load_cert_chain(file)
        return context

    return await asyncio.to_thread(load, await trusting(site))


@contextlib.asynccontextmanager
async def child(
    site: Site, name: str, password: bytes, version: int = V311, *, expected: int = SUCCESS
) -> AsyncIterator[MqttClient]:
    """Connect over TLS, once the broker knows this password, or knows it no more.

    Raises AssertionError with the last answer where that takes too long.
    """
    place = Place(port=site.broker.settings.port, tls=await trusting(site))
    end = time.monotonic() + PATIENCE
    async with contextlib.AsyncExitStack() as stack:
        while True:
            try:
                opened = connected(place, name, password, version=version, expected=expected)
                client = await stack.enter_async_context(opened)
                break
            except AssertionError as answer:
                late = f"{name}: {answer} after {site.broker.reloads} reloads\n{site.broker.log()}"
                assert time.monotonic() < end, late
            await asyncio.sleep(LOOK)
        yield client


@pytest.mark.parametrize("version", [V311, V5])
async def test_a_child_speaks_for_itself_alone(site: Site, version: int) -> None:
    password = await site.password(ONE)
    refused = NOT_AUTHORIZED if version == V5 else SUCCESS
    async with site.gatewayd() as gatewayd, child(site, ONE, password, version) as speaker:
        assert await gatewayd.subscribe(ALL_UP) == 1
        for topic in (f"c/{OTHER}/up/x", DOWN, "$SYS/broker/uptime", "c/gatewayd/up/x", "x"):
            assert await speaker.publish(topic, b"foreign") == refused
        assert await speaker.publish(UP, b"own") == SUCCESS
        assert await gatewayd.received() == Published(UP, b"own")


async def test_a_child_receives_nothing_but_its_own(site: Site) -> None:
    password = await site.password(ONE)
    async with site.gatewayd() as gatewayd, child(site, ONE, password) as listener:
        for pattern in ("#", "$SYS/#", f"c/{OTHER}/down/#"):
            await listener.subscribe(pattern)
        for name in (OTHER, ONE):
            assert await gatewayd.publish(f"c/{name}/down/x", name.encode()) in (SUCCESS, 16)
        assert await listener.received() == Published(f"c/{ONE}/down/x", ONE.encode())
        await listener.ping()


async def test_what_a_child_sends_waits_for_gatewayd_though_the_broker_reads_its_files(
    site: Site,
) -> None:
    password = await site.password(ONE)
    async with site.gatewayd(clean=False) as gatewayd:
        await gatewayd.subscribe(ALL_UP)
    async with child(site, ONE, password) as speaker:
        await speaker.publish(UP, b"1")
        before = site.broker.reloads
        await site.password(OTHER)  # the files change
        async with asyncio.timeout(PATIENCE):
            while site.broker.reloads == before:
                await asyncio.sleep(LOOK)
        await speaker.publish(UP, b"2")
    async with site.gatewayd(clean=False) as gatewayd:
        assert [await gatewayd.received() for _ in "12"] == [
            Published(UP, b"1"),
            Published(UP, b"2"),
        ]


async def test_a_child_cannot_take_the_place_of_gatewayd(site: Site) -> None:
    password = await site.password(ONE)
    place = Place(port=site.broker.settings.port, tls=await trusting(site))
    async with site.gatewayd() as gatewayd, child(site, ONE, password):
        async with connected(place, ONE, password, client_id="gatewayd"):
            pass
        await gatewayd.ping()
        async with connected(place, "gatewayd", password, expected=REFUSED_311):
            pass
        async with connected(place, expected=REFUSED_311):
            pass
        await gatewayd.ping()


async def test_a_second_connection_of_a_child_closes_the_first(site: Site) -> None:
    password = await site.password(ONE)
    async with child(site, ONE, password) as first, child(site, ONE, password) as second:
        await first.closed()
        await second.ping()


@pytest.mark.parametrize("version", [V311, V5])
async def test_whoever_is_revoked_is_thrown_out_and_others_stay(site: Site, version: int) -> None:
    refused = NOT_AUTHORIZED if version == V5 else REFUSED_311
    passwords = {name: await site.password(name) for name in (ONE, OTHER)}
    async with (
        site.gatewayd() as gatewayd,
        child(site, ONE, passwords[ONE], version) as one,
        child(site, OTHER, passwords[OTHER], version) as other,
    ):
        await site.access.revoke(ONE, "uid 0")
        await one.closed()
        async with child(site, ONE, passwords[ONE], version, expected=refused):
            pass
        await other.ping()
        await gatewayd.ping()


async def test_a_new_password_throws_out_who_has_the_old_one(site: Site) -> None:
    old = await site.password(ONE)
    async with child(site, ONE, old) as connection:
        new = await site.password(ONE)
        await connection.closed()
    async with child(site, ONE, new):
        pass


async def test_a_child_that_is_rejected_is_out_until_it_is_admitted_again(site: Site) -> None:
    password = await site.password(ONE)
    async with child(site, ONE, password) as connection:
        site.admitted.remove(ONE)
        site.access.update(ONE)
        await connection.closed()
    site.admitted.add(ONE)
    site.access.update(ONE)
    async with child(site, ONE, password):
        pass


async def test_a_program_speaks_for_its_children_over_the_socket(site: Site) -> None:
    password = await secret_from(lambda end: site.access.add_program("modbus", [ONE], end, "uid 0"))
    place = site.broker.local
    async with site.gatewayd() as gatewayd, asyncio.timeout(PATIENCE):
        await gatewayd.subscribe(ALL_UP)
        while True:
            with contextlib.suppress(AssertionError):
                async with connected(place, "modbus", password, version=V5) as program:
                    assert await program.publish(f"c/{OTHER}/up/x") == NOT_AUTHORIZED
                    assert await program.publish(UP, b"bus") == SUCCESS
                    break
            await asyncio.sleep(LOOK)
        assert await gatewayd.received() == Published(UP, b"bus")


async def test_each_port_serves_its_own_way_to_log_in(site: Site, tmp_path: Path) -> None:
    password, mine = await site.password(ONE), await with_certificate(site, ONE, tmp_path)
    ports = site.broker.settings
    async with site.gatewayd() as gatewayd, child(site, ONE, password):
        await gatewayd.subscribe(ALL_UP)
        async with connected(Place(port=ports.certificate_port, tls=mine), version=V5) as speaker:
            assert await speaker.publish(UP, b"certified") == SUCCESS
            assert await speaker.publish(f"c/{OTHER}/up/x") == NOT_AUTHORIZED
        assert await gatewayd.received() == Published(UP, b"certified")
        await until_refused(
            Place(port=ports.certificate_port, tls=await trusting(site)), ONE, password
        )
        async with connected(Place(port=ports.port, tls=mine), expected=REFUSED_311):
            pass


async def test_a_revoked_certificate_is_refused_and_its_connection_closed(
    site: Site, tmp_path: Path
) -> None:
    revoked = await with_certificate(site, ONE, tmp_path)
    place = Place(port=site.broker.settings.certificate_port, tls=revoked)
    await until_accepted(place)
    async with connected(place) as connection, site.gatewayd() as gatewayd:
        await site.access.revoke(ONE, "uid 0")
        await connection.closed()
        await until_refused(place)
        await gatewayd.ping()
    new = await with_certificate(site, ONE, tmp_path)
    await until_accepted(Place(port=site.broker.settings.certificate_port, tls=new))


async def until_refused(place: Place, user: str = "", password: bytes = b"") -> None:
    """Return once TLS refuses a client.  Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                async with connected(place, user, password):
                    pass
            except (OSError, EOFError):  # by an alert, or a closed connection
                return
            await asyncio.sleep(LOOK)


async def until_accepted(place: Place) -> None:
    """Return once the broker accepts a certificate.  Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(OSError, EOFError):
                async with connected(place):
                    return
            await asyncio.sleep(LOOK)


async def test_a_message_that_is_too_large_ends_its_connection_alone(site: Site) -> None:
    password = await site.password(ONE)
    async with site.gatewayd() as gatewayd:
        await gatewayd.subscribe(ALL_UP)
        async with child(site, ONE, password) as large:
            with contextlib.suppress(EOFError, ConnectionError):
                await large.publish(UP, bytes(2_000_000))
            await large.closed()
        async with child(site, ONE, password) as speaker:
            await speaker.publish(UP, bytes(1_000_000))
        assert len((await gatewayd.received()).payload) == 1_000_000


async def test_a_broker_that_was_killed_starts_over_its_socket_and_keeps_sessions(
    site: Site,
) -> None:
    async with site.gatewayd(clean=False) as gatewayd:
        await gatewayd.subscribe(ALL_UP)
    password = await site.password(ONE)
    async with child(site, ONE, password) as speaker:
        await speaker.publish(UP, b"before")
        await asyncio.to_thread(until_saved, site)
        await asyncio.to_thread(site.broker.kill)
    assert site.broker.places.socket.exists()
    await asyncio.to_thread(site.broker.start)
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(OSError, EOFError):
                async with site.gatewayd(clean=False) as gatewayd:
                    assert await gatewayd.received() == Published(UP, b"before")
                    return
            await asyncio.sleep(LOOK)


def until_saved(site: Site) -> None:
    """Return once the broker has saved what waits: it does so each second or two."""
    file, end = site.broker.directory / "state/mosquitto.db", time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if file.exists() and b"before" in file.read_bytes():
            return
        time.sleep(LOOK)
    raise TimeoutError("the broker has saved nothing")


async def _certificate_at(place: Place) -> bytes | None:
    _, writer = await open_stream(place)
    try:
        found: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return found
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_a_renewed_certificate_is_served_and_no_connection_is_lost(site: Site) -> None:
    password = await site.password(ONE)
    place = Place(port=site.broker.settings.port, tls=await trusting(site))
    async with site.gatewayd() as gatewayd, child(site, ONE, password) as speaker:
        first = await _certificate_at(place)
        assert site.access._writer._server is not None
        site.access._writer._server = None
        site.access._stale.set()
        async with asyncio.timeout(PATIENCE):
            while await _certificate_at(place) == first:
                await asyncio.sleep(LOOK)
        await speaker.ping()
        await gatewayd.ping()


async def test_gatewayd_comes_back_with_another_password(site: Site) -> None:
    before = site.access.password
    async with site.gatewayd(clean=False) as old:
        await old.subscribe(ALL_UP)
        site.make_access()  # as a new process does
        assert site.access.password != before
        run = asyncio.create_task(site.access.run())
        try:
            await until_connected(site)
            await old.closed()
        finally:
            run.cancel()
            await asyncio.wait({run})
