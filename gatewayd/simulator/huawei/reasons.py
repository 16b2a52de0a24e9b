"""Why a CONNECT to the Huawei platform is refused, and with which code.  Plain data.

Source: the vendor's page on MQTT CONNECT (api-iothub/iot_06_v5_3009).  It says what the codes mean,
and for few reasons only which one they get.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Reason(StrEnum):
    """Why.

    attribute: the certificate does not suit the template.
    template: another device has the node id that it makes.
    """

    PROTOCOL = "protocol"
    CLIENT_ID = "client-id"
    KEEPALIVE = "keepalive"
    USERNAME = "username"
    PASSWORD = "password"
    TIMESTAMP = "timestamp"
    AUTH_TYPE = "auth-type"
    NO_CREDENTIAL = "no-credential"
    FINGERPRINT = "fingerprint"
    UNKNOWN_DEVICE = "unknown-device"
    FROZEN = "frozen"
    CHILD = "child"
    UNKNOWN_CA = "unknown-ca"
    UNVERIFIED_CA = "unverified-ca"
    CERTIFICATE_INACTIVE = "certificate-inactive"
    NOT_PROVISIONED = "not-provisioned"
    TEMPLATE = "template"
    ATTRIBUTE = "attribute"
    RESOURCE_SPACE = "resource-space"
    NO_ROOM = "no-room"


VERSION, CLIENT_ID, UNAVAILABLE, CREDENTIALS, NOT_AUTHORIZED = 1, 2, 3, 4, 5

CODES: Mapping[Reason, int] = {
    Reason.PROTOCOL: VERSION,
    Reason.CLIENT_ID: CLIENT_ID,
    Reason.KEEPALIVE: CLIENT_ID,
    Reason.USERNAME: CREDENTIALS,
    Reason.PASSWORD: CREDENTIALS,
    Reason.TIMESTAMP: CREDENTIALS,
    Reason.AUTH_TYPE: CREDENTIALS,
    Reason.NO_CREDENTIAL: CREDENTIALS,
    Reason.FINGERPRINT: CREDENTIALS,
    Reason.UNKNOWN_DEVICE: NOT_AUTHORIZED,
    Reason.FROZEN: NOT_AUTHORIZED,
    Reason.CHILD: NOT_AUTHORIZED,
    Reason.UNKNOWN_CA: NOT_AUTHORIZED,
    Reason.UNVERIFIED_CA: NOT_AUTHORIZED,
    Reason.CERTIFICATE_INACTIVE: NOT_AUTHORIZED,
    Reason.NOT_PROVISIONED: NOT_AUTHORIZED,
    Reason.TEMPLATE: NOT_AUTHORIZED,
    Reason.ATTRIBUTE: NOT_AUTHORIZED,
    Reason.RESOURCE_SPACE: NOT_AUTHORIZED,
    Reason.NO_ROOM: NOT_AUTHORIZED,
}
"""Reason → return code of CONNACK.

Documented are those of protocol, client id, keep-alive, user name and password.  Of the rest the
vendor says "no permission to connect" at best; of certificates and templates, nothing.
"""


class Refused(Exception):
    """A CONNECT is refused.  device_id: whose it is, or "" where nobody knows."""

    def __init__(self, reason: Reason, device_id: str = "") -> None:
        super().__init__(reason)
        self.reason, self.device_id = reason, device_id
