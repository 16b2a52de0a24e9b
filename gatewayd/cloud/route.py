"""One way to register and log in a child at a cloud that has several."""

from __future__ import annotations

from typing import Protocol

from gatewayd.cloud.provider import Keep, Outcome, Session
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret


class Route(Protocol):
    """As CloudProvider (cloud/provider.py), for the names of one route."""

    def why_not(self, name: CloudName) -> Reason | None: ...
    async def obstacle(self, name: CloudName) -> Reason | None: ...
    async def register(self, name: CloudName, keep: Keep) -> Outcome: ...
    async def connect(self, name: CloudName, secret: Secret) -> Session: ...
    async def forget(self, name: CloudName) -> Reason | None: ...
    async def close(self) -> None: ...
