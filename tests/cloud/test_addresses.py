"""Addresses: a name server that never answers, and dead addresses, cost a bound at most."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cloud import mqtt
from gatewayd.cloud.http import post_form
from gatewayd.network import tls
from gatewayd.network.addresses import (
    FRESH,
    MAX_ADDRESSES,
    MAX_NAMES,
    MAX_OUTCOMES,
    STALE,
    STALE_WAIT,
    THREADS,
    Address,
    AddressBook,
    in_order,
)
from gatewayd.network.connect_errors import ConnectError, ConnectFault
from gatewayd.simulator import pki
from tests.cloud.conftest import NOW, stay
from tests.cloud.test_mqtt import ACCEPTED, LOGIN, answering

Serve = Callable[..., AbstractAsyncContextManager[Any]]
V4, V6 = socket.AF_INET, socket.AF_INET6


def v4(n: int) -> Address:
    return V4, (f"192.0.2.{n}", 8883)


def v6(n: int) -> Address:
    return V6, (f"2001:db8::{n}", 8883, 0, 0)


def infos(*addresses: Address) -> list[Any]:
    """Return them as getaddrinfo does."""
    return [(family, socket.SOCK_STREAM, 6, "", address) for family, address in addresses]


# Their order.


def test_the_families_alternate() -> None:
    found = [v6(1), v6(2), v6(3), v6(4), v4(1)]
    assert in_order(found, {}) == [v6(1), v4(1), v6(2), v6(3)]
    assert in_order([v4(1), v6(1), v6(2)], {}) == [v4(1), v6(1), v6(2)]


def test_the_good_come_first_and_the_dead_last() -> None:
    found = [v6(1), v6(2), v6(3), v6(4), v4(1), v4(2)]
    outcomes = {v6(1): False, v4(1): False, v4(2): True}
    assert in_order(found, outcomes) == [v4(2), v6(2), v6(3), v6(4)]


@given(
    found=st.lists(st.builds(lambda new, n: (v6 if new else v4)(n), st.booleans(),
                             st.integers(1, 6))),
    outcomes=st.dictionaries(st.builds(v6, st.integers(1, 6)), st.booleans()),
)  # fmt: skip
def test_whatever_is_found_the_order_is_a_bounded_choice(
    found: list[Address], outcomes: dict[Address, bool]
) -> None:
    chosen = in_order(found, outcomes)
    assert len(chosen) == len(set(chosen)) == min(len(set(found)), MAX_ADDRESSES)
    assert set(chosen) <= set(found)
    assert (not any(outcomes.get(one) for one in found)) or outcomes[chosen[0]]


# The look-up.


class Names:
    """A name server: answers, unless it is dead or the name is not known.

    asked: the names it was asked for.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.error: OSError | None = None
        self.answer = infos(v4(1))
        self.live = threading.Event()
        self.live.set()

    def look_up(self, host: str, _port: int, **_: Any) -> list[Any]:
        self.asked.append(host)
        self.live.wait()
        if self.error is not None:
            raise self.error
        return self.answer


@pytest.fixture
def names() -> Iterator[Names]:
    made = Names()
    yield made
    made.live.set()


async def settle(true: Callable[[], bool]) -> None:
    """Return when something is so that another thread brings about."""
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.001)


async def test_an_answer_serves_all_that_wait_and_those_that_come_soon(names: Names) -> None:
    book = AddressBook(names.look_up)
    found = await asyncio.gather(*(book.resolve("one", 8883, 20.0) for _ in range(32)))
    assert found == [[v4(1)]] * 32
    await book.resolve("one", 8883, 20.0)
    assert names.asked == ["one"]


async def test_a_numeric_address_is_not_looked_up(names: Names) -> None:
    book = AddressBook(names.look_up)
    assert await book.resolve("192.0.2.1", 8883, 20.0) == [v4(1)]
    assert await book.resolve("2001:db8::1", 8883, 20.0) == [v6(1)]
    assert names.asked == []


async def test_a_dead_name_server_holds_its_own_threads_alone(names: Names) -> None:
    """It holds two threads, whatever waits; the common pool, and other clouds, go on."""
    names.live.clear()
    book, other = AddressBook(names.look_up), AddressBook(lambda *_, **__: infos(v4(2)))
    before = set(threading.enumerate())  # of which some may end meanwhile
    waiting = [asyncio.create_task(book.resolve(f"n{n}", 8883, 20.0)) for n in range(MAX_NAMES)]
    await settle(lambda: len(names.asked) == THREADS)
    with pytest.raises(OSError, match="too many"):
        await book.resolve("one more", 8883, 20.0)
    assert len(set(threading.enumerate()) - before) == THREADS
    assert await other.resolve("healthy", 8883, 20.0) == [v4(2)]
    assert await asyncio.to_thread(lambda: "served") == "served"
    names.live.set()
    assert await asyncio.gather(*waiting) == [[v4(1)]] * MAX_NAMES
    assert len(names.asked) == MAX_NAMES


async def test_without_an_answer_the_wait_ends(names: Names) -> None:
    names.live.clear()
    book = AddressBook(names.look_up)
    for _ in range(3):  # those that come later wait for the same call
        with pytest.raises(TimeoutError):
            await book.resolve("one", 8883, 0.05)
    assert names.asked == ["one"]


@contextlib.asynccontextmanager
async def known(names: Names, age: float) -> AsyncIterator[AddressBook]:
    """Yield a book with an answer of this age, seconds."""
    book = AddressBook(names.look_up)
    await book.resolve("one", 8883, 20.0)
    loop = asyncio.get_running_loop()
    real = loop.time
    loop.time = lambda: real() + age  # type: ignore[method-assign]  # the clock of this loop
    try:
        yield book
    finally:
        loop.time = real  # type: ignore[method-assign]  # the clock of this loop


async def test_an_old_answer_is_replaced(names: Names) -> None:
    async with known(names, FRESH + 1) as book:
        names.answer = infos(v4(2))
        assert await book.resolve("one", 8883, 20.0) == [v4(2)]


@pytest.mark.parametrize("error", [None, socket.gaierror(socket.EAI_AGAIN, "later")])
async def test_an_old_answer_serves_where_there_is_no_new_one(
    names: Names, monkeypatch: pytest.MonkeyPatch, error: OSError | None
) -> None:
    assert STALE_WAIT <= 2.0
    monkeypatch.setattr("gatewayd.network.addresses.STALE_WAIT", 0.05)
    async with known(names, STALE - 1) as book:
        names.error = error
        if error is None:
            names.live.clear()
        assert await book.resolve("one", 8883, 20.0) == [v4(1)]


@pytest.mark.parametrize(("age", "code"), [
    (STALE + 1, socket.EAI_AGAIN), (FRESH + 1, socket.EAI_NONAME),
])  # fmt: skip
async def test_a_name_that_is_gone_or_an_answer_of_yesterday_is_not_used(
    names: Names, age: float, code: int
) -> None:
    async with known(names, age) as book:
        names.error = socket.gaierror(code, "no")
        with pytest.raises(socket.gaierror):
            await book.resolve("one", 8883, 20.0)


async def test_what_is_remembered_is_bounded(names: Names) -> None:
    book = AddressBook(names.look_up)
    for n in range(MAX_NAMES + 3):
        await book.resolve(f"n{n}", 8883, 20.0)
    for n in range(MAX_OUTCOMES + 3):
        book.note((V4, ("192.0.2.1", n)), good=True)
    assert len(book._known) == MAX_NAMES
    assert len(book._outcomes) == MAX_OUTCOMES


# The race.


class Silent:
    """Addresses of loopback that accept TCP, and say nothing; or that do not even accept it."""

    def __init__(self) -> None:
        self._open: list[socket.socket] = []

    def listen(self) -> Address:
        """Return an address where TCP is accepted, and then nothing comes."""
        listener = socket.create_server(("127.0.0.1", 0))
        self._open.append(listener)
        return V4, listener.getsockname()

    def full(self) -> Address:
        """Return an address whose SYNs are dropped."""
        listener = socket.socket()
        self._open.append(listener)
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = socket.socket()
            self._open.append(waiting)
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        return V4, listener.getsockname()

    def close(self) -> None:
        for sock in self._open:
            sock.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    made = Silent()
    yield made
    made.close()


def refused() -> Address:
    """Return an address where nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return V4, sock.getsockname()


def live(port: int) -> Address:
    return V4, ("127.0.0.1", port)


@pytest.fixture
def at(trust: Any) -> Callable[..., tls.Server]:
    """Give a function: addresses → a server that has these."""

    def make(*addresses: Address, seconds: float = 20.0) -> tls.Server:
        book = AddressBook(lambda *_, **__: infos(*addresses))
        return tls.Server("localhost", 1, trust, seconds, seconds, "a.name", book)

    return make


@pytest.mark.parametrize("dead", ["refused", "unanswered", "silent"])
async def test_dead_addresses_are_passed_over_and_then_tried_last(
    serve: Serve, at: Callable[..., tls.Server], silent: Silent,
    monkeypatch: pytest.MonkeyPatch, dead: str,
) -> None:  # fmt: skip
    """Three of them cost the delays of RFC 8305 once, and nothing the next time."""
    monkeypatch.setattr(tls, "ATTEMPT_DELAY", 0.02)
    monkeypatch.setattr(tls, "TLS_DELAY", 0.04)
    make: Callable[[], Address] = {
        "refused": refused, "unanswered": silent.full, "silent": silent.listen,
    }[dead]  # fmt: skip
    gone = [make() for _ in range(3)]
    async with serve(stay) as broker:
        server = at(*gone, live(broker.port))
        (await tls.dial(server)).close()
        order = await tls.resolve(server)
        assert order[0] == live(broker.port)
        assert set(order[1:]) == set(gone)
        monkeypatch.setattr(tls, "ATTEMPT_DELAY", 3600.0)  # from now on, it is the first
        monkeypatch.setattr(tls, "TLS_DELAY", 3600.0)
        async with asyncio.timeout(30):
            (await tls.dial(server)).close()


async def test_the_delays_are_those_of_the_rfc() -> None:
    """Three dead addresses, all of them silent in TLS, cost less than connect_timeout."""
    assert tls.ATTEMPT_DELAY == 0.25
    assert 3 * tls.TLS_DELAY < 10.0


async def test_the_losers_of_a_race_are_closed(
    serve: Serve, at: Callable[..., tls.Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two good servers, of which one is slow: one connection is left."""
    monkeypatch.setattr(tls, "ATTEMPT_DELAY", 0.0)
    monkeypatch.setattr(tls, "TLS_DELAY", 0.0)
    async with serve(stay) as one, serve(stay) as two:
        sock = await tls.dial(at(live(one.port), live(two.port)))
        port = sock.getpeername()[1]
        winner, loser = (one, two) if port == one.port else (two, one)
        await winner.until(1)
        await loser.until(0)
        sock.close()
        await winner.until(0)


async def test_cancelled_in_a_race_all_are_closed(
    serve_plain: Serve, at: Callable[..., tls.Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "ATTEMPT_DELAY", 0.01)
    monkeypatch.setattr(tls, "TLS_DELAY", 0.01)
    async with serve_plain(stay) as one, serve_plain(stay) as two:
        dialling = asyncio.create_task(tls.dial(at(live(one.port), live(two.port))))
        await one.until(1)
        await two.until(1)
        dialling.cancel()
        await asyncio.gather(dialling, return_exceptions=True)
        assert dialling.cancelled()
        await one.until(0)
        await two.until(0)


async def test_the_error_is_that_of_the_attempt_that_came_furthest(
    serve: Serve, at: Callable[..., tls.Server], authority: pki.RootAuthority
) -> None:
    async with serve(stay, pki.expired(authority, NOW)) as broker:
        with pytest.raises(ConnectError) as raised:
            await tls.dial(at(refused(), live(broker.port), refused()))
    assert raised.value.fault is ConnectFault.TLS_EXPIRED


async def test_an_address_where_mqtt_is_not_answered_is_tried_last(
    serve: Serve, at: Callable[..., tls.Server]
) -> None:
    """What ends TLS there may be alive, and what is behind it dead."""
    async with serve(answering()) as dead, serve(answering(ACCEPTED)) as good:
        server = at(live(dead.port), live(good.port), seconds=0.5)
        with pytest.raises(ConnectError) as raised:
            await mqtt.open_connection(server, LOGIN, 60)
        assert raised.value.fault is ConnectFault.MQTT_TIMEOUT
        async with asyncio.timeout(30):
            connection = await mqtt.open_connection(server, LOGIN, 60)
        await connection.close()
        await dead.until(0)
        await good.until(0)


async def test_an_address_where_http_is_not_answered_is_tried_last(
    serve: Serve, at: Callable[..., tls.Server]
) -> None:
    async def hang_up(client: Any) -> None:
        await client.reader.read(1)

    async with serve(hang_up) as dead, serve(stay) as other:
        server = at(live(dead.port), live(other.port))
        with pytest.raises(ConnectError) as raised:
            async with post_form(server, "/", {}):
                raise AssertionError("there was no response")
        assert raised.value.fault is ConnectFault.MQTT_CLOSED
        assert await tls.resolve(server) == [live(other.port), live(dead.port)]
