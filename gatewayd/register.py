"""The register of children and their secrets, for the event loop: durable when it returns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gatewayd.device.identity import DeviceId
from gatewayd.device.record import Change, Record
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import SecretCorrupt, SecretNotFound, StoreUnavailable
from gatewayd.secretstore.store import SecretStore
from gatewayd.statefile import StateFile
from gatewayd.storethread import StoreThread


class Register:
    """Implements Records: the newest durable records, in memory; each change on the disk first.

    state and store were opened by the thread, in this order: where a power cut comes between
    the two commits of `forget`, it leaves secrets without a record, which are found at the next
    start, and never a record whose secrets are gone.
    """

    def __init__(
        self,
        thread: StoreThread,
        state: StateFile,
        store: SecretStore,
        records: Iterable[Record],
    ) -> None:
        self._thread, self._state, self._store = thread, state, store
        # written on the store thread, one item at a time, as soon as it is known to be durable
        self._durable = {record.device: record for record in records}
        self._written: dict[DeviceId, Record] = {}

    @classmethod
    async def load(cls, thread: StoreThread, state: StateFile, store: SecretStore) -> Register:
        """Read all records.  Raises StoreError."""
        return cls(thread, state, store, await thread.run(state.all))

    def __getitem__(self, device: DeviceId) -> Record:
        """Return the newest durable record.  Raises KeyError."""
        return self._durable[device]

    def get(self, device: DeviceId) -> Record | None:
        """Return the newest durable record; None for a child without one."""
        return self._durable.get(device)

    def all(self) -> Iterator[Record]:
        """Return every record, in order of device id."""
        return iter(sorted(self._durable.values(), key=lambda record: record.device))

    async def update(self, device: DeviceId, change: Change) -> Record:
        """Change a record, and return it when it is durable and was read back.

        Raises StoreError, and what `change` raises.
        """

        def write() -> Record:
            record = change(self._state.read(device))
            self._state.write(record)
            self._written[device] = record
            return record

        return await self._thread.run(write, lambda _: self._read_back(device))

    async def forget(self, device: DeviceId) -> None:
        """Return when neither the record nor any secret of the device is left."""

        def remove() -> None:
            self._state.remove(device)
            for ref in self._store.refs(device):
                self._store.delete(ref)
            self._written.pop(device, None)

        await self._thread.run(remove, lambda _: self._read_back(device))

    def _read_back(self, device: DeviceId) -> None:
        """Take over what is on the disk: what the newest work on this device in the group left."""
        written = self._written.get(device)
        if self._state.read(device) != written:
            raise StoreUnavailable(f"the record of {device} was read back differently")
        if written is None:
            self._durable.pop(device, None)
        else:
            self._durable[device] = written


class Secrets:
    """The slots of the secret store, for the event loop."""

    def __init__(self, thread: StoreThread, store: SecretStore) -> None:
        self._thread, self._store = thread, store

    async def put(self, ref: SecretRef, secret: Secret) -> None:
        """Return when the secret is durable and was read back.  Raises StoreError."""

        def read_back(_: None) -> None:
            if self._store.get(ref) != secret:
                raise SecretCorrupt(f"a secret of {ref.device} was read back differently")

        await self._thread.run(lambda: self._store.put(ref, secret), read_back)

    async def get(self, ref: SecretRef) -> Secret:
        """Read a slot from the disk.  Raises SecretNotFound, SecretCorrupt, StoreSealed."""
        return await self._thread.run(lambda: self._store.get(ref))

    async def delete(self, ref: SecretRef) -> None:
        """Return when a slot is empty; one that is empty stays so.  Raises StoreError."""
        await self._thread.run(lambda: self._store.delete(ref))

    async def refs(self, device: DeviceId) -> tuple[SecretRef, ...]:
        """Return all slots of a device that hold something.  Raises StoreError."""
        return await self._thread.run(lambda: tuple(self._store.refs(device)))

    async def holds(self, ref: SecretRef) -> bool:
        """Tell whether a slot can be read.  Raises StoreSealed, StoreUnavailable."""
        try:
            await self.get(ref)
        except (SecretNotFound, SecretCorrupt):
            return False
        return True

    async def headroom(self) -> None:
        """Make sure that a put will find room.  Raises StoreSealed, StoreFull."""
        await self._thread.run(self._store.headroom)

    async def purge(self, now: int) -> None:
        """Delete what has been in quarantine for 30 days; now: microseconds since the epoch."""
        await self._thread.run(lambda: self._store.purge(now))
