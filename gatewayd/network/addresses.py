"""What is remembered of a cloud's hosts: their addresses, in order, and their TLS sessions.

Each cloud has a book of its own: a name server that never answers for one of them keeps none of
the others waiting.  Names are looked up off the loop.
Sources: RFC 8305 (Happy Eyeballs, version 2), RFC 8767 (stale data), RFC 8446 (TLS 1.3).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, TypeAlias

MAX_ADDRESSES = 4
"""How many of a host's addresses are tried at a time."""
THREADS = 2
"""Look-ups of one cloud under way; a call that never returns holds one of them."""
MAX_NAMES = 64
"""Names of one cloud that wait to be looked up, and whose addresses are remembered."""
FRESH = 30.0
"""Seconds for which an answer is used without another look-up."""
STALE = 86400.0
"""Seconds for which an answer is used where the name servers do not answer (RFC 8767, 4)."""
STALE_WAIT = 2.0
"""Seconds to wait for the name servers where there is an older answer (RFC 8767, 5)."""
MAX_OUTCOMES = 256
"""Addresses whose last outcome is remembered."""
RESUMED_FOR = 60.0
"""Seconds for which a TLS session is resumed; then the certificate is verified again."""
MAX_SESSIONS = 64
"""Hosts of one cloud whose TLS sessions are remembered."""

Address: TypeAlias = tuple[socket.AddressFamily, tuple[Any, ...]]
_Name: TypeAlias = tuple[str, int]
_Answer: TypeAlias = "list[Address] | Exception"


def numeric(host: str, port: int) -> Address | None:
    """Return an IPv4 or IPv6 address without a zone; None for a name, which is looked up."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return family, ((host, port) if family == socket.AF_INET else (host, port, 0, 0))
    return None


def in_order(found: Iterable[Address], outcomes: Mapping[Address, bool]) -> list[Address]:
    """Return which addresses to try, and in which order: MAX_ADDRESSES at most.  Pure.

    The families alternate, the resolver's first choice first (RFC 8305, 4).  Then what was good the
    last time precedes what is not known, and that what failed.  outcomes: whether it was good.
    """
    families: dict[socket.AddressFamily, dict[Address, None]] = {}
    for address in found:
        families.setdefault(address[0], {})[address] = None
    mixed = [one for group in zip_longest(*families.values()) for one in group if one is not None]
    rank = {True: 0, None: 1, False: 2}
    return sorted(mixed, key=lambda address: rank[outcomes.get(address)])[:MAX_ADDRESSES]


@dataclass(frozen=True, slots=True)
class _Known:
    """An answer.  at: when it came, seconds of the loop's clock."""

    addresses: Sequence[Address]
    at: float


class AddressBook:
    """The addresses of one cloud's hosts, and which of them were good.

    look_up: as socket.getaddrinfo; blocks, and is called on a thread of its own.
    """

    def __init__(self, look_up: Callable[..., Any] | None = None) -> None:
        self._look_up = look_up
        self._known: dict[_Name, _Known] = {}
        self._outcomes: dict[Address, bool] = {}
        self._under_way: dict[_Name, asyncio.Future[_Answer]] = {}
        self._queue: deque[_Name] = deque()
        self._threads = 0

    async def resolve(self, host: str, port: int, seconds: float) -> list[Address]:
        """Return the addresses of a host, in the order in which to try them.

        A numeric address is not looked up.  seconds: for which to wait at most.
        Raises OSError, UnicodeError.
        """
        if (address := numeric(host, port)) is not None:
            return [address]
        now, name = asyncio.get_running_loop().time(), (host, port)
        known = self._known.get(name)
        if known is not None and now - known.at > STALE:
            known = None
        if known is None or now - known.at > FRESH:
            known = await self._ask(name, known, seconds)
        return in_order(known.addresses, self._outcomes)

    def note(self, address: Address, *, good: bool) -> None:
        """Remember how a connection to this address went."""
        self._outcomes.pop(address, None)
        self._outcomes[address] = good
        if len(self._outcomes) > MAX_OUTCOMES:
            del self._outcomes[next(iter(self._outcomes))]

    async def _ask(self, name: _Name, before: _Known | None, seconds: float) -> _Known:
        """Look a name up; what was known before counts where there is no answer."""
        try:
            async with asyncio.timeout(min(seconds, STALE_WAIT) if before else seconds):
                answer = await asyncio.shield(self._begin(name))
        except TimeoutError as error:
            answer = error
        if not isinstance(answer, Exception):
            return self._known[name]
        if before is None or getattr(answer, "errno", None) == socket.EAI_NONAME:
            raise answer
        return before

    def _begin(self, name: _Name) -> asyncio.Future[_Answer]:
        """Look a name up once for all that wait for it.  Raises OSError where too many names do."""
        if (under_way := self._under_way.get(name)) is not None:
            return under_way
        if len(self._under_way) >= MAX_NAMES:
            raise OSError("too many names wait to be looked up")
        answer: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._under_way[name] = answer
        self._queue.append(name)
        self._start()
        return answer

    def _start(self) -> None:
        while self._queue and self._threads < THREADS:
            name = self._queue.popleft()
            self._threads += 1
            call = (self._look_up or socket.getaddrinfo, name, asyncio.get_running_loop())
            # A daemon: a call that never returns must not keep the process from ending.
            threading.Thread(
                target=_run, args=(*call, self._done), name="look-up", daemon=True
            ).start()

    def _done(self, name: _Name, answer: _Answer) -> None:
        self._threads -= 1
        if not isinstance(answer, Exception):
            self._known.pop(name, None)
            self._known[name] = _Known(answer, asyncio.get_running_loop().time())
            if len(self._known) > MAX_NAMES:
                del self._known[next(iter(self._known))]
        self._under_way.pop(name).set_result(answer)
        self._start()


def _run(
    look_up: Callable[..., Any],
    name: _Name,
    loop: asyncio.AbstractEventLoop,
    done: Callable[[_Name, _Answer], None],
) -> None:
    """Look a name up, on a thread of its own."""
    answer: _Answer
    try:
        found = look_up(*name, type=socket.SOCK_STREAM)
        answer = [(family, address) for family, _, _, _, address in found]
    except (OSError, UnicodeError) as error:
        answer = error
    with contextlib.suppress(RuntimeError):  # the loop is closed: nothing waits any more
        loop.call_soon_threadsafe(done, name, answer)


class ResumableSessions:
    """The TLS sessions of hosts that were verified a moment ago, to be resumed (RFC 8446, 2.2).

    The host of a resumed session is the one that was verified, and the handshake costs a third
    less.  Of TLS 1.3 alone, where a resumed connection agrees on new keys, too.  One session is
    resumed many times, which lets others link the connections (C.4): all come from one gateway.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[ssl.SSLSession | None, ssl.SSLContext, float]] = {}

    def of(self, host: str, context: ssl.SSLContext) -> ssl.SSLSession | None:
        """Return the session of a host; None where none was made with this context lately."""
        session, known, end = self._kept.get(host, (None, None, 0.0))
        if known is context and end > _now():
            return session
        self._kept.pop(host, None)
        return None

    def keep(self, host: str, context: ssl.SSLContext, sock: ssl.SSLSocket) -> None:
        """Remember the session of a connection; it has none before something was received.

        That of a resumed one is not remembered, so that a certificate is verified each RESUMED_FOR.
        """
        if host in self._kept or sock.session_reused or sock.version() != "TLSv1.3":
            return
        if (session := sock.session) is not None and session.has_ticket:
            self._put(host, session, context)

    def suspend(self, host: str, context: ssl.SSLContext) -> None:
        """Resume nothing of a host for a while, as that has failed.

        What is on the way there may not bear it: then every other connection would fail.
        """
        self._put(host, None, context)

    def drop(self, host: str) -> None:
        """Forget the session of a host, as it is not resumed."""
        if self._kept.get(host, (None,))[0] is not None:
            del self._kept[host]

    def _put(self, host: str, session: ssl.SSLSession | None, context: ssl.SSLContext) -> None:
        self._kept[host] = session, context, _now() + RESUMED_FOR
        if len(self._kept) > MAX_SESSIONS:
            del self._kept[next(iter(self._kept))]

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()


def _now() -> float:
    return asyncio.get_running_loop().time()
