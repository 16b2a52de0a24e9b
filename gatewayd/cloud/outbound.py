"""The way out of a site: the settings of a proxy and of the transport, for each cloud.

Both vendors document MQTT over WebSocket with TLS on port 443: Alibaba's "Establish MQTT over
WebSocket connections" (doc-detail/63656) and Huawei's "MQTT over WebSocket" of the IoTDA developer
guide.  [network] has the proxy of all clouds; a cloud's own table may name another, or none.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

from gatewayd.cloud.credentials import GivenSecret, ReadSecret
from gatewayd.network.addresses import AddressBook, ResumableSessions
from gatewayd.network.proxy import Proxy
from gatewayd.network.tls import Server
from gatewayd.settings import grammar
from gatewayd.settings.declare import given_credential, given_file, setting

DIRECT = "direct"
"""The proxy of a cloud that is connected to without one, whatever [network] says."""


def _proxy_or_direct(text: str) -> str:
    return "" if text == DIRECT else grammar.proxy(text)


MQTTS_PORT = 8883
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,255}", re.ASCII)


def _path(text: str) -> str:
    return "" if _PATH.fullmatch(text) else "must be a path, as /mqtt, of at most 256 characters"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """[network]: the way out of the site, for all clouds."""

    proxy: str = setting(
        "",
        'HTTP proxy for connections to clouds, as "http://proxy.example:3128" (default: none)',
        grammar=grammar.proxy,
    )
    proxy_credential: str = given_credential("user:password for the proxy")
    proxy_file: Path | None = given_file("user:password for the proxy", "proxy_credential")

    def problems(self) -> Iterator[str]:
        """Yield each mistake as one sentence, with the key and the remedy."""
        given = self.proxy_credential or self.proxy_file
        if given and self.proxy in ("", DIRECT):
            yield "proxy_credential and proxy_file are for a proxy: set proxy, or leave them out"
        if self.proxy_credential and self.proxy_file is not None:
            yield "there are both proxy_credential and proxy_file: leave one out"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundSettings(NetworkSettings):
    """The settings of a cloud about the way to it; the settings of a cloud inherit them."""

    proxy: str = setting(
        "",
        'HTTP proxy for connections to this cloud, as "http://proxy.example:3128"; "direct" for '
        "none (default: that of [network])",
        grammar=_proxy_or_direct,
    )
    transport: str = setting(
        "tcp",
        'how MQTT is carried inside TLS: "websocket" for a firewall that lets nothing but port 443 '
        "out, where the cloud serves it there, as those of vendors do",
        choices=("tcp", "websocket"),
    )
    websocket_path: str = setting(
        "/mqtt", "path at which the cloud serves MQTT over WebSocket", grammar=_path
    )

    @property
    def websocket(self) -> str:
        """The path of the WebSocket; "" without one."""
        return self.websocket_path if self.transport == "websocket" else ""

    def transport_problems(self, port: int) -> Iterator[str]:
        """Yield what does not fit the transport, as `problems` does.  port: of the cloud."""
        if self.websocket and port == MQTTS_PORT:
            yield f"port {port} has no WebSocket: set port to 443 where transport is websocket"

    def with_default(self, default: NetworkSettings) -> Self:
        """Return these settings, with the proxy of all clouds where they name none.

        The credentials belong to the proxy beside which they are set, and go to no other.
        """
        if self.proxy:
            return self
        return replace(
            self,
            proxy=default.proxy,
            proxy_credential=default.proxy_credential,
            proxy_file=default.proxy_file,
        )


class ProxySettings(Protocol):
    """The settings of a proxy, as `NetworkSettings` has them."""

    @property
    def proxy(self) -> str: ...
    @property
    def proxy_credential(self) -> str: ...
    @property
    def proxy_file(self) -> Path | None: ...


def proxy_of(settings: ProxySettings, read_secret: ReadSecret) -> Proxy | None:
    """Return the proxy by which to connect; None for none.

    read_secret: see credentials.py; called off the loop, for each connection.
    """
    address = grammar.proxy_address(settings.proxy)
    if address is None:
        return None
    if not settings.proxy_credential and settings.proxy_file is None:
        return Proxy(*address)
    given = GivenSecret(read_secret, settings.proxy_credential, settings.proxy_file)
    return Proxy(*address, given.read)


class EndpointSettings(Protocol):
    """The settings of a cloud with one endpoint."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def address(self) -> str: ...
    @property
    def connect_timeout(self) -> float: ...
    @property
    def reply_timeout(self) -> float: ...
    @property
    def websocket(self) -> str: ...


def server_of(
    settings: EndpointSettings,
    context: ssl.SSLContext,
    book: AddressBook,
    proxy: Proxy | None,
    sessions: ResumableSessions | None = None,
) -> Server:
    """Return the endpoint, with its trust, its timeouts and its addresses, and the way to it.

    sessions: those of TLS to resume; None for a context that shows a certificate.
    """
    return Server(
        settings.host, settings.port, context, settings.connect_timeout, settings.reply_timeout,
        settings.address, book, proxy, settings.websocket, sessions,
    )  # fmt: skip
