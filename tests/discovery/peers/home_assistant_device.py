"""A device with two sensors, as ha-mqtt-discoverable announces it, until it is killed.

It runs with .venv-peers: python home_assistant_device.py PORT NAME
"""

from __future__ import annotations

import signal
import sys

from ha_mqtt_discoverable import (  # type: ignore[import-not-found]  # of .venv-peers
    DeviceInfo,
    Settings,
)
from ha_mqtt_discoverable.sensors import (  # type: ignore[import-not-found]  # of .venv-peers
    Sensor,
    SensorInfo,
)


def main(port: int, name: str) -> None:
    """Announce both sensors."""
    broker = Settings.MQTT(host="127.0.0.1", port=port)
    device = DeviceInfo(
        name=name,
        identifiers="press-1",
        manufacturer="Acme",
        model="P1",
        connections=[("mac", "a0:20:a6:0a:ff:d2")],
    )
    for one in ("temperature", "pressure"):
        info = SensorInfo(name=one, unique_id=f"press-1-{one}", device=device)
        Sensor(Settings(mqtt=broker, entity=info)).set_state(1)
    signal.pause()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
