"""The limits of an instance of the simulated Huawei platform.  Plain data.

Source: the vendor's page "Limits" (productdesc-iothub/iot_04_0010), and those on policies
(usermanual-iothub/iot_01_1111) and templates (iot_01_0115).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InstanceLimits:
    """The limits, each for an instance, except four.

    products: of one resource space.
    policies_per_target: bound to one device, product or resource space.
    children: of one gateway.  tags: of one device.
    """

    apps: int = 10
    products: int = 1_000
    devices: int = 100_000
    children: int = 50_000
    tags: int = 10
    authorities: int = 100
    templates: int = 10
    policies: int = 50
    policies_per_target: int = 5
    device_certificates: int = 150_000
