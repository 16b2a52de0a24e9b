"""Proofs of the children: made before they are admitted, and again where they may be others.

    a rule names a proof → connection → decision → the key is pinned with the admission
    return, another address → connection → the same key: it goes on
                                         → another key: on record, then frozen

A child whose key is pinned opens no session after a return before it has proven that key again.
One that cannot be asked just now, at another address, keeps the session it has: discovery ends that
where the child has left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import UNDISPUTED, DeviceId, Evidence
from gatewayd.device.lifecycle import Event, PostEvent, State
from gatewayd.device.proof import Pin, PinCheck, PinIndex, Proof, check, completed
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.record import Record, RecordStore, unchanged
from gatewayd.device.recovery import KEY_CHANGED, KEY_OF_ANOTHER
from gatewayd.errors import RecordChanged, StoreError, WrongState
from gatewayd.proofs.link import Place, place_of
from gatewayd.proofs.prover import Asked, Prover
from gatewayd.proofs.reasons import OTHER_CERTIFICATE
from gatewayd.runtime.clock import Clock

log = logging.getLogger(__name__)

MAX_PLACES = 4
"""Places at which one device is asked for its key."""
FIRST_RETRY = 15.0
"""Seconds until one that could not prove its key is asked again; doubled each time."""

_WATCHED = {State.ACTIVATING, State.ONLINE, State.OFFLINE, State.HANDED_OVER}
"""The states in which a child is asked again when its address changes."""


@dataclass(slots=True)
class _Wait:
    """How long a device waits that is not admitted and was asked.

    until: when it is asked again, seconds of the event loop's clock; 0 where it is not.
    seconds: how long it waits now; 0 before it does for the first time.
    """

    until: float = 0.0
    seconds: float = 0.0


Activate: TypeAlias = Callable[[DeviceId, PostEvent], Awaitable[None]]
"""What is done for a child that may go on."""


class ProvenEvidence(Protocol):
    """What is known of devices, and what they have proven."""

    def evidence(self, device: DeviceId) -> Evidence:
        """Return all that is known of a device."""

    def note(self, device: DeviceId, proof: Proof) -> None:
        """Note what came of a connection to a device."""

    def forget(self, device: DeviceId) -> None:
        """Forget what a device has proven."""


class ProofKeeper:
    """The keeper of what children have proven: it has them asked, and freezes who changes.

    pins: of the children, kept up to date.  post: queues an event of a child.
    proof_of: returns the proof that a rule of this name demands now; "" for none.
    """

    def __init__(  # noqa: PLR0913  # two by keyword
        self,
        prover: Prover,
        devices: ProvenEvidence,
        records: RecordStore,
        pins: PinIndex,
        clock: Clock,
        *,
        post: Callable[[DeviceId, Event], None],
        proof_of: Callable[[str], str],
    ) -> None:
        self._prover, self._devices, self._records, self._pins = prover, devices, records, pins
        self._clock, self._post, self._proof_of = clock, post, proof_of
        self._waiting: dict[DeviceId, _Wait] = {}
        self._due: set[DeviceId] = set()
        self._asked: dict[DeviceId, frozenset[Place]] = {}
        self._moved: dict[DeviceId, set[asyncio.Event]] = {}
        self._wanted: dict[DeviceId, None] = {}
        self._checking: set[DeviceId] = set()
        self._wake = asyncio.Event()

    # Devices that are not admitted yet.

    async def make(self, device: DeviceId, name: str) -> None:
        """Have a device prove its key by [proof.NAME], before a decision on it."""
        if name not in self._prover.settings:
            return
        evidence = self._devices.evidence(device)
        if evidence.conflict not in UNDISPUTED and evidence.proof is None:
            return  # who it is has to be settled first
        places = tuple(_places(evidence))
        is_due = device in self._due or device not in self._waiting
        asked = Asked.SOON if is_due else Asked.LATER
        proof = await self._prover.prove(name, places, known=False, asked=asked)
        self._devices.note(device, proof)
        self._waiting.setdefault(device, _Wait())

    def try_later(self, device: DeviceId, name: str) -> float:
        """Have a device evaluated again that is held for its proof.

        Returns when, seconds of the event loop's clock; 0 where it is not.
        """
        settings = self._prover.settings.get(name)
        if settings is None:
            return 0.0
        wait = self._waiting.setdefault(device, _Wait())
        if not wait.until:
            self._due.discard(device)
            wait.seconds = min(max(2 * wait.seconds, FIRST_RETRY), settings.retry)
            wait.until = self._clock.now() + wait.seconds
            self._wake.set()
        return wait.until

    def pin(self, device: DeviceId, name: str) -> Pin | None:
        """Return the key to pin to a device that is admitted by a rule with this proof."""
        evidence = self._devices.evidence(device)
        proof = evidence.proof
        if proof is None or not name or proof.name != name:
            return None
        self._asked[device] = frozenset(_places(evidence))
        return Pin.of(proof)

    # Children on record.

    async def settle(self, device: DeviceId, post: PostEvent, go_on: Activate) -> None:
        """Let a child that is back go on, once it has proven the key that is pinned to it."""
        wait, asked = FIRST_RETRY, Asked.RETURNED
        while (why := await self._check(device, asked)).code:
            if why in _FROZEN:
                post(lc.Frozen(why))
                return
            until = self._clock.now() + wait
            post(lc.ProofDelayed(replace(why, substate="proving"), until))
            await self._until_moved(device, wait)
            wait, asked = min(2 * wait, self._longest(device)), Asked.SOON
        await go_on(device, post)

    def shown(self, device: DeviceId, state: State, *, present: bool) -> None:
        """Note that a child, or what is known of it, has changed."""
        record = self._records.get(device)
        if record is None:
            return
        self._forget_wait(device)
        if record.pin is None:
            return
        if not present:
            self._asked.pop(device, None)
            return
        places = frozenset(_places(self._devices.evidence(device)))
        if places <= self._asked.get(device, frozenset()):
            return
        if device in self._moved:
            self._wake_up(device)
        elif state in _WATCHED and record.is_in_force and device not in self._checking:
            self._wanted[device] = None
            self._wake.set()

    def removed(self, device: DeviceId) -> None:
        """Note that a device has left, or was forgotten: what it has proven was its own."""
        self._forget_wait(device)
        self._asked.pop(device, None)
        self._devices.forget(device)

    def retry(self, device: DeviceId) -> bool:
        """Have a device asked again now; False where it does not wait for that."""
        if not self._forget_wait(device):
            return False
        self._prover.reread()
        self._post(device, lc.Changed())
        return True

    def reread(self) -> None:
        """Ask again who has failed: the vendor's files, or the rules, are others now."""
        self._prover.reread()
        self._waiting.clear()
        self._due.clear()
        for device in self._moved:
            self._wake_up(device)

    async def repin(self, device: DeviceId) -> None:
        """Pin the other key that a frozen child has shown.  Raises WrongState, StoreError."""

        record = self._records.get(device)
        pin = record.pin if record is not None else None
        if pin is None or not pin.refused:
            raise WrongState(f"Device {device} has shown no other key")
        new = Pin(pin.name, pin.refused, at=self._clock.stamp(), address=pin.address)
        await self._update(device, lambda r: replace(unchanged(r, pin=pin), pin=new))

    async def run(self) -> None:
        """Ask again who is due, until cancelled."""
        async with asyncio.TaskGroup() as checks:
            while True:
                self._wake.clear()
                now = self._clock.now()
                for device in [d for d, one in self._waiting.items() if 0 < one.until <= now]:
                    self._waiting[device].until = 0.0
                    self._due.add(device)
                    self._post(device, lc.Changed())
                wanted, self._wanted = self._wanted, {}
                for device in wanted:
                    self._checking.add(device)
                    checks.create_task(self._watch(device), name="check proof")
                await self._pause()

    async def _pause(self) -> None:
        moments = [one.until for one in self._waiting.values() if one.until]
        delay = max(min(moments) - self._clock.now(), 0) if moments else None
        try:
            async with asyncio.timeout(delay):
                await self._wake.wait()
        except TimeoutError:
            pass  # something is due

    def _forget_wait(self, device: DeviceId) -> bool:
        """Forget for how long a device waits; return whether it does."""
        self._due.discard(device)
        wait = self._waiting.pop(device, None)
        return wait is not None and bool(wait.until)

    async def _watch(self, device: DeviceId) -> None:
        """Check a child that has a session; where that cannot be done, again and again."""
        wait = FIRST_RETRY
        try:
            while device in self._checking:
                try:
                    why = await self._check(device, Asked.SOON)
                except StoreError as error:
                    log.warning("Device %s: its proof is not on record: %s.", device, error)
                else:
                    if why in _FROZEN:
                        self._post(device, lc.Frozen(why))
                    if not why.code or why in _FROZEN:
                        return
                    log.info("Device %s: %s", device, why, extra={"device": device})
                await self._until_moved(device, wait)
                wait = min(2 * wait, self._longest(device))
                if self._is_gone(device):
                    return
        finally:
            self._checking.discard(device)

    def _is_gone(self, device: DeviceId) -> bool:
        record = self._records.get(device)
        return record is None or not record.is_in_force or not self._devices.evidence(device).views

    def _longest(self, device: DeviceId) -> float:
        name = self._name(self._records.get(device))
        settings = self._prover.settings.get(name)
        return settings.retry if settings else FIRST_RETRY

    async def _until_moved(self, device: DeviceId, seconds: float) -> None:
        """Wait, but no longer than until the child answers elsewhere, or files have changed."""
        moved = asyncio.Event()
        waiting = self._moved.setdefault(device, set())  # one that is watched may be back, too
        waiting.add(moved)
        try:
            async with asyncio.timeout(seconds):
                await moved.wait()
        except TimeoutError:
            pass
        finally:
            waiting.remove(moved)
            if not waiting:
                del self._moved[device]

    def _wake_up(self, device: DeviceId) -> None:
        for moved in self._moved[device]:
            moved.set()

    def _name(self, record: Record | None) -> str:
        """Return the proof that a child makes; "" for none."""
        if record is None:
            return ""
        return record.pin.name if record.pin is not None else self._proof_of(record.rule)

    async def _check(self, device: DeviceId, asked: Asked) -> Reason:
        """Have a child prove its key; return why it cannot go on, NONE if it can.

        Raises StoreError.
        """
        record = self._records.get(device)
        name = self._name(record)
        if record is None or name not in self._prover.settings:
            return NONE
        pin, now = record.pin, tuple(_places(self._devices.evidence(device)))
        self._asked[device] = frozenset(now)
        key = pin.key if pin is not None else ""
        proof = await self._prover.prove(name, now, known=True, asked=asked, key=key)
        if proof.key != key and (before := _before(pin, now)) is not None:
            there = await self._prover.prove(name, [before], known=True, asked=asked, key=key)
            proof = there if there.pinned else proof
        self._devices.note(device, proof)
        self._post(device, lc.Changed())  # so that it is shown
        if pin is None:
            await self._pin_later(device, proof)
            return NONE
        match check(pin, proof, dated=self._clock.is_set()):
            case PinCheck.CONFIRMED:
                others = self._pins.others(device, proof)
                newer = replace(pin if others else completed(pin, proof), address=proof.address)
                if newer != pin:
                    await self._replace(device, pin, newer)
                return KEY_CHANGED if self._is_frozen(device) else NONE
            case PinCheck.CHANGED:
                return await self._freeze(device, pin, proof)
            case PinCheck.UNPROVEN:
                return proof.reason if proof.reason.code else OTHER_CERTIFICATE

    async def _pin_later(self, device: DeviceId, proof: Proof) -> None:
        """Pin a key to a child that was admitted when it had none to show."""
        pin = Pin.of(proof)
        if pin is not None and not self._pins.others(device, proof):
            await self._replace(device, None, pin)
            log.info("Device %s: its key is pinned now.", device, extra={"device": device})

    async def _freeze(self, device: DeviceId, pin: Pin, proof: Proof) -> Reason:
        others = self._pins.others(device, proof)
        why = KEY_OF_ANOTHER if others else KEY_CHANGED
        while not await self._replace(device, pin, replace(pin, refused=proof.key)):
            record = self._records.get(device)
            if record is None or record.pin is None or record.pin.key == proof.key:
                return NONE  # an operator has decided meanwhile
            if record.pin.refused:
                return why  # so has another question
            pin = record.pin
        log.warning(
            "Device %s is frozen: at %s it has shown the key %s%s; pinned is %s.",
            device,
            proof.address,
            proof.key,
            f", which is that of {', '.join(sorted(others))}" if others else "",
            pin.key,
            extra={"device": device},
        )
        return why

    def _is_frozen(self, device: DeviceId) -> bool:
        """Whether another question has frozen a child meanwhile."""
        record = self._records.get(device)
        return record is not None and record.is_frozen

    async def _replace(self, device: DeviceId, before: Pin | None, pin: Pin) -> bool:
        """Put another pin on record; return whether it was still the one of before."""
        try:
            await self._update(device, lambda r: replace(unchanged(r, pin=before), pin=pin))
        except RecordChanged:
            return False
        return True

    async def _update(self, device: DeviceId, change: Callable[[Record | None], Record]) -> None:
        record = await self._records.update(device, change)
        self._pins.update(device, record.pin)


_FROZEN: Collection[Reason] = (KEY_CHANGED, KEY_OF_ANOTHER)


def _before(pin: Pin | None, now: Sequence[Place]) -> Place | None:
    """Return where a child proved its key last, where it is said to be elsewhere now.

    What answers there counts only with that key: the address may be another device's by now.
    """
    if pin is None or not now or pin.address in {one.address for one in now}:
        return None
    return place_of(pin.address, now[0].interface)


def _places(evidence: Evidence) -> Iterator[Place]:
    """Yield where a device may be asked for its key, the most trusted first, bounded."""
    found: dict[Place, None] = {}
    for view in evidence.views:
        for address in _addresses(view):
            if (place := place_of(address, view.get("interface", ""))) is not None:
                found[place] = None
    yield from list(found)[:MAX_PLACES]


def _addresses(view: Mapping[str, str]) -> Iterable[str]:
    return view.get("addresses", "").split() or filter(None, [view.get("address", "")])
