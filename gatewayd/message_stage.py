"""The stage of messages: the doors, the relay behind them, and what children are shown of it.

    door → tap → relay → session of the child
    session of the child → relay of commands → door

It exists where messages are enabled.  The relay is opened before any door is, and closed after all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias

from gatewayd.admission.policy.rules import MAX_RULES, RuleMessages
from gatewayd.cloud.credentials import ReadSecret
from gatewayd.cloud.provider import Session, SupportsAnswers
from gatewayd.commands.relay import CommandRelay
from gatewayd.device.command import ChildCommand
from gatewayd.device.identity import DeviceId
from gatewayd.device.message import Acceptance, AfterOutage, OnFull
from gatewayd.device.record import RecordStore, Verdict
from gatewayd.device.views import MessageStatistics
from gatewayd.errors import ConfigError, StoreError
from gatewayd.messages.doors.access import DoorAccess
from gatewayd.messages.doors.children import RecordedChildren
from gatewayd.messages.doors.doors import ChildCloudStatus, DoorParts, Doors
from gatewayd.messages.gateway_report import DOOR as OF_GATEWAY
from gatewayd.messages.intake import MessageIntake
from gatewayd.messages.outbox.arrival import ArrivalClock, clock_is_right
from gatewayd.messages.relay import ChildStanding, MessageRelay
from gatewayd.messages.service import DoorStates
from gatewayd.messages.settings import ChildMessageSettings, MessageSettings
from gatewayd.messages.tap import MessageTap, TappedIntake
from gatewayd.runtime.clock import Clock

log = logging.getLogger(__name__)

USUAL = RuleMessages()
"""What a rule says that treats messages as [messages.child] does."""
OPEN_AGAIN = 10.0
"""Seconds after which an outbox that could not be opened is tried again."""
SHOW_EVERY = 5.0
"""Seconds between two looks at what children are shown of their way to the cloud."""


class ChildSessions:
    """Which children are online, and since when.  Implements SessionListener.

    milliseconds: returns the time since the epoch.
    """

    def __init__(self, milliseconds: Callable[[], int]) -> None:
        self._milliseconds = milliseconds
        self.online: dict[DeviceId, int] = {}
        self.offline: dict[DeviceId, int] = {}

    def session_opened(self, device: DeviceId, session: Session) -> None:  # noqa: ARG002  # of the protocol
        """Note that a child is online."""
        self.offline.pop(device, None)
        self.online.setdefault(device, self._milliseconds())

    def session_closed(self, device: DeviceId) -> None:
        """Note that a child is offline."""
        if self.online.pop(device, None) is not None:
            self.offline[device] = self._milliseconds()


class RecordedStanding(ChildStanding):
    """What records say of a child that speaks, and its rule of what it says.

    usual: how messages are treated where no rule wants something else; None for all as by default.
    wanted: returns how a rule treats them, by its name.
    """

    def __init__(
        self,
        records: RecordStore,
        usual: ChildMessageSettings | None = None,
        wanted: Callable[[str], RuleMessages] = lambda _: USUAL,
    ) -> None:
        self._records, self._usual, self._wanted = records, usual, wanted
        super().__init__(self._is_admitted, self._is_gone, self._cloud, self._treatment)

    def _is_admitted(self, device: DeviceId) -> bool:
        record = self._records.get(device)
        return record is not None and record.may_speak

    def _is_gone(self, device: DeviceId) -> bool:
        record = self._records.get(device)
        return record is None or record.verdict is Verdict.REJECTED

    def _cloud(self, device: DeviceId) -> str:
        record = self._records.get(device)
        return record.cloud.provider if record is not None and record.cloud is not None else ""

    def _treatment(self, device: DeviceId) -> ChildMessageSettings | None:
        if self._usual is None:
            return None
        record = self._records.get(device)
        return as_wanted(self._usual, self._wanted(record.rule if record is not None else ""))


@lru_cache(maxsize=MAX_RULES)
def as_wanted(usual: ChildMessageSettings, rule: RuleMessages) -> ChildMessageSettings:
    """Return how messages are treated: as is usual, but for what a rule says.  Pure."""
    return replace(
        usual,
        share=rule.share or usual.share,
        rate=rule.rate or usual.rate,
        window=rule.window or usual.window,
        on_full=OnFull(rule.on_full or usual.on_full),
        after_outage=AfterOutage(rule.after_outage or usual.after_outage),
        accepted=Acceptance(rule.accepted or usual.accepted),
    )


Allows: TypeAlias = Callable[[str, ChildCommand | None], bool]
"""Whether a rule, by its name, allows a command to its children; None for any at all."""


def permission(
    records: RecordStore, allows: Allows
) -> Callable[[DeviceId, ChildCommand | None], bool]:
    """Return whether the rule by which a child was admitted allows it a command, or any at all."""

    def may_get(device: DeviceId, command: ChildCommand | None) -> bool:
        record = records.get(device)
        if record is None or not record.is_in_force:
            return False
        return allows(record.rule, command)

    return may_get


def answer_form(
    records: RecordStore, clouds: Mapping[str, object]
) -> Callable[[DeviceId], SupportsAnswers | None]:
    """Return the form of a child's answers: of its cloud, which may have none."""

    def form_of(device: DeviceId) -> SupportsAnswers | None:
        record = records.get(device)
        if record is None or record.cloud is None:
            return None
        cloud = clouds.get(record.cloud.provider)
        return cloud if isinstance(cloud, SupportsAnswers) else None

    return form_of


def nothing(_rule: str, _command: ChildCommand | None) -> bool:
    """Allow no command."""
    return False


class MessageStage:
    """The way of all messages, and of all commands.

    directory: of the outbox.  own: the way to gatewayd's own broker; None without one.
    host: the name of this machine.  stranger: as in `DoorParts`.  boot: as in `ArrivalClock`.
    notes: as in `MessageOutbox`.
    allows: whether a rule allows a command to its children.
    wanted: returns how a rule treats messages, by its name.
    clouds: the providers, by their names.
    intake: where messages enter that come from no door.
    """

    def __init__(  # noqa: PLR0913  # ruff counts keyword-only ones: what it joins
        self,
        settings: MessageSettings,
        directory: Path,
        records: RecordStore,
        clock: Clock,
        tap: MessageTap,
        *,
        own: DoorAccess | None,
        read_secret: ReadSecret,
        host: str,
        stranger: Callable[[DeviceId], None] = lambda _: None,
        boot: str = "",
        notes: Path | None = None,
        allows: Allows = nothing,
        wanted: Callable[[str], RuleMessages] = lambda _: USUAL,
        clouds: Mapping[str, object],
    ) -> None:
        arrival = ArrivalClock(
            clock.wall, is_right=lambda: clock_is_right() and not clock.fault(), boot=boot
        )
        self._children = RecordedStanding(records, settings.child, wanted)
        self.relay = MessageRelay(
            settings, directory, self._children, clock,
            arrival=arrival, notes=notes, published=tap.published,
        )  # fmt: skip
        self.intake: MessageIntake = TappedIntake(self.relay, tap)
        self.commands = CommandRelay(
            permission(records, allows),
            settings.child.down_keep,
            clock,
            tap.show,
            answer_form(records, clouds),
        )
        known = RecordedChildren(records, clock.now)
        parts = DoorParts(
            self.intake,
            known,
            clock,
            read_secret,
            host,
            directory,
            stranger,
            self.commands,
            known.identities,
            self.relay.entrances,
        )
        self._doors = Doors(parts, settings.doors, own)
        self.commands.connect(self._doors)
        self.sessions = ChildSessions(lambda: clock.wall() // 1000 if arrival.right else 0)
        self._shown: dict[DeviceId, ChildCloudStatus] = {}
        self._is_open = asyncio.Event()

    async def open(self) -> None:
        """Open the outbox; where that fails, it is tried again.  Raises ConfigError."""
        why = ""
        try:
            await self._open()
        except StoreError as error:
            why = str(error)
        if why:
            log.error(
                "No child can speak until the outbox can be opened: %s.",
                why, extra={"message_id": "messages-blocked"},
            )  # fmt: skip

    async def _open(self) -> None:
        await self.relay.open((*self._doors.names, OF_GATEWAY))
        self._is_open.set()

    async def _open_again(self) -> None:
        """Try to open an outbox that could not be opened, until it is."""
        while not self._is_open.is_set():
            await asyncio.sleep(OPEN_AGAIN)
            with suppress(StoreError, ConfigError):
                await self._open()

    async def _once_open(self, service: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await self._is_open.wait()
        await service()

    def services(self) -> Iterable[Callable[[], Coroutine[Any, Any, None]]]:
        """Return what has to run."""
        of_relay = (partial(self._once_open, service) for service in self.relay.services())
        return self._open_again, *of_relay, *self._doors.services(), self._show_children

    async def aclose(self) -> None:
        """End all commands and publications, and close the outbox: after the doors have ended."""
        await self.commands.aclose()
        await self.relay.aclose()

    def standing_changed(self, child: DeviceId) -> None:
        """Note that a child was admitted, rejected or forgotten, perhaps."""
        self.relay.standing_changed(child)
        if self._children.gone(child):
            self.commands.forget(child)

    # What is shown.

    def statistics(self) -> MessageStatistics:
        """Return the statistics of now."""
        return self.relay.statistics()

    def door_states(self) -> DoorStates:
        """Return state and explanation of each door, and what it has not handed on."""
        return self._doors.states()

    @property
    def entrances(self) -> Mapping[DeviceId, str]:
        """The door at which the newest message of each child came in."""
        return self.relay.entrances

    async def _show_children(self) -> None:
        """Show children, at gatewayd's own broker, what has changed for them, until cancelled."""
        while True:
            now = self._statuses()
            for child, status in now.items():
                if self._shown.get(child) != status:
                    self._doors.show(child, status)
            for child in self._shown.keys() - now.keys():
                self._doors.show(child, None)
            self._shown = now
            await asyncio.sleep(SHOW_EVERY)

    def _statuses(self) -> dict[DeviceId, ChildCloudStatus]:
        sessions, counts = self.sessions, self.relay.statistics().children
        known = {*sessions.online, *sessions.offline, *counts}
        for child in [one for one in sessions.offline if self._children.gone(one)]:
            del sessions.offline[child]
        return {
            child: ChildCloudStatus(
                child in sessions.online,
                sessions.online.get(child, sessions.offline.get(child, 0)),
                counts[child].waiting if child in counts else 0,
                sum(counts[child].dropped.values()) if child in counts else 0,
            )
            for child in known
            if not self._children.gone(child)
        }
