"""What is kept of a sub-device, which has no secret of its own: its device ID.  Pure.

It is durable before the child is reported online, as a secret would be: a child whose device ID
is not kept is asked for again, and found at the platform.
"""

from __future__ import annotations

import json

from gatewayd.cloud.huawei.names import DEVICE_ID
from gatewayd.device.secret import Secret

MAX_BYTES = 1024
_KEY = "device_id"


def write(device_id: str) -> Secret:
    """Return what is to be kept."""
    return Secret(json.dumps({_KEY: device_id}).encode())


def read(kept: Secret) -> str:
    """Return the device ID that was kept; "" where there is none."""
    data = kept.reveal()
    if len(data) > MAX_BYTES:
        return ""
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return ""
    device_id = told.get(_KEY) if isinstance(told, dict) else None
    return device_id if isinstance(device_id, str) and not DEVICE_ID.fault(device_id) else ""
