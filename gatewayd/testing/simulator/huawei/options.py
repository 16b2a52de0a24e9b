"""How the simulated Huawei cloud is served.  Plain data."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from gatewayd.testing.simulator.huawei.reasons import CODES, Reason
from gatewayd.testing.simulator.huawei.rules import Rules
from gatewayd.testing.simulator.mqtt_link import Limits


@dataclass(frozen=True, slots=True)
class Options:
    """How the cloud is served.

    address: IPv4, listened on.  port: 0 takes a free one.
    oldest, newest: versions of TLS that are spoken; the vendor's oldest is 1.1.
    rsa_key: whether the server's key is RSA, as the vendor's; making one takes a moment.
    nameless: the alert for a client that says no name, or none that is known; the vendor does not
        say which.
    late_unverified: whether a certificate of an unverified CA passes the handshake, and CONNACK
        refuses it.
    codes: CONNACK of each reason.
    rules: for gateways.
    """

    address: str = "127.0.0.1"
    port: int = 0
    oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    rsa_key: bool = False
    nameless: ssl.AlertDescription = ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    late_unverified: bool = False
    codes: Mapping[Reason, int] = field(default_factory=lambda: CODES)
    rules: Rules = field(default_factory=Rules)
    limits: Limits = field(default_factory=lambda: Limits(packet=(1 << 20) + 256))
