"""What a scripted cloud is to one of Alibaba's gateways."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from gatewayd.device.record import CloudName

OWN = CloudName("cloud", "a1Gateway01", "gateway-01")
G = f"/sys/{OWN.product}/{OWN.device}"
E = f"/ext/session/{OWN.product}/{OWN.device}"


def replying(code: object, data: object = None) -> Callable[..., list[tuple[str, bytes]]]:
    """Reply to everything in the same way."""

    def reply(topic: str, message: dict[str, Any]) -> list[tuple[str, bytes]]:
        reply = {"id": message["id"], "code": code, "data": data}
        return [(f"{topic}_reply", json.dumps(reply).encode())]

    return reply
