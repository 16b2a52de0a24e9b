"""Publishers of children that also notify the stages which look at what children become."""

from __future__ import annotations

from typing import Protocol

from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import State
from gatewayd.device.record import RecordStore
from gatewayd.manager.manager import Child, ChildPublisher


class NotifiedBroker(Protocol):
    """The children as users of gatewayd's own broker."""

    def update(self, device: DeviceId) -> None:
        """Note that a child may stand otherwise than before."""

    def forget(self, device: DeviceId) -> None:
        """Note that a child was forgotten by an operator."""


class SpeakingChildren(Protocol):
    """The children as those who say something."""

    def standing_changed(self, device: DeviceId) -> None:
        """Note that a child may stand otherwise than before."""


class Standings(Protocol):
    """What has to know how children stand.  Either is None where there is none, or not yet."""

    @property
    def broker(self) -> NotifiedBroker | None: ...
    @property
    def message_stage(self) -> SpeakingChildren | None: ...


class StandingNotifier:
    """A `ChildPublisher` that also notifies the users of the broker, and the messages.

    A child that had a record was forgotten by an operator; any other may come back.
    """

    def __init__(
        self, publisher: ChildPublisher, records: RecordStore, notified: Standings
    ) -> None:
        self._publisher, self._records, self._notified = publisher, records, notified
        self._on_record: set[DeviceId] = set()

    def show(self, child: Child) -> None:
        """Show a child, new or changed."""
        self._note(child.id)
        if self._notified.broker and self._records.get(child.id) is not None:
            self._on_record.add(child.id)
        self._publisher.show(child)

    def remove(self, device: DeviceId) -> None:
        """Show a child no more."""
        self._note(device)
        if self._notified.broker and device in self._on_record:
            self._on_record.remove(device)
            self._notified.broker.forget(device)
        self._publisher.remove(device)

    def _note(self, device: DeviceId) -> None:
        if self._notified.broker:
            self._notified.broker.update(device)
        if self._notified.message_stage:
            self._notified.message_stage.standing_changed(device)


class ChildProofs(Protocol):
    """The children as those who prove keys of their own."""

    def shown(self, device: DeviceId, state: State, *, present: bool) -> None:
        """Note what a child is now."""

    def removed(self, device: DeviceId) -> None:
        """Note that a child is gone."""


class ProofNotifier:
    """A `ChildPublisher` that also notifies the keeper of proofs."""

    def __init__(self, publisher: ChildPublisher, proofs: ChildProofs) -> None:
        self._publisher, self._proofs = publisher, proofs

    def show(self, child: Child) -> None:
        """Show a child, new or changed."""
        self._proofs.shown(child.id, child.state, present=child.present)
        self._publisher.show(child)

    def remove(self, device: DeviceId) -> None:
        """Show a child no more."""
        self._proofs.removed(device)
        self._publisher.remove(device)
