"""The laws of a cloud provider.  A provider's test inherits them:

class TestMyCloud(CloudProviderContract):
    @asynccontextmanager
    async def stage(self) -> AsyncIterator[Stage]:
        ...

The tests are coroutines: pytest-asyncio runs them, in its mode "auto".
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

import pytest

from gatewayd.cloud.provider import (
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
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.testing.contracts.cloud_stage import (
    PATIENCE,
    Kept,
    Stage,
    cancelled,
    check_reason,
    until,
)


async def register(stage: Stage, kept: Kept, which: int = 0) -> Outcome:
    """Register one child, and check that nothing is left of it."""
    async with asyncio.timeout(PATIENCE):
        outcome = await stage.provider.register(stage.names[which], kept.keep)
    if not isinstance(outcome, Issued):
        check_reason(outcome.reason)
    await until(lambda: not stage.connections())
    return outcome


async def issued(stage: Stage) -> Secret:
    """Register the first child; return its secret."""
    kept = Kept()
    assert await register(stage, kept) == Issued()
    return kept.secrets[0]


class LoginContract(ABC):
    """What holds of every provider, also of one that makes secrets without asking the cloud.

    Inherit, and say how a stage is set.
    """

    @abstractmethod
    def stage(self) -> AbstractAsyncContextManager[Stage]:
        """Set a stage, with a provider and a cloud that know of nothing yet."""

    async def test_an_issued_secret_was_kept_once(self) -> None:
        async with self.stage() as stage:
            kept = Kept()
            assert await register(stage, kept) == Issued()
            assert kept.done
            assert len(kept.secrets) == 1
            assert kept.secrets[0].reveal()

    async def test_what_keep_raises_is_passed_on(self) -> None:
        async with self.stage() as stage:
            fault = RuntimeError("the disk is full")

            async def fail() -> None:
                raise fault

            with pytest.raises(RuntimeError) as raised:
                await register(stage, Kept(fail))
            assert raised.value is fault
            await until(lambda: not stage.connections())

    async def test_a_cloud_that_stops_meanwhile_does_not_undo_an_issue(self) -> None:
        async with self.stage() as stage:

            async def lose() -> None:
                stage.stop()
                await until(lambda: not stage.connections())

            kept = Kept(lose)
            assert await register(stage, kept) == Issued()
            assert kept.done

    async def test_two_at_once_get_a_secret_each(self) -> None:
        async with self.stage() as stage:
            one, two = Kept(), Kept()
            outcomes = await asyncio.gather(register(stage, one, 0), register(stage, two, 1))
            assert all(isinstance(outcome, Issued) for outcome in outcomes)
            assert one.secrets[0] != two.secrets[0]

    async def test_a_name_that_cannot_be_is_refused_without_asking(self) -> None:
        async with self.stage() as stage:
            assert all(stage.provider.check_name(name) is None for name in stage.names)
            stranger = CloudName(stage.provider.name, "no such product", "x")
            objection = stage.provider.check_name(stranger)
            assert objection is not None
            check_reason(objection)
            stage.stop()
            assert await stage.provider.register(stranger, Kept().keep) == Refused(objection)

    async def test_cancelled_while_it_keeps_it_leaves_nothing(self) -> None:
        async with self.stage() as stage:
            keeping = asyncio.Event()

            async def hang() -> None:
                keeping.set()
                await asyncio.Event().wait()

            task = asyncio.create_task(stage.provider.register(stage.names[0], Kept(hang).keep))
            await keeping.wait()
            assert await cancelled(task)
            await until(lambda: not stage.connections())

    async def test_the_secret_opens_a_session(self) -> None:
        async with self.stage() as stage:
            session = await stage.provider.connect(stage.names[0], await issued(stage))
            assert stage.connections() == 1
            await session.close()
            await session.close()
            check_reason((await session.wait_closed()).reason)
            await until(lambda: not stage.connections())

    async def test_another_secret_does_not(self) -> None:
        async with self.stage() as stage:
            await issued(stage)
            error = await self._login_fails(stage, Secret(b"0" * 32))
            assert isinstance(error, LoginRefused)

    async def test_a_cloud_that_does_not_answer_fails_a_login(self) -> None:
        async with self.stage() as stage:
            secret = await issued(stage)
            stage.silence()
            assert isinstance(await self._login_fails(stage, secret), LoginFailed)
            stage.stop()
            assert isinstance(await self._login_fails(stage, secret), LoginFailed)

    async def test_a_login_that_is_cancelled_leaves_nothing(self) -> None:
        async with self.stage() as stage:
            secret = await issued(stage)
            stage.silence()
            task = asyncio.create_task(stage.provider.connect(stage.names[0], secret))
            await until(lambda: stage.connections() == 1)
            assert await cancelled(task)
            await until(lambda: not stage.connections())

    async def test_a_session_tells_when_the_cloud_ends_it(self) -> None:
        async with self.stage() as stage:
            session: Session = await stage.provider.connect(stage.names[0], await issued(stage))
            stage.stop()
            async with asyncio.timeout(PATIENCE):
                check_reason((await session.wait_closed()).reason)
            await session.close()

    async def test_a_provider_closes_twice(self) -> None:
        async with self.stage() as stage:
            await issued(stage)
            await stage.provider.close()
            await stage.provider.close()

    async def _login_fails(self, stage: Stage, secret: Secret) -> LoginError:
        with pytest.raises(LoginError) as raised:
            await stage.provider.connect(stage.names[0], secret)
        check_reason(raised.value.reason)
        await until(lambda: not stage.connections())
        return raised.value


class CloudProviderContract(LoginContract):
    """What holds, besides, of a provider that asks the cloud for each secret."""

    async def test_the_connection_stays_until_the_secret_is_kept(self) -> None:
        async with self.stage() as stage:
            seen: list[int] = []

            async def look() -> None:
                await asyncio.sleep(0.05)
                seen.append(stage.connections())

            assert await register(stage, Kept(look)) == Issued()
            assert seen == [1]

    async def test_a_refusal_is_told_and_nothing_kept(self) -> None:
        async with self.stage() as stage:
            stage.refuse()
            kept = Kept()
            assert isinstance(await register(stage, kept), Refused)
            assert not kept.secrets

    async def test_a_silent_cloud_may_have_issued(self) -> None:
        async with self.stage() as stage:
            stage.silence()
            kept = Kept()
            assert isinstance(await register(stage, kept), Unknown)
            assert not kept.secrets

    async def test_a_cloud_that_is_down_has_issued_nothing(self) -> None:
        async with self.stage() as stage:
            stage.stop()
            kept = Kept()
            assert isinstance(await register(stage, kept), Failed)
            assert not kept.secrets

    async def test_cancelled_while_it_waits_it_leaves_nothing(self) -> None:
        async with self.stage() as stage:
            stage.silence()
            kept = Kept()
            task = asyncio.create_task(stage.provider.register(stage.names[0], kept.keep))
            await until(lambda: stage.connections() == 1)
            assert await cancelled(task)
            await until(lambda: not stage.connections())
            assert not kept.secrets
