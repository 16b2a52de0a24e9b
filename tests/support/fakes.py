"""Small fakes of everything that touches the world: they obey the ports, and run on any clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from gatewayd.cloud.provider import (
    CloudRequestHandler,
    Failed,
    Issued,
    KeepSecret,
    LoginFailed,
    LoginRefused,
    MessageAccepted,
    MessageDelayed,
    Outcome,
    Publication,
    Refused,
    SessionEnd,
    Unknown,
)
from gatewayd.device.decision_log import DecisionKind, DecisionQuery, LoggedDecision
from gatewayd.device.identity import Claim, DeviceId, Evidence, Trust, device_id
from gatewayd.device.message import Message
from gatewayd.device.reason import Reason
from gatewayd.device.record import Change, CloudName, Record
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.device.views import ALL, DeviceView, ShowChanges
from gatewayd.errors import SecretNotFound, StoreError, WrongState

T = TypeVar("T")


class MemoryDecisions:
    """A log of decisions that survives as `MemoryRecords` does.  failing: what appending raises."""

    def __init__(self) -> None:
        self.logged: list[LoggedDecision] = []
        self.failing: StoreError | None = None

    async def append(
        self, kind: DecisionKind, device: str, by: str, origin: str = "", note: str = ""
    ) -> None:
        if self.failing is not None:
            raise self.failing
        number = len(self.logged) + 1
        self.logged.append(LoggedDecision(number, number, kind, device, by, origin, note))

    async def newest(self, query: DecisionQuery, limit: int) -> list[LoggedDecision]:
        fitting = [one for one in reversed(self.logged) if one.device.startswith(query.device)]
        return fitting[:limit]


class MemoryRecords:
    """Records that survive what the test calls a crash, as long as the object lives.

    As the commit thread does, it works in order of the queue, and finishes for cancelled callers.
    failing: what all works end with.  dead: the power is off, and nothing is done any more.
    """

    def __init__(self) -> None:
        self.rows: dict[DeviceId, Record] = {}
        self.slots: dict[SecretRef, Secret] = {}
        self.answers: dict[Claim, DeviceId] = {}
        self.failing: StoreError | None = None
        self.dead = False
        self.secrets = MemorySecrets(self)
        self.decisions = MemoryDecisions()

    def __getitem__(self, device: DeviceId) -> Record:
        return self.rows[device]

    def get(self, device: DeviceId) -> Record | None:
        return self.rows.get(device)

    def all(self) -> Iterator[Record]:
        return iter(sorted(self.rows.values(), key=lambda r: r.device))

    def place(self, elsewhere: Callable[[Record], Reason]) -> None:
        """Note of each record why another gateway has the child, as where it is read at a start."""
        for device, record in self.rows.items():
            self.rows[device] = replace(record, elsewhere=elsewhere(record))

    async def update(self, device: DeviceId, change: Change) -> Record:
        def write() -> Record:
            self.rows[device] = change(self.rows.get(device))
            return self.rows[device]

        return await self.on_disk(write)

    async def forget(self, device: DeviceId) -> None:
        own = [key for key, whose in self.answers.items() if whose == device]
        await self.settle(dict.fromkeys(own), device)

    async def settle(
        self, answers: Mapping[Claim, DeviceId | None], gone: DeviceId | None = None
    ) -> None:
        def write() -> None:
            merged = {**self.answers, **answers}.items()
            self.answers = {key: whose for key, whose in merged if whose is not None}
            self.rows.pop(gone or DeviceId(""), None)
            self.slots = {ref: s for ref, s in self.slots.items() if ref.device != gone}

        await self.on_disk(write)

    async def on_disk(self, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()

        def answer() -> None:
            if self.dead:
                return
            error, value = self._attempt(work)
            if done.done():
                return  # the waiter was cancelled; what was done stays done
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(value)

        loop.call_later(0.005, answer)
        result: T = await done
        return result

    def _attempt(self, work: Callable[[], T]) -> tuple[Exception | None, T | None]:
        if self.failing is not None:
            return self.failing, None
        try:
            return None, work()
        except (StoreError, AssertionError) as error:
            return error, None


class MemorySecrets:
    """The secret slots of a `MemoryRecords`: `SecretSlots`."""

    def __init__(self, records: MemoryRecords) -> None:
        self._records = records

    async def put(self, ref: SecretRef, secret: Secret) -> None:
        def write() -> None:
            assert ref not in self._records.slots, "a slot is never overwritten"
            self._records.slots[ref] = secret

        await self._records.on_disk(write)

    async def get(self, ref: SecretRef) -> Secret:
        def read() -> Secret:
            if ref not in self._records.slots:
                raise SecretNotFound("no such slot")
            return self._records.slots[ref]

        return await self._records.on_disk(read)

    async def delete(self, ref: SecretRef) -> None:
        def remove() -> None:
            self._records.slots.pop(ref, None)

        await self._records.on_disk(remove)

    async def refs(self, device: DeviceId) -> tuple[SecretRef, ...]:
        return await self._records.on_disk(
            lambda: tuple(sorted(ref for ref in self._records.slots if ref.device == device))
        )

    async def holds(self, ref: SecretRef) -> bool:
        return await self._records.on_disk(lambda: ref in self._records.slots)

    async def check_ready(self) -> Reason | None:
        return None


CLOSING = 0.3
"""Seconds that a session takes to be closed in good order."""


ROUND_TRIP = 0.05
"""Seconds that a message takes to the cloud and back."""


class FakeSession:
    """A session the fake cloud can end, over which its child can speak."""

    max_payload = 64 * 1024

    def __init__(self, cloud: FakeCloud, name: CloudName) -> None:
        self._cloud, self._name = cloud, name
        self.ended: asyncio.Future[SessionEnd] = asyncio.get_running_loop().create_future()

    async def wait_closed(self) -> SessionEnd:
        return await asyncio.shield(self.ended)

    async def publish(self, message: Message) -> Publication:
        if not self.ended.done():
            self._cloud.said.setdefault(self._name.device, []).append(message)
            await asyncio.wait([self.ended], timeout=ROUND_TRIP)
        if self.ended.done():
            return MessageDelayed(self.ended.result().reason)
        return MessageAccepted()

    async def close(self) -> None:
        try:
            if not self.ended.done():
                await asyncio.sleep(CLOSING)
        finally:
            if self._cloud.online.get(self._name) is self:
                del self._cloud.online[self._name]


@dataclass
class FakeCloud:
    """The rules of dynamic registration, without a network.

    script: for each name, outcomes to give before the cloud behaves.
    contested: whose session was opened while another of it was open.
    said: what children have said, by their names, repeats included.
    down: whether it cannot be reached.  why_down: the code of why that is.
    not_ready: why nothing can be requested of it, which is found without asking it.
    """

    name: str = "cloud"
    names: set[str] | None = None
    script: dict[str, list[str]] = field(default_factory=dict)
    issued: dict[CloudName, list[Secret]] = field(default_factory=dict)
    activated: dict[CloudName, Secret] = field(default_factory=dict)
    online: dict[CloudName, FakeSession] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    contested: list[CloudName] = field(default_factory=list)
    said: dict[str, list[Message]] = field(default_factory=dict)
    down: bool = False
    why_down: str = "cloud-unreachable"
    not_ready: Reason | None = None

    gateway_name: CloudName | None = None

    def set_requests(self, requests: CloudRequestHandler) -> None:
        self.requests = requests

    def on_pending(self, name: CloudName) -> None:
        self.calls.append(f"found {name.device}")

    def check_name(self, name: CloudName) -> Reason | None:
        return None

    async def check_ready(self, name: CloudName) -> Reason | None:
        return self.not_ready

    async def unbind(self, name: CloudName) -> Reason | None:
        self.calls.append(f"forget {name.device}")
        return None

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        self.calls.append(f"register {name.device}")
        await asyncio.sleep(0.1)
        word = self._next(name)
        if word == "refuse" or name in self.activated:
            return Refused(Reason("cloud-refused"))
        if word == "fail":
            return Failed(Reason("cloud-unreachable"))
        secret = Secret(f"{name.device}-{len(self.issued.get(name, []))}".encode())
        self.issued.setdefault(name, []).append(secret)
        if word == "lose":
            return Unknown(Reason("answer-lost"))
        await keep(secret)
        if word == "issue-another":
            self.issued[name].append(Secret(b"another one's"))
        return Issued()

    def renew_at(self, name: CloudName, secret: Secret) -> float | None:
        return None

    async def connect(self, name: CloudName, secret: Secret) -> FakeSession:
        self.calls.append(f"connect {name.device}")
        await asyncio.sleep(0.1)
        if self.down:
            raise LoginFailed(Reason(self.why_down))
        if secret != self.activated.get(name, self.issued[name][-1]):
            raise LoginRefused(Reason("cloud-auth-failed"))
        self.activated[name] = secret
        if name in self.online:
            self.contested.append(name)
        self.online[name] = FakeSession(self, name)
        return self.online[name]

    async def close(self) -> None:
        """Nothing is held."""

    def cut(self) -> None:
        """End every session, and accept no other until `down` is False."""
        self.down = True
        for name in tuple(self.online):
            self.drop(name.device, by_cloud=False)

    def drop(self, device: str, *, by_cloud: bool = True) -> None:
        """End a child's session, from the cloud's side or by a path that is lost."""
        reason = Reason("cloud-closed" if by_cloud else "connection-lost")
        session = next(s for n, s in self.online.items() if n.device == device)
        if not session.ended.done():
            session.ended.set_result(SessionEnd(reason, by_cloud=by_cloud))

    def reset(self, name: CloudName) -> None:
        """Forget the first login of a child, as an operator asks for at the cloud."""
        if self.activated.pop(name, None) is not None:
            self.issued[name].append(Secret(b"what was before is void"))
        if name in self.online:
            self.drop(name.device)

    def _next(self, name: CloudName) -> str:
        waiting = self.script.get(name.device)
        return waiting.pop(0) if waiting else "behave"


def _serial(name: str) -> Claim:
    return Claim("serial", "fake", name.lower())


class FakeLan:
    """What discovery would know: `Discovery`, and the devices of it."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.known: dict[DeviceId, Evidence] = {}
        self.changed: dict[DeviceId, float] = {}
        self.pinned: set[DeviceId] = set()
        self.answers: dict[Claim, DeviceId | None] = {}
        self.rescans: list[tuple[int, tuple[str, ...]]] = []

    @property
    def devices(self) -> FakeLan:
        return self

    def rescan(self, seconds: int, protocols: Sequence[str]) -> None:
        self.rescans.append((seconds, tuple(protocols)))

    def faults(self) -> tuple[str, ...]:
        return ()

    def counters(self) -> dict[str, int]:
        return {}

    def refused(self) -> tuple[()]:
        return ()

    async def record(self, seconds: int, most: int) -> int:
        raise WrongState(f"Nothing to record for {seconds} s and {most} bytes")

    def services(self) -> tuple[()]:
        return ()

    def reread(self) -> None:
        pass

    def id_of(self, name: str) -> DeviceId:
        return device_id([_serial(name)], name)

    def appear(self, name: str) -> DeviceId:
        device, claims = self.id_of(name), frozenset({_serial(name)})
        view = {"source": "fake", "instance": name, "txt.serial": name}
        self.known[device] = Evidence((view,), claims, Trust.LISTED, name)
        self.changed[device] = self._now()
        return device

    def evidence(self, device: DeviceId) -> Evidence:
        return self.known.get(device, Evidence((), frozenset(), Trust.CLAIMED))

    def changed_at(self, device: DeviceId) -> float:
        return self.changed.get(device, 0.0)

    def last_seen(self, device: DeviceId) -> float:
        return self.changed.get(device, 0.0)

    def add_known(self, device: DeviceId, claims: Iterable[Claim]) -> None:
        self.pinned.add(device)

    def pin(self, device: DeviceId) -> None:
        self.pinned.add(device)

    def unpin(self, device: DeviceId) -> None:
        self.pinned.discard(device)

    def answer(self, answers: Mapping[Claim, DeviceId | None]) -> None:
        self.answers |= answers

    def disputed(self, device: DeviceId, other: DeviceId | None) -> frozenset[Claim]:
        shown = self.evidence(other).claims if other else frozenset()
        return self.evidence(device).claims & shown

    def identity(self, device: DeviceId, other: DeviceId | None) -> frozenset[Claim]:
        return self.evidence(other or device).claims

    def distinctive(self, device: DeviceId, without: Collection[Claim] = ()) -> frozenset[Claim]:
        return self.evidence(device).claims.difference(without)


class RecordingReporter:
    """A reporter that remembers all it was shown, and can be waited on."""

    def __init__(self) -> None:
        self.shown: dict[DeviceId, DeviceView] = {}
        self.states: dict[DeviceId, list[str]] = {}
        self._changed = asyncio.Event()

    def gather(self, show_changes: ShowChanges) -> None:
        show_changes(ALL, steps=True)

    def show(self, view: DeviceView) -> None:
        self.shown[view.id] = view
        states = self.states.setdefault(view.id, [])
        if not states or states[-1] != view.state:
            states.append(view.state)
        self._changed.set()

    def remove(self, device: DeviceId) -> None:
        self.shown.pop(device, None)
        self._changed.set()

    async def wait_for(self, device: DeviceId, state: str, reason: str = "") -> DeviceView:
        """Return when a child is shown in a state, and with a reason where one is given."""
        while True:
            self._changed.clear()
            view = self.shown.get(device)
            if view and view.state == state and reason in ("", view.reason):
                return view
            await self._changed.wait()

    async def wait_gone(self, device: DeviceId) -> None:
        """Return when a child is shown no more."""
        while device in self.shown:
            self._changed.clear()
            await self._changed.wait()
