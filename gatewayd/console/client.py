"""A client of a console's API: one signed request after the other, within bounds.

What a vendor's requests look like, and what its answers mean, is its dialect's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from gatewayd.cloud.http import HTTPS_PORT, exchanged, whole_request
from gatewayd.errors import ConsoleError
from gatewayd.network import connect_errors
from gatewayd.network.connect_errors import SILENT, ConnectError, ConnectFault
from gatewayd.network.http_head import authority
from gatewayd.network.http_response import HttpResponse
from gatewayd.network.tls import Server
from gatewayd.runtime import backoff

MAX_ANSWER = 1 << 20
"""Bytes of an answer with its header: a page of 50 entries has some ten thousand, a product's model
at most half of this.
"""

MAX_BODY = 1 << 20
"""Bytes of the body of a request."""

TRIES = 9
"""How often a request is sent that the API puts off: limits of requests in a minute are common."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 16.0
"""Seconds after the first and the last of them."""

Answer = Mapping[str, Any]
"""The JSON object that an API answers; an empty one where it answers nothing."""


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request to an API.

    target: path and query, encoded.  fields: of its head, beside Host and those of its length.
    shown: what it asks, for people, and without any secret.
    """

    method: str
    target: str
    shown: str
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


class ApiBusy(Exception):
    """The API puts a request off, and has not acted on it.  text: why, for people."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class ConsoleDialect(Protocol):
    """How a vendor's API is spoken."""

    def sign(self, request: ApiRequest, host: str, now: float, nonce: bytes) -> ApiRequest:
        """Return the request with its signature, and with all other fields that it is to have.

        host: as the field Host has it, which the client adds.  now: seconds since 1970.
        nonce: 16 random bytes.
        """

    def read(self, request: ApiRequest, response: HttpResponse) -> Answer:
        """Return what the API answered.

        Raises ApiBusy where it is to be asked again later, ConsoleRefused where it refuses, and
        ConsoleError where it answers what its documents do not have.
        """


class ConsoleClient:
    """A client of one API.

    server: where it is, and how long to wait for it.
    dry_run: whether no request is sent that changes anything.
    clock: seconds since 1970.  random: returns so many random bytes.  sleep: waits so many seconds.
    jitter: a number from [0, 1), for each wait.
    """

    def __init__(  # noqa: PLR0913  # most by keyword
        self,
        server: Server,
        dialect: ConsoleDialect,
        *,
        dry_run: bool,
        clock: Callable[[], float],
        random: Callable[[int], bytes],
        jitter: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._server, self._dialect = server, dialect
        self._clock, self._random, self._jitter, self._sleep = clock, random, jitter, sleep
        self.dry_run = dry_run
        self.planned: list[str] = []

    @property
    def host(self) -> str:
        """The name of the server."""
        return self._server.host

    async def read(self, request: ApiRequest) -> Answer:
        """Have a request answered that changes nothing.  Raises ConsoleError."""
        return await self._ask(request, changes=False)

    async def change(self, request: ApiRequest, foreseen: Answer | None = None) -> Answer:
        """Have a request answered that changes something.

        foreseen: what stands for the answer in a dry run, which adds what would be asked to
        `planned`; the caller takes it from there.
        Raises ConsoleError, which says where it is not known whether it was done.
        """
        if self.dry_run:
            self.planned.append(request.shown)
            return foreseen or {}
        return await self._ask(request, changes=True)

    def take_planned(self) -> tuple[str, ...]:
        """Return what would have been asked since the last call."""
        planned, self.planned = tuple(self.planned), []
        return planned

    async def _ask(self, request: ApiRequest, *, changes: bool) -> Answer:
        if len(request.body) > MAX_BODY:
            raise ConsoleError(
                f"{request.shown} is not asked: it has more than {MAX_BODY} bytes. Make it shorter"
            )
        for tried in range(1, TRIES + 1):
            response = await self._exchange(request, changes=changes)
            try:
                return self._dialect.read(request, response)
            except ApiBusy as busy:
                why = busy.text
            if tried < TRIES:
                wait = backoff.delay(tried, FIRST_WAIT, LONGEST_WAIT, self._jitter())
                await self._sleep(wait)
        raise ConsoleError(
            f"{request.shown} was put off {TRIES} times: {why}. Try again in some minutes"
        )

    async def _exchange(self, request: ApiRequest, *, changes: bool) -> HttpResponse:
        """Send a request, signed for this moment, and return the response."""
        server = self._server
        try:
            host = authority(server.host, server.port, HTTPS_PORT)
            signed = self._dialect.sign(request, host, self._clock(), self._random(16))
            data = whole_request(
                signed.method, signed.target, {"Host": host, **signed.fields}, signed.body
            )
            async with exchanged(server, data, MAX_ANSWER) as response:
                return response
        except ConnectError as error:
            raise _failed(request, error, server, changes=changes) from None


_NO_ANSWER: Mapping[ConnectFault, str] = {
    ConnectFault.MQTT_TIMEOUT: "{} did not answer in time",
    ConnectFault.MQTT_CLOSED: "{} closed the connection without an answer",
    ConnectFault.MQTT_PROTOCOL: "{} answered with what is not HTTP, or is too large",
}
_TRUST = frozenset({ConnectFault.CA_FILE, ConnectFault.TLS_UNKNOWN_CA})


def _failed(
    request: ApiRequest, error: ConnectError, server: Server, *, changes: bool
) -> ConsoleError:
    if error.fault in SILENT:
        why, remedy = _NO_ANSWER[error.fault].format(server.host), "Try again"
        if changes:
            remedy = "It may have been done: run the same command again, which does nothing twice"
    else:
        why = connect_errors.reason(error.fault, server.host, server.port, "").text.rstrip(".")
        remedy = "Check --endpoint, and the network and the clock of this machine"
        if error.fault in _TRUST:
            remedy = "Use --ca-file FILE with the root certificate of this endpoint"
    return ConsoleError(f"{request.shown} was not answered: {why}. {remedy}")
