"""The reasons to refuse a CONNECT to the Huawei platform, and their codes.  Plain data.

Source: the vendor's page on MQTT CONNECT (api-iothub/iot_06_v5_3009).  It defines the
codes, but assigns one to few reasons only.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class RefusalReason(StrEnum):
    """A reason.

    attribute: the certificate does not fit the template.
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
    TOO_MANY = "too-many-connects"


VERSION, CLIENT_ID, UNAVAILABLE, CREDENTIALS, NOT_AUTHORIZED = 1, 2, 3, 4, 5

CODES: Mapping[RefusalReason, int] = {
    RefusalReason.PROTOCOL: VERSION,
    RefusalReason.CLIENT_ID: CLIENT_ID,
    RefusalReason.KEEPALIVE: CLIENT_ID,
    RefusalReason.USERNAME: CREDENTIALS,
    RefusalReason.PASSWORD: CREDENTIALS,
    RefusalReason.TIMESTAMP: CREDENTIALS,
    RefusalReason.AUTH_TYPE: CREDENTIALS,
    RefusalReason.NO_CREDENTIAL: CREDENTIALS,
    RefusalReason.FINGERPRINT: CREDENTIALS,
    RefusalReason.UNKNOWN_DEVICE: NOT_AUTHORIZED,
    RefusalReason.FROZEN: NOT_AUTHORIZED,
    RefusalReason.CHILD: NOT_AUTHORIZED,
    RefusalReason.UNKNOWN_CA: NOT_AUTHORIZED,
    RefusalReason.UNVERIFIED_CA: NOT_AUTHORIZED,
    RefusalReason.CERTIFICATE_INACTIVE: NOT_AUTHORIZED,
    RefusalReason.NOT_PROVISIONED: NOT_AUTHORIZED,
    RefusalReason.TEMPLATE: NOT_AUTHORIZED,
    RefusalReason.ATTRIBUTE: NOT_AUTHORIZED,
    RefusalReason.RESOURCE_SPACE: NOT_AUTHORIZED,
    RefusalReason.NO_ROOM: NOT_AUTHORIZED,
    RefusalReason.TOO_MANY: UNAVAILABLE,
}
"""Reason → return code of CONNACK.

Documented are those of protocol, client id, keep-alive, user name and password.  Of the rest the
vendor says "no permission to connect" at best; of certificates and templates, nothing.
"""


class HuaweiConnectRefused(Exception):
    """A refusal of a CONNECT.  device_id: that of its device; "" for unknown."""

    def __init__(self, reason: RefusalReason, device_id: str = "") -> None:
        super().__init__(reason)
        self.reason, self.device_id = reason, device_id
