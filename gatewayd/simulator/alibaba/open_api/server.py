"""The calls to the simulated Alibaba cloud, served over HTTPS as the vendor documents them.

Source: the vendor's page "Make API requests" (help.aliyun.com/document_detail/30561): a call has
its parameters in the query, and in a form.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Self

from aiohttp import web

from gatewayd.simulator import pki
from gatewayd.simulator.alibaba.console import AlibabaConsole
from gatewayd.simulator.alibaba.open_api import calls
from gatewayd.simulator.alibaba.open_api.management import OpenApiManagement, OpenApiOptions
from gatewayd.simulator.alibaba.open_api.parameters import OpenApiFailure
from gatewayd.simulator.alibaba.open_api.signature import OpenApiRefused, OpenApiSignatures

ENDPOINT = "iot.{region}.aliyuncs.com"
MAX_BODY = 1 << 20
"""Bytes of a call's form."""
GRACE = 0.1
"""Seconds for the last answers at the end."""


class OpenApi:
    """The calls, served while the `async with` lasts.

    credentials: secrets by access key.  wall: seconds since 1970.
    authority: issues the certificate, for this machine and for the endpoint of the region.
    address: IPv4 or IPv6, listened on.
    """

    def __init__(
        self,
        console: AlibabaConsole,
        *,
        authority: pki.RootAuthority,
        credentials: Mapping[str, str],
        options: OpenApiOptions,
        wall: Callable[[], float],
        address: str = "127.0.0.1",
    ) -> None:
        self._console, self._authority, self._wall = console, authority, wall
        self._signatures = OpenApiSignatures(credentials, options.tokens)
        self._region = options.region
        self._management = OpenApiManagement(console, wall=wall, options=options)
        self._address, self._runner = address, web.AppRunner(self._application(), access_log=None)

    async def __aenter__(self) -> Self:
        """Listen.  Raises OSError."""
        await self._runner.setup()
        begin, end = pki.life(self._authority.certificate)
        names = ["localhost", ENDPOINT.format(region=self._region)]
        issued = self._authority.issue(names, [self._address], begin, end)
        tls = issued.server_context()
        await web.TCPSite(self._runner, self._address, 0, ssl_context=tls).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection, also in the middle of a call."""
        if self._runner.server is not None:
            await self._runner.server.shutdown(timeout=GRACE)
        await self._runner.cleanup()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._runner.addresses[0][1])

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=MAX_BODY)
        application.router.add_route("*", "/", self._answer)
        return application

    async def _answer(self, request: web.Request) -> web.Response:
        form = await request.post()
        parameters = {name: text for name, text in form.items() if isinstance(text, str)}
        parameters |= request.query
        number = {"RequestId": secrets.token_hex(16)}
        try:
            self._signatures.check(request.method, parameters, self._wall())
            found = await calls.answer(self._console, self._management, parameters)
        except OpenApiRefused as refused:
            body = {"Code": refused.code, "Message": refused.message}
            return web.json_response(number | body, status=refused.status)
        except OpenApiFailure as failed:
            body = {"Code": failed.code, "ErrorMessage": failed.message}
            return web.json_response({**number, "Success": False, **body, **failed.data})
        return web.json_response({**number, "Success": True, **found})
