"""Devices of the simulated Huawei platform.  Plain data.

Source: the models AddDevice, AuthInfoRes and ShowDeviceResponse of the vendor's management SDK.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Required, TypedDict


class HuaweiDeviceStatus(StrEnum):
    """What the platform says of a device."""

    ONLINE = "ONLINE"
    OFFLINE = "OFFLINE"
    INACTIVE = "INACTIVE"
    FROZEN = "FROZEN"


class HuaweiAuthType(StrEnum):
    """How a device proves itself."""

    SECRET = "SECRET"
    CERTIFICATES = "CERTIFICATES"


class CredentialSlot(StrEnum):
    """Which of two secrets, or of two fingerprints.  Both are as good."""

    PRIMARY = "PRIMARY"
    SECONDARY = "SECONDARY"


class HuaweiNodeType(StrEnum):
    """Whether a device connects for itself."""

    GATEWAY = "GATEWAY"
    ENDPOINT = "ENDPOINT"


@dataclass(slots=True)
class DeviceAuth:
    """How a device proves itself.  fingerprint: SHA-1 or SHA-256; None is learnt.

    timeout: seconds that a device may stay unused; kept, and never acted on.
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
        """Those that a password may be made of."""
        return tuple(filter(None, (self.secret, self.secondary_secret)))


class NewDevice(TypedDict, total=False):
    """What a device is registered with.

    device_id: made of product_id and node_id where it is missing.
    app_id: the default resource space, where it is missing.
    gateway_id: of the parent; missing where the device connects for itself.
    auth: a secret is made up where a direct device needs one.
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

    gateway_id: of its parent; its own id where it connects for itself.
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
        """Whether the device connects for itself."""
        return self.gateway_id == self.device_id

    @property
    def status(self) -> HuaweiDeviceStatus:
        """What the platform says of it."""
        return HuaweiDeviceStatus.FROZEN if self.frozen else self.connection

    @property
    def node_type(self) -> HuaweiNodeType:
        """What kind it is."""
        return HuaweiNodeType.GATEWAY if self.direct else HuaweiNodeType.ENDPOINT

    def connect(self, now: float) -> None:
        """Be online."""
        self.activated = now if self.activated is None else self.activated
        self.connection, self.changed = HuaweiDeviceStatus.ONLINE, now

    def disconnect(self, now: float) -> None:
        """Be offline; who was never online stays inactive."""
        if self.connection is HuaweiDeviceStatus.ONLINE:
            self.connection, self.changed = HuaweiDeviceStatus.OFFLINE, now
