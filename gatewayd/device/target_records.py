"""The records of children that move, as they are at the clouds to which they move.

What registers a child, logs it in or renews its secret works on these as on any others: so a move
takes the same steps, each as durable, and nothing knows of moves but the mover.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gatewayd.device.identity import Claim, DeviceId
from gatewayd.device.record import Change, Record, RecordStore
from gatewayd.errors import RecordChanged

NOT_MOVING = "the child does not move any more"


class TargetRecords:
    """A `RecordStore` that shows each moving child at its target; it has no other children."""

    def __init__(self, records: RecordStore) -> None:
        self._records = records

    def __getitem__(self, device: DeviceId) -> Record:
        """Raise RecordChanged where the child does not move."""
        if (found := self.get(device)) is None:
            raise RecordChanged(NOT_MOVING)
        return found

    def get(self, device: DeviceId) -> Record | None:
        """Return the record of a child at its target; None where it does not move."""
        record = self._records.get(device)
        return None if record is None else record.at_target()

    def all(self) -> Iterator[Record]:
        """Return the records of all children that move, in order of device id."""
        return (target for record in self._records.all() if (target := record.at_target()))

    async def update(self, device: DeviceId, change: Change) -> Record:
        """Change what a child has at its target.

        Raises RecordChanged where it does not move, StoreError, and what `change` raises.
        """

        def changed(record: Record | None) -> Record:
            target = None if record is None else record.at_target()
            if record is None or target is None:
                raise RecordChanged(NOT_MOVING)
            return record.with_target(change(target))

        await self._records.update(device, changed)
        return self[device]

    async def forget(self, device: DeviceId) -> None:
        """Forget the whole child."""
        await self._records.forget(device)

    @property
    def answers(self) -> Mapping[Claim, DeviceId]:
        """Whose claims are, by an operator's answer."""
        return self._records.answers

    async def settle(
        self, answers: Mapping[Claim, DeviceId | None], gone: DeviceId | None = None
    ) -> None:
        """Return when answers are durable; None withdraws one."""
        await self._records.settle(answers, gone)
