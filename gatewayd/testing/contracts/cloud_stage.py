"""What the laws of a cloud provider are tried on: a cloud that does as it is told."""

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

PATIENCE = 30.0
"""Seconds after which a test gives up waiting."""

_KEBAB = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class Stage(Protocol):
    """A provider, and a cloud of its kind that does as it is told.

    Tests wait for the provider's timeouts: they should be short, but not under half a second.
    """

    @property
    def provider(self) -> CloudProvider:
        """Return the provider on trial."""

    @property
    def names(self) -> tuple[CloudName, CloudName]:
        """Return two children that the cloud would register."""

    def connections(self) -> int:
        """Return how many connections the cloud has open now."""

    def refuse(self) -> None:
        """Refuse registrations and logins from now on: nobody is known."""

    def silence(self) -> None:
        """Accept connections from now on, and answer nothing."""

    def stop(self) -> None:
        """Close every connection, and accept none from now on."""


class Kept:
    """Stands for the store: remembers what it was to keep.

    during: called while the secret is being made durable.
    """

    def __init__(self, during: Callable[[], Awaitable[None]] | None = None) -> None:
        self.secrets: list[Secret] = []
        self.done = False
        self._during = during

    async def keep(self, secret: Secret) -> None:
        """Keep a secret.  Slowly: whoever does not wait is found out."""
        self.secrets.append(secret)
        if self._during:
            await self._during()
        for _ in range(10):
            await asyncio.sleep(0)
        self.done = True


async def until(condition: Callable[[], bool]) -> None:
    """Return when something holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # nothing tells when a peer has closed
            await asyncio.sleep(0.005)


def check_reason(reason: Reason) -> None:
    """Check what programs and people are told."""
    assert _KEBAB.fullmatch(reason.code), reason.code
    assert not reason.substate or _KEBAB.fullmatch(reason.substate), reason.substate
    assert (reason.text + reason.remedy).isprintable()
    assert not reason.text or reason.text.endswith("."), reason.text


async def cancelled(task: asyncio.Task[object]) -> bool:
    """Cancel a task; return whether it ended by that."""
    task.cancel()
    with suppress(asyncio.CancelledError, TimeoutError):
        async with asyncio.timeout(PATIENCE):
            await task
    return task.cancelled()
