"""The shadows of devices: what they have last reported, and what the owner desires.  No I/O.

Source: "Device Shadow" (usermanual-iothub/iot_01_0049), and the models DeviceShadowData and
UpdateDesired of the vendor's management SDK.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError


@dataclass(slots=True)
class ShadowSection:
    """Properties by name.  changed: when, seconds since 1970; None for never."""

    properties: dict[str, object] = field(default_factory=dict)
    changed: float | None = None


@dataclass(slots=True)
class ServiceShadow:
    """The shadow of one service of a device.  version: counts the changes of what is desired."""

    reported: ShadowSection = field(default_factory=ShadowSection)
    desired: ShadowSection = field(default_factory=ShadowSection)
    version: int = 0

    @property
    def pending(self) -> dict[str, object]:
        """The desired properties that the device has not reported so."""
        known = self.reported.properties
        return {
            name: value
            for name, value in self.desired.properties.items()
            if name not in known or known[name] != value
        }


class DeviceShadows:
    """The shadows of an instance's devices.

    Bounded by the models: only services and properties of a device's product come here.
    """

    def __init__(self) -> None:
        self._shadows: dict[str, dict[str, ServiceShadow]] = {}

    def of(self, device_id: str) -> Mapping[str, ServiceShadow]:
        """Return a device's shadow, by service."""
        return self._shadows.get(device_id, {})

    def report(
        self, device_id: str, service_id: str, properties: Mapping[str, object], when: float
    ) -> None:
        """Merge what a device has reported of one service."""
        section = self._service(device_id, service_id).reported
        section.properties.update(properties)
        section.changed = when

    def desire(
        self,
        device_id: str,
        service_id: str,
        properties: Mapping[str, object],
        when: float,
        version: int | None = None,
    ) -> None:
        """Merge what is desired: null removes a property, and no property removes all.

        version: the one expected; None for any.  Raises PlatformError.
        """
        known = self.of(device_id).get(service_id)
        if version is not None and version != (known.version if known else 0):
            raise PlatformError(IotdaCode.SHADOW_VERSION)
        shadow = self._service(device_id, service_id)
        section = shadow.desired
        if not properties:
            section.properties.clear()
        for name, value in properties.items():
            if value is None:
                section.properties.pop(name, None)
            else:
                section.properties[name] = value
        section.changed, shadow.version = when, shadow.version + 1

    def forget(self, device_id: str) -> None:
        """Delete a device's shadow."""
        self._shadows.pop(device_id, None)

    def _service(self, device_id: str, service_id: str) -> ServiceShadow:
        return self._shadows.setdefault(device_id, {}).setdefault(service_id, ServiceShadow())
