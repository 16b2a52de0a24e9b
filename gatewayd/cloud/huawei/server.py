"""Where an instance is."""

from __future__ import annotations

import ssl

from gatewayd.cloud.huawei.settings import HuaweiSettings
from gatewayd.cloud.tls import Server


def server(settings: HuaweiSettings, context: ssl.SSLContext) -> Server:
    """Return where to connect to, whom to trust there, and how long to wait."""
    return Server(
        settings.host,
        settings.port,
        context,
        settings.connect_timeout,
        settings.reply_timeout,
        settings.address,
    )
