"""A client of the Huawei platform's management interface, by plain HTTPS."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from gatewayd.simulator.huawei.cloud import HuaweiCloud
from gatewayd.simulator.huawei.management.server import Management
from gatewayd.simulator.huawei.platform.instance import IotdaInstance
from tests.simulator.huawei.client import one, served
from tests.simulator.wire import PATIENCE, trusting
from tests.support.simulated_ca import AUTHORITY

PROJECT, TOKEN = "70b76xxxxxx34253880af501cdxxxxxx", "a token of IAM"
ACCESS_KEY, SECRET_KEY = "AKIDEXAMPLE0000000001", "s3cr3t-Key/of+40=characters_0123456789ab"


@dataclass(frozen=True)
class Rest:
    """The interface, and the cloud behind it."""

    cloud: HuaweiCloud
    port: int

    @property
    def instance(self) -> IotdaInstance:
        return one(self.cloud)

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> tuple[int, Any]:
        """Return status and body; a path is that after the project's."""
        target = f"/v5/iot/{PROJECT}{path}" + (f"?{urlencode(query)}" if query else "")
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body)
        sent = {"X-Auth-Token": TOKEN, "Content-Type": "application/json"} | dict(headers or {})
        return await asyncio.to_thread(self._ask, method, target, data, sent)

    async def get(self, path: str, **query: Any) -> Any:
        """Return what is there."""
        status, found = await self.ask("GET", path, **query)
        assert status == 200, found
        return found

    async def post(self, path: str, body: object = None, *, status: int = 201, **query: Any) -> Any:
        """Return what is answered with this status."""
        answered, said = await self.ask("POST", path, body, **query)
        assert answered == status, said
        return said

    async def put(self, path: str, body: object) -> Any:
        """Return what it is now."""
        status, said = await self.ask("PUT", path, body)
        assert status == 200, said
        return said

    async def delete(self, path: str) -> None:
        """Delete what is there."""
        assert await self.ask("DELETE", path) == (204, None)
        assert (await self.ask("GET", path))[0] == 404

    def _ask(
        self, method: str, target: str, body: bytes | str, headers: Mapping[str, str]
    ) -> tuple[int, Any]:
        """Blocks."""
        link = http.client.HTTPSConnection(
            "localhost", self.port, timeout=PATIENCE, context=trusting(AUTHORITY.pem)
        )
        with contextlib.closing(link):
            link.request(method, target, body, dict(headers))
            answer = link.getresponse()
            data = answer.read()
            return answer.status, json.loads(data) if data else None


@contextlib.asynccontextmanager
async def managed() -> AsyncIterator[Rest]:
    """Serve an instance "one" with two products and a gateway, and its management."""
    async with served() as cloud, manage(cloud) as rest:
        yield rest


@contextlib.asynccontextmanager
async def manage(cloud: HuaweiCloud) -> AsyncIterator[Rest]:
    keys = {ACCESS_KEY: SECRET_KEY}
    async with Management(
        cloud.platform, authority=AUTHORITY, credentials=keys, token=TOKEN
    ) as management:
        yield Rest(cloud, management.port)
