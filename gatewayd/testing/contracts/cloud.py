"""The contract of cloud providers, as tests to inherit:

class TestMyCloud(CloudProviderContract):
    @asynccontextmanager
    async def make_testbed(self) -> AsyncIterator[CloudTestbed]:
        ...  # yield a provider, and a cloud that the tests control

A provider that makes secrets without asking the cloud inherits `LoginContract` only.
The tests are coroutines: pytest-asyncio runs them, in its mode "auto".
"""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Protocol

import pytest

from gatewayd.cloud.provider import (
    CloudProvider,
    Failed,
    Issued,
    LoginError,
    LoginFailed,
    LoginRefused,
    Outcome,
    Refused,
    Session,
    Unknown,
)
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.testing.waiting import PATIENCE, until

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


async def register(testbed: CloudTestbed, kept: RecordingKeeper, which: int = 0) -> Outcome:
    """Register one child, and check that no connection is left."""
    async with asyncio.timeout(PATIENCE):
        outcome = await testbed.provider.register(testbed.names[which], kept.keep)
    if not isinstance(outcome, Issued):
        check_reason(outcome.reason)
    await until(lambda: not testbed.connections())
    return outcome


async def issued(testbed: CloudTestbed) -> Secret:
    """Register the first child; return its secret."""
    kept = RecordingKeeper()
    assert await register(testbed, kept) == Issued()
    return kept.secrets[0]


class LoginContract(ABC):
    """What holds of every provider, also of one that makes secrets without asking the cloud.

    Implement `make_testbed`.
    """

    @abstractmethod
    def make_testbed(self) -> AbstractAsyncContextManager[CloudTestbed]:
        """Make a testbed, in which neither provider nor cloud knows a device yet."""

    async def test_an_issued_secret_was_kept_once(self) -> None:
        async with self.make_testbed() as testbed:
            kept = RecordingKeeper()
            assert await register(testbed, kept) == Issued()
            assert kept.done
            assert len(kept.secrets) == 1
            assert kept.secrets[0].reveal()

    async def test_what_keep_raises_is_passed_on(self) -> None:
        async with self.make_testbed() as testbed:
            fault = RuntimeError("the disk is full")

            async def fail() -> None:
                raise fault

            with pytest.raises(RuntimeError) as raised:
                await register(testbed, RecordingKeeper(fail))
            assert raised.value is fault
            await until(lambda: not testbed.connections())

    async def test_a_cloud_that_stops_meanwhile_does_not_undo_an_issue(self) -> None:
        async with self.make_testbed() as testbed:

            async def lose() -> None:
                testbed.stop()
                await until(lambda: not testbed.connections())

            kept = RecordingKeeper(lose)
            assert await register(testbed, kept) == Issued()
            assert kept.done

    async def test_two_at_once_get_a_secret_each(self) -> None:
        async with self.make_testbed() as testbed:
            one, two = RecordingKeeper(), RecordingKeeper()
            outcomes = await asyncio.gather(register(testbed, one, 0), register(testbed, two, 1))
            assert all(isinstance(outcome, Issued) for outcome in outcomes)
            assert one.secrets[0] != two.secrets[0]

    async def test_a_name_that_cannot_be_is_refused_without_asking(self) -> None:
        async with self.make_testbed() as testbed:
            assert all(testbed.provider.check_name(name) is None for name in testbed.names)
            stranger = CloudName(testbed.provider.name, "no such product", "x")
            objection = testbed.provider.check_name(stranger)
            assert objection is not None
            check_reason(objection)
            testbed.stop()
            assert await testbed.provider.register(stranger, RecordingKeeper().keep) == Refused(
                objection
            )

    async def test_cancelled_while_it_keeps_it_leaves_nothing(self) -> None:
        async with self.make_testbed() as testbed:
            keeping = asyncio.Event()

            async def hang() -> None:
                keeping.set()
                await asyncio.Event().wait()

            task = asyncio.create_task(
                testbed.provider.register(testbed.names[0], RecordingKeeper(hang).keep)
            )
            await keeping.wait()
            assert await cancel(task)
            await until(lambda: not testbed.connections())

    async def test_the_secret_opens_a_session(self) -> None:
        async with self.make_testbed() as testbed:
            session = await testbed.provider.connect(testbed.names[0], await issued(testbed))
            assert testbed.connections() == 1
            await session.close()
            await session.close()
            check_reason((await session.wait_closed()).reason)
            await until(lambda: not testbed.connections())

    async def test_another_secret_does_not(self) -> None:
        async with self.make_testbed() as testbed:
            await issued(testbed)
            error = await self._login_fails(testbed, Secret(b"0" * 32))
            assert isinstance(error, LoginRefused)

    async def test_a_cloud_that_does_not_answer_fails_a_login(self) -> None:
        async with self.make_testbed() as testbed:
            secret = await issued(testbed)
            testbed.silence()
            assert isinstance(await self._login_fails(testbed, secret), LoginFailed)
            testbed.stop()
            assert isinstance(await self._login_fails(testbed, secret), LoginFailed)

    async def test_a_login_that_is_cancelled_leaves_nothing(self) -> None:
        async with self.make_testbed() as testbed:
            secret = await issued(testbed)
            testbed.silence()
            task = asyncio.create_task(testbed.provider.connect(testbed.names[0], secret))
            await until(lambda: testbed.connections() == 1)
            assert await cancel(task)
            await until(lambda: not testbed.connections())

    async def test_a_session_reports_that_the_cloud_ended_it(self) -> None:
        async with self.make_testbed() as testbed:
            session: Session = await testbed.provider.connect(
                testbed.names[0], await issued(testbed)
            )
            testbed.stop()
            async with asyncio.timeout(PATIENCE):
                check_reason((await session.wait_closed()).reason)
            await session.close()

    async def test_a_provider_closes_twice(self) -> None:
        async with self.make_testbed() as testbed:
            await issued(testbed)
            await testbed.provider.close()
            await testbed.provider.close()

    async def _login_fails(self, testbed: CloudTestbed, secret: Secret) -> LoginError:
        with pytest.raises(LoginError) as raised:
            await testbed.provider.connect(testbed.names[0], secret)
        check_reason(raised.value.reason)
        await until(lambda: not testbed.connections())
        return raised.value


class CloudProviderContract(LoginContract):
    """What holds, besides, of a provider that asks the cloud for each secret."""

    async def test_the_connection_stays_until_the_secret_is_kept(self) -> None:
        async with self.make_testbed() as testbed:
            seen: list[int] = []

            async def look() -> None:
                await asyncio.sleep(0.05)
                seen.append(testbed.connections())

            assert await register(testbed, RecordingKeeper(look)) == Issued()
            assert seen == [1]

    async def test_a_refusal_is_reported_and_nothing_kept(self) -> None:
        async with self.make_testbed() as testbed:
            testbed.refuse()
            kept = RecordingKeeper()
            assert isinstance(await register(testbed, kept), Refused)
            assert not kept.secrets

    async def test_a_silent_cloud_may_have_issued(self) -> None:
        async with self.make_testbed() as testbed:
            testbed.silence()
            kept = RecordingKeeper()
            assert isinstance(await register(testbed, kept), Unknown)
            assert not kept.secrets

    async def test_a_cloud_that_is_down_has_issued_nothing(self) -> None:
        async with self.make_testbed() as testbed:
            testbed.stop()
            kept = RecordingKeeper()
            assert isinstance(await register(testbed, kept), Failed)
            assert not kept.secrets

    async def test_cancelled_while_it_waits_it_leaves_nothing(self) -> None:
        async with self.make_testbed() as testbed:
            testbed.silence()
            kept = RecordingKeeper()
            task = asyncio.create_task(testbed.provider.register(testbed.names[0], kept.keep))
            await until(lambda: testbed.connections() == 1)
            assert await cancel(task)
            await until(lambda: not testbed.connections())
            assert not kept.secrets
