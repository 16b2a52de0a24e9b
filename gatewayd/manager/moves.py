"""The commands of operators that move children to other clouds, and forget what is left there."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Protocol

from gatewayd.admission.controller import AdmissionController
from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import GATEWAY_PREFIX, DeviceId
from gatewayd.device.lifecycle import State
from gatewayd.device.move import MAX_DORMANT, Generation
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName, Record, RecordStore, unchanged
from gatewayd.device.recovery import on_retry
from gatewayd.device.secret import SecretSlots
from gatewayd.device.views import MoveRow
from gatewayd.errors import InvalidArgs, NoSuchProvider, NotAdmitted, RecordChanged, WrongState
from gatewayd.manager.cloud_choice import chosen_cloud
from gatewayd.manager.manager import Child, DeviceManager
from gatewayd.runtime.clock import Clock

log = logging.getLogger(__name__)

_MOVABLE = frozenset(
    {State.REGISTERED, State.ACTIVATING, State.ONLINE, State.OFFLINE, State.ABSENT, State.FAILED}
)

GOOD_FOR, BAD_FOR = 60.0, 10.0
"""Seconds for which a preflight counts that is good, or has failed: many children may move at once,
and a cloud that does not answer takes its time with each."""

MAX_PART = 256
"""The most characters of a product or a route that an operator names."""

MOST_MOVES = 1000
"""Moves that are listed where no limit is named."""


class MoveService(Protocol):
    """What moves children whose moves are on record."""

    def begin(self, device: DeviceId) -> None:
        """Work on the move of a child, which is on record; go on at once where it waits."""

    def waits_for(self, device: DeviceId) -> tuple[Reason, float]:
        """Return why a move does not go on, and until when, seconds of the event loop's clock."""


Preflight = Callable[[str], Awaitable[str]]
"""Returns why a cloud could not be used now, by its name; "" where it could."""


class ManagedChildren:
    """The children, as what moves them sees them."""

    def __init__(self, manager: DeviceManager) -> None:
        self._manager = manager

    def state(self, device: DeviceId) -> State:
        """Return the state of a child; FORGOTTEN for one that is gone."""
        child = self._manager.children.get(device)
        return State.FORGOTTEN if child is None else child.state

    def restart(self, device: DeviceId) -> None:
        """Begin the work for a child again, at the cloud to which it belongs now."""
        child = self._manager.children.get(device)
        if child is None:
            return
        if child.state is State.FAILED:
            self._manager.post(device, lc.Retried(Reason("moved", "It has moved.")))
        elif lc.WORK.get(child.state) is lc.Work.CONNECT:
            self._manager.restart_work(child)

    def note(self, device: DeviceId, event: str, reason: Reason) -> None:
        """Show what has happened to a child, which is no event of its life cycle."""
        self._manager.note(device, event, reason)


def _resumed(record: Record | None) -> Record:
    """Return the facts once a refused move is tried again, as `on_retry` has them there."""
    again = unchanged(record).with_move_resumed()
    target = again.at_target()
    return again if target is None else again.with_target(on_retry(target))


def _demand_same(child: Child, to: Generation, options: Mapping[str, object]) -> None:
    """Raise WrongState where a move is to become another product, or go another route."""
    if (options.get("product", to.product), options.get("route", to.route)) != (
        to.product, to.route,
    ):  # fmt: skip
        by = f" by route {to.route}" if to.route else ""
        raise WrongState(
            f"Device {child.id} is to move there as {to.product}/{to.name}{by}: call that off "
            f"first, with gatewayctl move {child.id} --cancel"
        )


class OperatorMoves:
    """The commands about moves.

    products: of each configured cloud; None for one that does not list them.
    preflight: of a cloud, before a child moves there.
    checkpoint: called with the name of each completed step; tests crash there.
    """

    def __init__(  # noqa: PLR0913  # by keyword: what the root joins
        self,
        manager: DeviceManager,
        admission: AdmissionController,
        records: RecordStore,
        secrets: SecretSlots,
        *,
        mover: MoveService,
        products: Mapping[str, Collection[str] | None],
        preflight: Preflight,
        clock: Clock,
        checkpoint: Callable[[str], None],
    ) -> None:
        self._manager, self._admission, self._records = manager, admission, records
        self._secrets, self._mover, self._products = secrets, mover, products
        self._preflight, self._clock, self._checkpoint = preflight, clock, checkpoint
        self._found: dict[str, tuple[float, str]] = {}

    async def move(
        self, child: Child, provider: str, options: Mapping[str, object], caller: str
    ) -> None:
        """Put on record that a child is to move, and begin.

        Asked for once more, it goes on at once where it waits or was refused.
        Raises WrongState, NotAdmitted, NoSuchProvider, InvalidArgs, StoreError.
        """
        record = self._movable(child, provider)
        under_way = record.moves.under_way
        if under_way is not None and under_way.to.provider == provider:
            _demand_same(child, under_way.to, options)
            await self.resume(child)
            return
        if record.is_moving and under_way is not None:
            raise WrongState(
                f"Device {child.id} is moving to cloud {under_way.to.provider}: wait until it is "
                f"there, or call that off with gatewayctl move {child.id} --cancel"
            )
        to = await self._target(record, provider, options)
        await self._admission.check_move(child.id, to)
        await self._demand_usable(provider)
        now, cloud = self._clock.stamp(), record.cloud

        def begun(newest: Record | None) -> Record:
            same = unchanged(newest, cloud=cloud, moves=record.moves, verdict=record.verdict)
            return same.with_move(to, now)

        await self._admission.move(child.id, begun)
        self._checkpoint("move-on-record")
        text = f"To cloud {provider}, where it is to be {to}; requested by {caller}."
        self._manager.note(child.id, "MoveBegun", Reason("move-begun", text))
        log.info("Device %s moves. %s", child.id, text, extra={"device": child.id})
        self._mover.begin(child.id)

    async def resume(self, child: Child) -> bool:
        """Have the move of a child go on that waits or was refused; False where it has none."""
        record = self._records.get(child.id)
        if record is None or record.moves.under_way is None:
            return False
        if not record.is_moving:
            await self._admission.move(child.id, _resumed)
            self._manager.note(child.id, "MoveBegun", Reason("move-resumed", "It is tried again."))
        self._mover.begin(child.id)
        return True

    async def cancel(self, child: Child, caller: str) -> None:
        """Call a move off: the child stays where it is.  Raises WrongState, StoreError."""
        if self._record(child).moves.under_way is None:
            raise WrongState(f"Device {child.id} is not moving")

        def cancelled(newest: Record | None) -> Record:
            same = unchanged(newest)
            if same.moves.under_way is None:
                raise RecordChanged("the child has moved meanwhile")
            return same.without_move()

        await self._admission.move(child.id, cancelled)
        self._checkpoint("move-cancelled")
        text = f"Called off by {caller}: it stays where it is."
        self._manager.note(child.id, "MoveEnded", Reason("move-cancelled", text))
        log.info("Device %s does not move. %s", child.id, text, extra={"device": child.id})

    async def forget_dormant(self, child: Child, provider: str, caller: str) -> None:
        """Remove what a child has at a cloud where it is dormant, and the secret.

        Raises WrongState, CloudUnreachable, StoreError.
        """
        one = self._dormant(child, provider)

        def forgotten(newest: Record | None) -> Record:
            same = unchanged(newest)
            if same.moves.dormant_at(provider) is None:
                raise RecordChanged("the child has moved meanwhile")
            return same.without_dormant(provider)

        await self._admission.leave(child.id, Record.name_at(one), forgotten)
        for ref in await self._secrets.refs(child.id):
            if ref == one.slot(child.id, ref.attempt):
                await self._secrets.delete(ref)
        text = f"What it had at cloud {provider} was forgotten by {caller}."
        self._manager.note(child.id, "DormantForgotten", Reason("dormant-forgotten", text))
        log.info("Device %s: %s", child.id, text, extra={"device": child.id})

    def demand_none(self, child: Child) -> None:
        """Raise WrongState where a move is on record, so that it is clear what is meant."""
        record = self._records.get(child.id)
        if record is not None and record.moves.under_way is not None:
            raise WrongState(
                f"Device {child.id} is to move to cloud {record.moves.under_way.to.provider}: call "
                f"that off first, with gatewayctl move {child.id} --cancel"
            )

    def listed(self, limit: int) -> Sequence[MoveRow]:
        """Return the moves that are under way or were refused, in order of device id."""
        found: list[MoveRow] = []
        for record in self._records.all():
            move, cloud = record.moves.under_way, record.cloud
            if move is None or cloud is None:
                continue
            reason, until = self._why(record)
            again = self._clock.to_wall(until) if until else 0
            found.append((
                record.device, cloud.provider, move.to.provider, move.step.value, reason.code,
                str(reason) if reason.code else "", move.asked_at, again,
            ))  # fmt: skip
            if len(found) == (limit or MOST_MOVES):
                break
        return found

    def consequences(self, child: Child, provider: str) -> Iterator[str]:
        """Yield what forgetting a dormant cloud would do that cannot be undone."""
        one = self._dormant(child, provider)
        if one.stored:
            yield (
                f"The only secret by which cloud {provider} knows it is here, and is deleted: to "
                "move it back there, it has to be reset there first."
            )

    def _why(self, record: Record) -> tuple[Reason, float]:
        """Return why a move does not go on, and until when."""
        move = record.moves.under_way
        if move is not None and move.refused.code:
            return move.refused, 0.0
        return self._mover.waits_for(record.device)

    async def _demand_usable(self, provider: str) -> None:
        """Raise NotAdmitted where a cloud could not be used now; what was found is for a while."""
        now = self._clock.now()
        until, why = self._found.get(provider, (0.0, ""))
        if now >= until:
            why = await self._preflight(provider)
            self._found[provider] = self._clock.now() + (BAD_FOR if why else GOOD_FOR), why
        if why:
            raise NotAdmitted(f"Cloud {provider} cannot be used now: {why}")

    def stands(self, device: DeviceId) -> str:
        """Return that a child was moved, which no rule undoes; "" where it was not."""
        record = self._records.get(device)
        if record is None or record.cloud is None or not record.moves.moved_at:
            return ""
        return f"An operator has moved it to cloud {record.cloud.provider}: that stands."

    def _record(self, child: Child) -> Record:
        record = self._records.get(child.id)
        if record is None or record.cloud is None:
            raise WrongState(f"Device {child.id} belongs to no cloud")
        return record

    def _movable(self, child: Child, provider: str) -> Record:
        """Return the record of a child that can move to a cloud.  Raises WrongState."""
        record = self._record(child)
        if child.id.startswith(GATEWAY_PREFIX):
            raise WrongState(
                f"Device {child.id} is the gateway's own name at a cloud, which does not move: its "
                "children do"
            )
        if provider not in self._products:
            choice = ", ".join(sorted(self._products)) or "none"
            raise NoSuchProvider(f"No cloud {provider!r} is configured, but these are: {choice}")
        if record.cloud is not None and record.cloud.provider == provider:
            raise WrongState(f"Device {child.id} is at cloud {provider} already")
        if child.state not in _MOVABLE or not record.is_in_force:
            raise WrongState(
                f"Device {child.id} is {child.state.shown}, and moves only once it is registered "
                "and its session is not its holder's"
            )
        return record

    async def _target(
        self, record: Record, provider: str, options: Mapping[str, object]
    ) -> CloudName:
        """Return the name that a child is to have at a cloud.

        What it had there before is used again.  Raises WrongState, InvalidArgs.
        """
        kept = record.without_move().moves
        known = kept.dormant_at(provider)
        if known is None and len(kept.dormant) >= MAX_DORMANT:
            raise WrongState(
                f"Device {record.device} is dormant at {MAX_DORMANT} clouds: forget one first, "
                f"with gatewayctl forget {record.device} --dormant {kept.dormant[0].provider}"
            )
        assert record.cloud is not None, "a child that can move has a cloud"
        if known is None or not known.may_be_known:
            chosen = chosen_cloud({**options, "provider": provider}, self._products)
            if any(len(one) > MAX_PART for one in (chosen.product, chosen.route)):
                raise InvalidArgs(f"Product and route have at most {MAX_PART} characters")
            return CloudName(provider, chosen.product, record.cloud.device, chosen.route)
        if options.get("product", known.product) != known.product:
            raise WrongState(
                f"Device {record.device} is dormant at cloud {provider} as {known.product}/"
                f"{known.name}: forget that first, with gatewayctl forget {record.device} "
                f"--dormant {provider}"
            )
        if known.stored and not await self._secrets.holds(known.slot(record.device, known.stored)):
            raise WrongState(
                f"The secret by which cloud {provider} knows {record.device} is gone: reset the "
                f"device there, then run gatewayctl forget {record.device} --dormant {provider}"
            )
        return Record.name_at(known)

    def _dormant(self, child: Child, provider: str) -> Generation:
        one = self._record(child).moves.dormant_at(provider)
        if one is None:
            where = ", ".join(d.provider for d in self._record(child).moves.dormant) or "none"
            raise WrongState(f"Device {child.id} is not dormant at {provider!r}; it is at: {where}")
        return one
