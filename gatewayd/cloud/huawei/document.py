"""What is kept of a sub-device, which has no secret of its own: its device ID.  Pure.

It is durable before the child is reported online, as a secret would be: a child whose device ID
is not kept is asked for again, and found at the platform.  The host is kept beside it: another
instance does not know the child, and has not deleted it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from gatewayd.cloud.huawei.names import DEVICE_ID
from gatewayd.device.secret import Secret

MAX_BYTES = 1024
_KEY, _HOST = "device_id", "host"


def write(device_id: str, host: str = "") -> Secret:
    """Return what is to be kept.  host: the domain name of the instance."""
    return Secret(json.dumps({_KEY: device_id, _HOST: host}).encode())


def read(kept: Secret) -> str:
    """Return the device ID that was kept; "" where there is none."""
    device_id = _load(kept).get(_KEY)
    return device_id if isinstance(device_id, str) and not DEVICE_ID.fault(device_id) else ""


def is_elsewhere(kept: Secret, host: str) -> bool:
    """Whether the child was added at another instance than this."""
    told = _load(kept).get(_HOST)
    return isinstance(told, str) and told.lower() not in ("", host.lower())


def _load(kept: Secret) -> Mapping[str, object]:
    data = kept.reveal()
    if len(data) > MAX_BYTES:
        return {}
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
