"""Gateways of a site as far as their records and secrets go: real stores, and a real etcd."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from gatewayd.cloud.credentials import read_secret
from gatewayd.device.identity import Claim, DeviceId
from gatewayd.device.record import Admission, CloudName, Record, Verdict
from gatewayd.secretstore.vault.vault import Vault
from gatewayd.site.etcd import EtcdClient
from gatewayd.site.etcd_messages import Compare, Compared, Delete, Get, Put
from gatewayd.site.reading import SiteKeys
from gatewayd.site.replica.blob import BlobKeys
from gatewayd.site.replica.local_copies import LocalCopies
from gatewayd.site.replica.replication import Replica, ReplicatedRecords, ReplicatedSecrets
from gatewayd.site.settings import SiteSettings
from gatewayd.site.shards import shard_of
from gatewayd.storage.storage import Storage
from tests.support.vaults import DEVELOPMENT

SITE = SiteKeys("plant")
PREFIX = SITE.prefix
KEYS = BlobKeys(b"s" * 16, 1, {1: b"k" * 32}, b"n" * 32)
NOW = 1_790_000_000_000_000


PATIENCE = 60.0
"""Seconds to wait for what happens at once on a machine that has nothing else to do."""


async def until(true: Callable[[], bool]) -> None:
    """Wait for a state."""
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.01)


def cloud_name(number: int) -> CloudName:
    return CloudName("east", "sensor", f"TH20-{number}")


def child(number: int, gateway: str = "", **facts: object) -> Record:
    """Return a child as a gateway has admitted it: each may give it another id."""
    fresh = Record(
        device=DeviceId(f"child-{gateway}{number:04}"),
        claims=frozenset({Claim("serial", f"_{gateway or 'x'}._tcp", str(number))}),
        label=f"Sensor {number}",
        verdict=Verdict.ADMITTED,
        admission=Admission.RULE,
        rule="sensors",
        reason="",
        cloud=cloud_name(number),
        verdict_at=NOW,
        first_seen=NOW,
    )
    return replace(fresh, **facts)  # type: ignore[arg-type]  # of a record


class HasSettings(Protocol):
    """An etcd, as a gateway has it in its configuration."""

    def settings(self) -> SiteSettings: ...


@dataclass
class Gateway:
    """One gateway.  adopted, forgotten: what its flow was notified of."""

    name: str
    storage: Storage
    client: EtcdClient
    keys: BlobKeys = KEYS
    holds: bool = True
    others: bool = True
    adopted: list[Record] = field(default_factory=list)
    forgotten: list[DeviceId] = field(default_factory=list)
    now: int = NOW

    def __post_init__(self) -> None:
        storage = self.storage
        self.local = LocalCopies(
            storage.thread, storage.database, storage.store, storage.records, shard_of,
            lambda: self.now,
        )  # fmt: skip
        self.replica = Replica(
            self.client, SITE, self.local, lambda: self.keys,
            shard_of=shard_of, may_send=lambda: self.holds, wall=lambda: self.now,
            adopted=self.adopted.append, forgotten=self.forgotten.append,
            others=lambda: self.others,
        )  # fmt: skip
        self.records = ReplicatedRecords(storage.records, self.replica)
        self.secrets = ReplicatedSecrets(storage.secrets, storage.records, self.replica)

    async def claim(self, *shards: int) -> None:
        """Claim shards, whoever has them, and load them."""
        for shard in shards:
            self.holds = True
            key = SITE.shard(shard)
            await self.client.txn((), [Delete(key)])
            done = await self.client.txn(
                [Compare(key, Compared.CREATED, 0)], [Put(key, self.name.encode())], [Get(key)]
            )
            assert done.succeeded
            await self.replica.load(shard, done.revision)

    async def take(self, *numbers: int) -> None:
        """Claim the shards of some children."""
        await self.claim(*sorted({shard_of(cloud_name(number)) for number in numbers}))

    async def admit(self, number: int) -> Record:
        """Put a child on record, as new."""
        fresh = child(number, self.name)
        return await self.records.update(fresh.device, lambda _: fresh)


@asynccontextmanager
async def gateway(
    directory: Path, etcd: HasSettings, name: str, **facts: object
) -> AsyncIterator[Gateway]:
    """Run a gateway with the stores in a directory, until it is left."""
    client = EtcdClient.of(etcd.settings(), partial(read_secret, None))
    vault = partial(Vault, DEVELOPMENT, directory)
    storage = await Storage.open(directory, vault, lambda: NOW)
    writer = None
    try:
        made = Gateway(name, storage, client, **facts)  # type: ignore[arg-type]  # of a gateway
        await made.replica.open()
        writer = asyncio.create_task(made.replica.run())
        yield made
    finally:
        if writer is not None:
            writer.cancel()
            with suppress(asyncio.CancelledError):
                await writer
        client.close()
        await storage.thread.aclose()
