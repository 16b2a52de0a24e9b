"""The options of the simulated Huawei cloud, and its rules for gateways.  Plain data.

Sources: the vendor's pages on child devices (see events.py), and "Limits" (productdesc-iothub/
iot_04_0010).
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from gatewayd.simulator.huawei.reasons import CODES, RefusalReason
from gatewayd.simulator.mqtt.link import MqttLimits, MqttWitness


class Excess(Enum):
    """The treatment of a request with too many devices; the vendor does not document it."""

    IGNORE = auto()
    FAIL = auto()
    TRUNCATE = auto()


@dataclass(frozen=True, slots=True)
class HuaweiRules:
    """The limits, and the choices that the vendor leaves open.

    batch, statuses: devices in one request to add or delete, and in one of statuses.
    excess: the treatment of more.
    status_rate: children whose status an instance accepts in a second; 0 for no limit.
    delay: seconds until a response.
    old_status_event: whether the response to a status has the request's own name, as on older
        pages.
    own_changes: whether a gateway is also notified of its own changes.
    nothing_new: whether a synchronization without changes is answered, with an empty list.
    notified: children in one notification.
    remembered: changes of one gateway's children; a request for older ones returns all children.
    implicit: whether a device receives the platform's messages without a subscription.
    twice: whether one with a subscription receives them twice.
    properties: children in one report of properties.  report_bytes: its size
        (usermanual-iothub/iot_01_0326).
    message_bytes: the size of any message; a larger one is rejected.
    period: seconds that the next three are counted in.
    messages: that a connection may send, and bandwidth: their bytes; more are discarded.
    connects: that an instance accepts: 100 for each unit that is bought, here those
        of 30 units, which is the most (productdesc-iothub/iot_04_0014); 0 for no limit.
    response_timeout: seconds that a device has for a response (api-iothub/iot_06_v5_0038).
    """

    batch: int = 50
    statuses: int = 100
    excess: Excess = Excess.FAIL
    status_rate: int = 150
    delay: float = 0.0
    old_status_event: bool = False
    own_changes: bool = False
    nothing_new: bool = False
    notified: int = 500
    remembered: int = 10_000
    implicit: bool = True
    twice: bool = False
    properties: int = 100
    report_bytes: int = 64 * 1024
    message_bytes: int = 1 << 20
    period: float = 1.0
    messages: int = 50
    bandwidth: int = 1 << 20
    connects: int = 3_000
    response_timeout: float = 20.0


@dataclass(frozen=True, slots=True)
class HuaweiCloudOptions:
    """The options of the cloud.

    address: IPv4 or IPv6, listened on.  port: 0 takes a free one.
    oldest, newest: supported versions of TLS; the vendor's oldest is 1.1.
    rsa_key: whether the server's key is RSA, as the vendor's; making one takes a moment.
    nameless: the alert for a client without a server name, or with an unknown one; the vendor does
        not document it.
    late_unverified: whether a certificate of an unverified CA passes the handshake, and CONNACK
        refuses it.
    codes: CONNACK of each reason.
    rules: for gateways.
    witness: is shown what arrives.
    """

    address: str = "127.0.0.1"
    port: int = 0
    oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    rsa_key: bool = False
    nameless: ssl.AlertDescription = ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    late_unverified: bool = False
    codes: Mapping[RefusalReason, int] = field(default_factory=lambda: CODES)
    rules: HuaweiRules = field(default_factory=HuaweiRules)
    limits: MqttLimits = field(default_factory=lambda: MqttLimits(packet=(1 << 20) + 256))
    witness: MqttWitness | None = None
