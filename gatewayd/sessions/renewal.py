"""Renewal of secrets: the old one stays in use until a login with the new one has succeeded.

    candidate n on record → secret in slot n → login with it → pointer to slot n → old slot emptied

If the process dies between any two of them, a login with the secret in use has succeeded before.
A candidate that the cloud does not accept yet is kept until it expires itself, and tried again: an
operator may have to register it at the cloud first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from gatewayd.cloud.provider import (
    NO_PROVIDER,
    CloudProvider,
    Issued,
    LoginError,
    LoginFailed,
    LoginRefused,
    Session,
    SupportsEnrolmentHint,
)
from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import CLOCK_NOT_SET, NONE, Reason
from gatewayd.device.record import CloudName, Record, RecordStore, Verdict, unchanged
from gatewayd.device.recovery import reason_of
from gatewayd.device.secret import Secret, SecretSlots
from gatewayd.errors import SecretCorrupt, SecretNotFound, StoreError
from gatewayd.runtime.clock import Clock

log = logging.getLogger(__name__)

AT_A_TIME = 2
"""How many secrets are replaced at the same time: generating a key takes CPU time."""

RENEWED = Reason("secret-renewed", "A new secret has replaced the old one.")
WAITING = Reason(
    "renewal-waiting",
    "A new secret is ready, but the cloud does not accept it yet; the old one is in use.",
    "Register it at the cloud, or wait; to try it at once, run gatewayctl ca renew CHILD "
    "--cloud CLOUD.",
)
USELESS = Reason(
    "renewal-useless",
    "A new certificate would expire as soon as the old one: so does the CA that issues it, or the "
    "file that the settings name.",
    "Make or import another device CA, and have the cloud verify it; or put a newer certificate "
    "and its key in their files, and run gatewayctl reload.",
)


class RenewalFailed(Exception):
    """A new secret could not be put into use.  soon: whether another try may succeed soon."""

    def __init__(self, reason: Reason, *, soon: bool = False) -> None:
        super().__init__(reason.code)
        self.reason, self.soon = reason, soon


def next_try(
    error: RenewalFailed | StoreError, *, soon: float, late: float
) -> tuple[float, Reason]:
    """Return the seconds until a renewal is tried again after an error, and why it failed.

    soon, late: seconds, where the next try may succeed soon or not.
    """
    if isinstance(error, StoreError):
        return soon, reason_of(error)
    return soon if error.soon else late, error.reason


@dataclass(slots=True)
class OpenSession:
    """An open session.

    due: when its secret is to be replaced, seconds since the epoch.
    guessed: whether the clock was not set when that was found out.
    moved: whether it is at another cloud than the child's session before.
    """

    session: Session
    due: float | None
    guessed: bool = False
    moved: bool = False


class SecretRenewal:
    """The renewal of secrets, two at a time at each cloud.

    checkpoint: called with the name of each completed step; tests crash there.
    """

    def __init__(
        self,
        records: RecordStore,
        secrets: SecretSlots,
        providers: Mapping[str, CloudProvider],
        clock: Clock,
        checkpoint: Callable[[str], None],
    ) -> None:
        self._records, self._secrets, self._providers = records, secrets, providers
        self._clock, self._wall, self._checkpoint = clock, clock.stamp, checkpoint
        self._turns = {name: asyncio.Semaphore(AT_A_TIME) for name in providers}

    async def waiting(self, record: Record) -> Reason:
        """Return the reason of a child that is online: whether a new secret waits."""
        try:
            secret = await self._candidate(record)
        except StoreError:
            return WAITING
        if secret is None:
            return NONE
        known = self._hint(record, secret)
        return replace(WAITING, remedy=f"{known} {WAITING.remedy}") if known else WAITING

    async def enrolment_hint(self, record: Record) -> str:
        """Return how an operator makes the new secret known at the cloud; "" if that is not needed.

        Raises StoreError.
        """
        secret = await self._candidate(record)
        return "" if secret is None else self._hint(record, secret)

    def _hint(self, record: Record, secret: Secret) -> str:
        name, provider = self._at(record)
        if isinstance(provider, SupportsEnrolmentHint):
            return provider.enrolment_hint(name, secret)
        return ""

    def is_busy(self, device: DeviceId) -> bool:
        """Whether `renew` would have to wait for others."""
        return self._turns_at(self._records[device]).locked()

    async def renew(self, device: DeviceId) -> OpenSession:
        """Log in with a new secret, which is in use from now on; return the session.

        Raises RenewalFailed, StoreError; then the old one stays in use.
        """
        async with self._turns_at(self._records[device]):
            record = self._records[device]
            name, provider = self._at(record)
            secret = await self._usable_candidate(record)
            if secret is None:
                record = await self._make(record, name, provider)
                secret = await self._secrets.get(record.slot(record.candidate))
            session = await self._prove(record, name, provider, secret)
            return OpenSession(session, provider.renew_at(name, secret))

    async def offer(self, device: DeviceId) -> None:
        """Have a new secret issued for a child that is handed over; the old one stays in use.

        Raises RenewalFailed, StoreError.
        """
        async with self._turns_at(self._records[device]):
            record = self._records[device]
            await self._make(record, *self._at(record))

    async def is_offered(self, record: Record) -> bool:
        """Whether a new secret is ready, and not due for renewal itself.  Raises StoreError."""
        return await self._usable_candidate(record) is not None

    async def put_into_use(self, device: DeviceId) -> bool:
        """Put the new secret of a child into use without a login; False where there is none.

        For one that is handed over: a login would end the session of its holder.
        Raises StoreError.
        """
        record = self._records[device]
        offered = await self.is_offered(record)
        if offered:
            await self._put_into_use(record)
        return offered

    async def rescue(self, record: Record, error: LoginRefused | StoreError) -> OpenSession:
        """Log in with a new secret after the old one was refused or is gone, as `error` says.

        Raises `error` where there is no new one and none is due, or where that is refused too.
        """
        if not record.activated_at or not (
            await self._candidate(record) or await self._is_due(record)
        ):
            raise error
        try:
            return await self.renew(record.device)
        except RenewalFailed as failure:
            if isinstance(error, LoginRefused):
                raise LoginRefused(failure.reason, stale=error.stale) from error
            raise error from None

    def _turns_at(self, record: Record) -> asyncio.Semaphore:
        return self._turns[self._at(record)[0].provider]

    def _at(self, record: Record) -> tuple[CloudName, CloudProvider]:
        assert record.cloud is not None, "only a registered child has a secret"
        provider = self._providers.get(record.cloud.provider)
        if provider is None:
            raise RenewalFailed(NO_PROVIDER)
        return record.cloud, provider

    async def _candidate(self, record: Record) -> Secret | None:
        return await self._read(record, record.candidate) if record.candidate else None

    async def _usable_candidate(self, record: Record) -> Secret | None:
        """Return the candidate, unless it is due for renewal itself."""
        secret = await self._candidate(record)
        if secret is None:
            return None
        name, provider = self._at(record)
        return None if self._has_come(provider.renew_at(name, secret)) else secret

    async def _read(self, record: Record, attempt: int) -> Secret | None:
        try:
            return await self._secrets.get(record.slot(attempt))
        except (SecretNotFound, SecretCorrupt):
            return None

    async def _is_due(self, record: Record) -> bool:
        return self._has_come(await self.due(record))

    async def due(self, record: Record) -> float | None:
        """Return when the secret in use is to be replaced, seconds since the epoch; None: never.

        Raises StoreError.
        """
        name, provider = self._at(record)
        secret = await self._read(record, record.stored)
        return None if secret is None else provider.renew_at(name, secret)

    def _has_come(self, due: float | None) -> bool:
        return due is not None and due * 1e6 <= self._clock.wall()

    async def _make(self, record: Record, name: CloudName, provider: CloudProvider) -> Record:
        """Have a new secret issued, and keep it beside the one in use."""
        if not self._clock.is_set():
            raise RenewalFailed(CLOCK_NOT_SET, soon=True)
        objection = provider.check_name(name) or await provider.check_ready(name)
        if objection is not None:
            raise RenewalFailed(objection)
        now = self._wall()
        intent = await self._records.update(
            record.device,
            lambda r: unchanged(
                r, cloud=record.cloud, stored=record.stored, verdict=Verdict.ADMITTED
            ).with_candidate(now),
        )
        self._checkpoint("candidate-on-record")

        async def keep(secret: Secret) -> None:
            if self._has_come(provider.renew_at(name, secret)):
                raise RenewalFailed(USELESS)
            await self._secrets.put(intent.slot(intent.candidate), secret)
            self._checkpoint("candidate-in-slot")

        outcome = await provider.register(name, keep)
        if not isinstance(outcome, Issued):
            raise RenewalFailed(outcome.reason)
        return intent

    async def _prove(
        self, record: Record, name: CloudName, provider: CloudProvider, secret: Secret
    ) -> Session:
        """Log in with the candidate, and put it into use."""
        try:
            session = await provider.connect(name, secret)
        except LoginFailed as error:
            raise RenewalFailed(error.reason, soon=True) from error
        except LoginError as error:
            raise RenewalFailed(_not_accepted(error.reason)) from error
        try:
            self._checkpoint("candidate-accepted")
            await self._put_into_use(record)
        except BaseException:
            await session.close()
            raise
        return session

    async def _put_into_use(self, record: Record) -> None:
        now, stored, candidate = self._wall(), record.stored, record.candidate
        await self._records.update(
            record.device,
            lambda r: unchanged(
                r, cloud=record.cloud, stored=stored, candidate=candidate
            ).with_candidate_proven(now),
        )
        self._checkpoint("candidate-in-use")
        try:
            await self._secrets.delete(record.slot(record.stored))
        except StoreError as error:
            sentence = (
                "Failed to delete the old secret of %s: %s.  It is deleted at the next start."
            )
            log.warning(sentence, record.device, error, extra={"device": record.device})
        self._checkpoint("old-secret-deleted")


def _not_accepted(reason: Reason) -> Reason:
    text = f"The cloud refused the new secret; the old one stays in use. {reason.text}"
    return replace(reason, code="renewal-refused", text=text.strip(), substate="")
