"""A provider on trial: what a test does with it again and again, in limited time."""

from __future__ import annotations

import asyncio

from gatewayd.cloud.provider import CloudProvider, Issued, Outcome, Session
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.testing.contracts.cloud import RecordingKeeper


class Trial:
    """provider: on trial.  sessions: those that were opened."""

    provider: CloudProvider
    sessions: list[Session]

    async def register(self, name: CloudName) -> tuple[Outcome, RecordingKeeper]:
        """Register a device."""
        kept = RecordingKeeper()
        async with asyncio.timeout(30):
            return await self.provider.register(name, kept.keep), kept

    async def secret(self, name: CloudName) -> Secret:
        """Register a device; return what was kept of it."""
        outcome, kept = await self.register(name)
        assert outcome == Issued(), outcome
        return kept.secrets[0]

    async def connect(self, name: CloudName, secret: Secret) -> Session:
        """Log a device in."""
        async with asyncio.timeout(30):
            session = await self.provider.connect(name, secret)
        self.sessions.append(session)
        return session

    async def bring(self, *names: CloudName) -> list[Session]:
        """Register devices, and log them in."""
        secrets = await asyncio.gather(*map(self.secret, names))
        return await asyncio.gather(*map(self.connect, names, secrets))
