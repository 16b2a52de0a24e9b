"""How the Alibaba cloud's replies to a gateway are sent, whole or spoiled by a fault.  Pure."""

from __future__ import annotations

from collections.abc import Mapping

from gatewayd.testing.simulator import mqtt_delivery
from gatewayd.testing.simulator.faults import Fault
from gatewayd.testing.simulator.mqtt_delivery import Delivery, encode

__all__ = ["Delivery", "deliver", "encode"]


def deliver(body: Mapping[str, object], fault: Fault | None) -> Delivery:
    """Decide how a reply is sent."""
    return mqtt_delivery.deliver(body, fault, _mixed)


def _mixed(body: Mapping[str, object]) -> Mapping[str, object]:
    """Swap the types, as some samples of the vendor do."""
    mixed: dict[str, object] = {**body, "code": str(body["code"])}
    if "id" in body:
        mixed["id"] = int(str(body["id"]))
    return mixed
