"""The testbed of the contract of cloud providers: a provider, and a cloud that a test controls."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from gatewayd.cloud.provider import CloudProvider
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.testing.waiting import PATIENCE

_KEBAB = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class CloudTestbed(Protocol):
    """A provider, and a cloud of its kind that a test controls.

    Tests wait for the provider's timeouts: they should be short, but not under half a second.
    """

    @property
    def provider(self) -> CloudProvider:
        """Return the provider under test."""

    @property
    def names(self) -> tuple[CloudName, CloudName]:
        """Return two children that the cloud registers on request."""

    def connections(self) -> int:
        """Return how many connections the cloud has open now."""

    def refuse(self) -> None:
        """Refuse registrations and logins from now on, as of unknown devices."""

    def silence(self) -> None:
        """Accept connections from now on, and answer nothing."""

    def stop(self) -> None:
        """Close every connection, and accept none from now on."""


class RecordingKeeper:
    """A substitute for the secret store, which records the secrets that it is given.

    during: awaited while the secret is being made durable.  done: whether it is durable.
    """

    def __init__(self, during: Callable[[], Awaitable[None]] | None = None) -> None:
        self.secrets: list[Secret] = []
        self.done = False
        self._during = during

    async def keep(self, secret: Secret) -> None:
        """Keep a secret, slowly, so that a provider that does not wait is detected."""
        self.secrets.append(secret)
        if self._during:
            await self._during()
        for _ in range(10):
            await asyncio.sleep(0)
        self.done = True


def check_reason(reason: Reason) -> None:
    """Check that a reason has a code in kebab-case and a printable sentence."""
    assert _KEBAB.fullmatch(reason.code), reason.code
    assert not reason.substate or _KEBAB.fullmatch(reason.substate), reason.substate
    assert (reason.text + reason.remedy).isprintable()
    assert not reason.text or reason.text.endswith("."), reason.text


async def cancel(task: asyncio.Task[object]) -> bool:
    """Cancel a task; return whether it was cancelled, in at most 30 s."""
    task.cancel()
    with suppress(asyncio.CancelledError, TimeoutError):
        async with asyncio.timeout(PATIENCE):
            await task
    return task.cancelled()
