"""The site joined: leases and shards, copies of children in etcd, members, and the children here.

    agent ──gained, lost──→ children of this gateway ──records, secrets──→ replica ──→ etcd

A gateway without etcd has none of this.  Nothing waits for etcd at the start: until it answers, all
children are elsewhere, as another gateway may have them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from gatewayd.admission.placed_records import PlacedRecords
from gatewayd.cloud.credentials import ReadSecret
from gatewayd.cloud.paho_socket import MAY_SEND
from gatewayd.cloud.provider import SupportsPieces
from gatewayd.device.identity import DeviceId
from gatewayd.device.record import CloudName, Record
from gatewayd.device.views import SiteState
from gatewayd.errors import StoreError
from gatewayd.runtime.clock import Clock
from gatewayd.runtime.tasks import until_one_ends
from gatewayd.site.agent import SiteAgent
from gatewayd.site.etcd import EtcdClient, EtcdLogin
from gatewayd.site.fence import Fence, boot_time
from gatewayd.site.membership.members import Membership
from gatewayd.site.ownership import SiteOwnership
from gatewayd.site.reading import SiteKeys
from gatewayd.site.replica.local_copies import LocalCopies
from gatewayd.site.replica.replication import Replica, ReplicatedRecords, ReplicatedSecrets
from gatewayd.site.service import SiteParts
from gatewayd.site.settings import SiteSettings
from gatewayd.site.shards import shard_of
from gatewayd.site.snapshot import ShardListener
from gatewayd.storage.storage import Storage

log = logging.getLogger(__name__)

LEAVE = 8.0
"""Seconds in which all shards are given up when gatewayd stops; else they end with the lease."""
OPEN_AGAIN = 5.0
"""Seconds until it is tried again to read what is known of the site, as from a sealed vault."""


class SiteChildren(ShardListener, Protocol):
    """The children of this gateway, as a site has to do with them."""

    def owed(self) -> frozenset[int]:
        """Return the shards of whose children messages wait that this gateway could not send."""

    def adopt(self, record: Record) -> None:
        """Know a child by a record that another gateway has written."""

    def drop(self, device: DeviceId) -> None:
        """Know a child no more that was forgotten at another gateway."""

    async def run(self) -> None:
        """Follow who has what, until cancelled."""


def sharding(clouds: Mapping[str, object]) -> Callable[[CloudName], int]:
    """Return what says in which shard a name is; with it are all that move with it as one."""

    pieces = {name: one.piece for name, one in clouds.items() if isinstance(one, SupportsPieces)}

    def shard(name: CloudName) -> int:
        piece = pieces.get(name.provider)
        return shard_of(name, piece(name) if piece is not None else "")

    return shard


class SiteStage:
    """This gateway's part in a site on etcd.

    clouds: those that are configured, by name.

    records, secrets: of the children; what is written is durable here and in etcd.
    """

    def __init__(
        self,
        settings: SiteSettings,
        version: str,
        storage: Storage,
        clouds: Mapping[str, object],
        read_secret: ReadSecret,
        clock: Clock,
    ) -> None:
        self._settings, self._version, self._clock = settings, version, clock
        self._storage, self._keys, self._fence = storage, SiteKeys(settings.name), Fence()
        login = EtcdLogin.of(settings, read_secret)
        self._clients = [EtcdClient.of(settings, read_secret, login=login) for _ in range(4)]
        leases, readings, writes, documents = self._clients
        self._leases, self._readings = leases, readings
        self._members = Membership(storage.secrets, documents, self._keys, settings.own_name)
        self.shard_of = sharding(clouds)
        self.ownership = SiteOwnership(settings.own_name, self.shard_of, self._fence)
        self.replica = self._make_replica(writes)
        self._members.rekeyed = self.replica.reseal
        replicated = ReplicatedRecords(storage.records, self.replica)
        self.records = PlacedRecords(replicated, self.ownership)
        self.secrets = ReplicatedSecrets(storage.secrets, storage.records, self.replica)
        self._children: SiteChildren | None = None
        self._agent: SiteAgent | None = None

    def _make_replica(self, client: EtcdClient) -> Replica:
        storage, wall = self._storage, self._clock.wall
        local = LocalCopies(
            storage.thread, storage.database, storage.store, storage.records, self.shard_of, wall
        )
        return Replica(
            client,
            self._keys,
            local,
            self._members.keys,
            shard_of=self.shard_of,
            may_send=self.may_send,
            wall=wall,
            adopted=lambda record: self._known().adopt(record),
            forgotten=lambda device: self._known().drop(device),
            others=self._has_others,
            reread=self._members.refresh,
        )

    def may_send(self) -> bool:
        """Whether anything may be sent for the children of this gateway, by its lease."""
        return self._fence.holds()

    def are_of_one_shard(self, one: CloudName, other: CloudName) -> bool:
        """Whether two names are always one gateway's."""
        return self.shard_of(one) == self.shard_of(other)

    def connect(self, children: SiteChildren) -> SiteParts:
        """Set whose shards are gained and lost; return what operators see, and may do.

        To be called once, before `run`.  From now on each connection to a cloud that is opened in
        this context, or in one made of it, asks before it sends.
        """
        MAY_SEND.set(self.may_send)
        members = self._members
        self._children = children
        self._agent = agent = SiteAgent(
            self._keys,
            self._settings.own_name,
            self._version,
            leases=self._leases,
            store=self._readings,
            fence=self._fence,
            ownership=self.ownership,
            listener=children,
            is_ready=self._is_ready,
            now=boot_time,
            jitter=self._clock.jitter,
            owed=children.owed,
        )
        return SiteParts(
            snapshot=agent.snapshot,
            members=members.view,
            copies=self.replica.view,
            found=members.found,
            join=members.join,
            accept=members.accept,
            remove=members.remove,
            drain=agent.drain,
            resume=agent.resume,
            shard_of=self.shard_of,
            elsewhere=self.ownership.elsewhere,
        )

    async def run(self) -> None:
        """Take part in the site, until cancelled."""
        assert self._agent is not None, "it is connected before it runs"
        await self._open()
        try:
            await until_one_ends(
                self._agent.run(), self.replica.run(), self._members.run(), self._known().run()
            )
        finally:
            for client in self._clients:
                client.close()

    async def leave(self) -> None:
        """Give up all shards and the lease, so that others need not wait; while `run` runs."""
        if self._agent is not None:
            await self._agent.close(LEAVE)

    async def _open(self) -> None:
        """Read what is known here of the site and its members; again until that succeeds."""
        while True:
            try:
                await self.replica.open()
            except StoreError as error:
                log.warning("What is known of the site cannot be read yet: %s.", error)
                await asyncio.sleep(OPEN_AGAIN)
            else:
                return

    def _is_ready(self) -> bool:
        """Whether children can be worked on: there is a key of the site, and one of the store."""
        if self._storage.sealed or self._storage.read_only:
            return False
        return self._members.view().standing is SiteState.READY

    def _has_others(self) -> bool:
        """Whether another gateway of the site lives, as far as this one has read."""
        reading = self._agent.snapshot().reading if self._agent is not None else None
        return reading is not None and bool(reading.gateways.keys() - {self._settings.own_name})

    def _known(self) -> SiteChildren:
        assert self._children is not None, "it is connected before anything is merged"
        return self._children
