"""The management interface of the simulated Huawei platform: REST over HTTPS, as documented.

Source: the vendor's API reference (api-iothub) and its guide to errors of its API gateway.  The
project in an address may be any.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Self, TypeAlias

from aiohttp import web

from gatewayd.simulator import pki
from gatewayd.simulator.huawei.management import (
    certificates,
    devices,
    exchange,
    policies,
    resource_spaces,
    routing,
)
from gatewayd.simulator.huawei.management.rest import (
    ManagementRequest,
    ManagementRoute,
    ManagementView,
    read_body,
    read_query,
)
from gatewayd.simulator.huawei.management.signature import (
    DERIVED_HOST,
    SignatureChecker,
    SignedMessage,
    Unauthenticated,
)
from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError
from gatewayd.simulator.huawei.platform.instance import IotdaInstance
from gatewayd.simulator.huawei.platform.platform import Platform
from gatewayd.simulator.rate_window import RateWindow

BASE = "/v5/iot/{project_id}"
MAX_BODY = 1 << 20
"""Bytes of a request's body."""
_GRACE = 0.1
"""Seconds for the last answers at the end."""
ROUTES: tuple[ManagementRoute, ...] = (
    *resource_spaces.ROUTES,
    *devices.ROUTES,
    *exchange.ROUTES,
    *certificates.ROUTES,
    *policies.ROUTES,
    *routing.ROUTES,
)

_THROTTLED = (
    "The throttling threshold has been reached: policy user over ratelimit,limit:{},time:1 minute"
)
_MINUTE = 60.0

_Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
_NOWHERE = "The API does not exist or has not been published in the environment"
_GATEWAY: Mapping[int, tuple[int, str, str]] = {
    404: (404, "APIG.0101", _NOWHERE),
    405: (404, "APIG.0101", _NOWHERE),
    413: (413, "APIG.0201", "Request entity too large"),
}
"""The answers of the vendor's API gateway, which do not reach the platform."""


class Management:
    """The interface, served while the `async with` lasts.

    credentials: secret keys by access key.  token: the valid X-Auth-Token, if any.
    authority: issues the certificate, for this machine and for the hosts of the platform's regions.
    address: IPv4 or IPv6, listened on.  port: 0 takes a free one.
    rate: requests in any minute that its gateway lets through; 0 for all.  The vendor prints no
    number for this service, and how it answers for another one (ocr_faq/ocr_01_0041).
    """

    def __init__(  # noqa: PLR0913  # most by keyword
        self,
        platform: Platform,
        *,
        authority: pki.RootAuthority,
        credentials: Mapping[str, str],
        token: str | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
        rate: int = 0,
    ) -> None:
        self._rate, self._window = rate, RateWindow()
        self._platform, self._authority = platform, authority
        self._checker = SignatureChecker(credentials, token)
        self._address, self._port = address, port
        self._runner: web.AppRunner | None = None
        self._forwarder = routing.HttpForwarder(authority.pem)

    async def __aenter__(self) -> Self:
        """Listen, and forward what devices say.  Raises OSError."""
        for instance in self._platform.instances.values():
            self._forwarder.watch(instance)
        application = web.Application(middlewares=[_errors], client_max_size=MAX_BODY)
        for method, path, status, view in ROUTES:
            handler = partial(self._answer, status, view)
            application.router.add_route(method, BASE + path, handler)
        runner = self._runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        tls = self._certificate().server_context()
        await web.TCPSite(runner, self._address, self._port, ssl_context=tls).start()
        self._port = runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection, also in the middle of a request."""
        await self._forwarder.close()
        if self._runner and self._runner.server:
            await self._runner.server.shutdown(timeout=_GRACE)
            await self._runner.cleanup()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._port

    def _certificate(self) -> pki.KeyedCertificate:
        regions = sorted(self._regions())
        names = [f"iotda.{one}.myhuaweicloud.com" for one in regions]
        names += [f"*.st1.iotda-app.{one}.myhuaweicloud.com" for one in regions]
        begin, end = pki.life(self._authority.certificate)
        return self._authority.issue(["localhost", *names], [self._address], begin, end)

    def _regions(self) -> frozenset[str]:
        return frozenset(one.region for one in self._platform.instances.values())

    async def _answer(
        self,
        status: int,
        view: ManagementView,
        request: web.Request,
    ) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.read()
        message = SignedMessage(request.method, request.raw_path, headers, body)
        now = self._platform.clock()
        self._checker.check(message, self._regions(), now)
        if not self._window.admits(now, self._rate, _MINUTE):
            return _refusal(429, "APIG.0308", _THROTTLED.format(self._rate))
        query = read_query(message.target.partition("?")[2])
        parsed = ManagementRequest(
            self._instance(message), request.match_info, query, read_body(body)
        )
        found = view(parsed)
        answer = await found if inspect.isawaitable(found) else found
        if answer is None:
            return web.Response(status=status)
        return web.json_response(answer, status=status)

    def _instance(self, message: SignedMessage) -> IotdaInstance:
        """Return the instance: by its host, by Instance-Id, or the only one."""
        own = message.host.replace(DERIVED_HOST, ".iotda-device.")
        if own != message.host and (instance := self._platform.by_domain(own)):
            return instance
        if named := message.headers.get("instance-id"):
            return self._platform.get(named)
        if len(self._platform.instances) == 1:
            return next(iter(self._platform.instances.values()))
        raise PlatformError(IotdaCode.NOT_OFFERED, "(Instance-Id)")


@web.middleware
async def _errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Answer errors in the vendor's form."""
    try:
        return await handler(request)
    except PlatformError as error:
        return web.json_response(error.body, status=error.status)
    except Unauthenticated as error:
        return _refusal(401, "APIGW.0301", error.message)
    except web.HTTPException as error:
        if error.status not in _GATEWAY:
            raise
        return _refusal(*_GATEWAY[error.status])


def _refusal(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error_code": code, "error_msg": message}, status=status)
