"""A device of the simulated Huawei platform.  Plain data.

Source: the models AddDevice, AuthInfoRes and ShowDeviceResponse of the vendor's management SDK.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Required, TypedDict


class HuaweiDeviceStatus(StrEnum):
    """The status of a device."""

    ONLINE = "ONLINE"
    OFFLINE = "OFFLINE"
    INACTIVE = "INACTIVE"
    FROZEN = "FROZEN"


class HuaweiAuthType(StrEnum):
    """The authentication type of a device."""

    SECRET = "SECRET"
    CERTIFICATES = "CERTIFICATES"


class AuthSlot(StrEnum):
    """One of the two secrets, or of the two fingerprints; both are equally valid."""

    PRIMARY = "PRIMARY"
    SECONDARY = "SECONDARY"


class HuaweiNodeType(StrEnum):
    """Whether a device connects directly."""

    GATEWAY = "GATEWAY"
    ENDPOINT = "ENDPOINT"


@dataclass(slots=True)
class DeviceAuth:
    """The credentials of a device.  fingerprint: SHA-1 or SHA-256; None to learn the next one.

    timeout: seconds that a device may stay unused; kept, but without effect.
    """

    auth_type: HuaweiAuthType = HuaweiAuthType.SECRET
    secret: str | None = field(default=None, repr=False)
    secondary_secret: str | None = field(default=None, repr=False)
    fingerprint: str | None = None
    secondary_fingerprint: str | None = None
    secure_access: bool = True
    timeout: int = 0

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets that a password may be made with."""
        return tuple(filter(None, (self.secret, self.secondary_secret)))


class NewDevice(TypedDict, total=False):
    """The fields of a new device.

    device_id: made of product_id and node_id by default.
    app_id: the default resource space by default.
    gateway_id: of the parent; missing for a direct device.
    auth: a direct device gets a random secret if it needs one.
    """

    node_id: Required[str]
    product_id: Required[str]
    device_id: str | None
    name: str | None
    description: str | None
    app_id: str | None
    gateway_id: str | None
    auth: DeviceAuth | None
    extension_info: object
    tags: Mapping[str, str] | None
    self_registered: bool


@dataclass(slots=True)
class HuaweiDevice:
    """One device.

    gateway_id: of its parent; its own id for a direct device.
    created, activated, changed: seconds since 1970; the last is of the connection's status.
    """

    device_id: str
    node_id: str
    product_id: str
    app_id: str
    gateway_id: str
    record_id: str
    created: float
    auth: DeviceAuth = field(default_factory=DeviceAuth)
    name: str | None = None
    description: str | None = None
    extension_info: object = None
    tags: dict[str, str] = field(default_factory=dict)
    frozen: bool = False
    connection: HuaweiDeviceStatus = HuaweiDeviceStatus.INACTIVE
    activated: float | None = None
    changed: float | None = None
    fw_version: str | None = None
    sw_version: str | None = None
    self_registered: bool = False

    @property
    def direct(self) -> bool:
        """Whether the device connects directly."""
        return self.gateway_id == self.device_id

    @property
    def status(self) -> HuaweiDeviceStatus:
        """The status of the device."""
        return HuaweiDeviceStatus.FROZEN if self.frozen else self.connection

    @property
    def node_type(self) -> HuaweiNodeType:
        """The node type of the device."""
        return HuaweiNodeType.GATEWAY if self.direct else HuaweiNodeType.ENDPOINT

    def connect(self, now: float) -> None:
        """Set the device online."""
        self.activated = now if self.activated is None else self.activated
        self.connection, self.changed = HuaweiDeviceStatus.ONLINE, now

    def disconnect(self, now: float) -> None:
        """Set the device offline; one that was never online stays inactive."""
        if self.connection is HuaweiDeviceStatus.ONLINE:
            self.connection, self.changed = HuaweiDeviceStatus.OFFLINE, now
