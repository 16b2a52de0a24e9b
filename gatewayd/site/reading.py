"""The keys of a site in etcd, and what is read of them.  Pure.

    layout                  the version of all this
    gateway/GATEWAY         version of gatewayd, and whether it gives up all shards; with its lease
    shard/NN                the gateway that has the shard; with its lease
    held/NN                 the same, without a lease: left where a shard was not given up in order
    member/GATEWAY          the document of a member
    join/GATEWAY            that of a gateway that waits for an operator's yes
    child/NN/NAME           a child and its secrets, which only members can open

All of them are below /gatewayd/SITE/.  What a gateway reads every few seconds, all but the last, is
one transaction, so that it is of one revision, and does not grow with the children.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from gatewayd.settings.grammar import label
from gatewayd.site.etcd_messages import (
    Compare,
    Compared,
    Delete,
    EtcdTxn,
    Get,
    KeyValue,
    Operation,
    Put,
)
from gatewayd.site.shards import SHARDS
from gatewayd.site.snapshot import ShardOwner, SiteGateway, SiteReading

MOST = 64
"""Keys of one kind that are read; shards are as many."""
MAX_DOCUMENT = 1024
"""Bytes of the document of a gateway that lives."""
_NUMBER = re.compile(r"[0-9]{2}", re.ASCII)
_BITS = re.compile(r"[0-9a-f]{1,16}", re.ASCII)
MAX_VERSION = 64
"""Characters of a version that are shown."""


@dataclass(frozen=True, slots=True)
class SiteKeys:
    """The keys of one site.  site: its name."""

    site: str

    @property
    def prefix(self) -> str:
        """What all keys of the site begin with."""
        return f"/gatewayd/{self.site}/"

    def gateway(self, name: str) -> str:
        """Return the key of a gateway that lives."""
        return f"{self.prefix}gateway/{name}"

    def shard(self, shard: int) -> str:
        """Return the key that names the owner of a shard."""
        return f"{self.prefix}shard/{shard:02}"

    def held(self, shard: int) -> str:
        """Return the key that outlasts an owner which does not give its shard up."""
        return f"{self.prefix}held/{shard:02}"

    def claim(
        self, gateway: str, lease: int, claim: Mapping[int, int]
    ) -> tuple[list[Compare], list[Operation]]:
        """Return the transaction that claims shards, all of them or none.

        claim: the token of the last owner of each, who has not given it up; 0 for none.
        """
        compares: list[Compare] = []
        puts: list[Operation] = []
        name = gateway.encode("ascii")
        for shard, last in claim.items():
            key, held = self.shard(shard), self.held(shard)
            compares += Compare(key, Compared.CREATED, 0), Compare(held, Compared.CHANGED, last)
            puts += Put(key, name, lease), Put(held, name)
        return compares, puts

    def give_up(self, shard: int, token: int) -> tuple[list[Compare], list[Operation]]:
        """Return the transaction that gives a shard up, if it is still the one with this token."""
        key, held = self.shard(shard), self.held(shard)
        own = [Compare(key, Compared.CREATED, token), Compare(held, Compared.CHANGED, token)]
        return own, [Delete(key), Delete(held)]

    def gets(self) -> list[Get]:
        """Return what is read in one transaction."""
        kinds = ("gateway/", "shard/", "held/", "member/", "join/")
        prefixes = [Get(self.prefix + kind, True, MOST) for kind in kinds]
        return [*prefixes, Get(f"{self.prefix}layout", limit=1)]

    def read(self, txn: EtcdTxn) -> SiteReading:
        """Return what a transaction of `gets` has found; what has no form is left out."""
        gateways, shards, held, members, joining, layout = (one.pairs for one in txn.found)
        return SiteReading(
            revision=txn.revision,
            gateways={name: _gateway(one) for name, one in self._named("gateway", gateways)},
            owners={n: _owner(one, one.created) for n, one in self._numbered("shard", shards)},
            held={n: _owner(one, one.changed) for n, one in self._numbered("held", held)},
            members={name: one.value for name, one in self._named("member", members)},
            joining={name: one.value for name, one in self._named("join", joining)},
            layout=layout[0].value.decode("ascii", "replace")[:MAX_VERSION] if layout else "",
        )

    def _named(self, kind: str, pairs: Iterable[KeyValue]) -> Iterator[tuple[str, KeyValue]]:
        for pair in pairs:
            if not label(name := pair.key.removeprefix(f"{self.prefix}{kind}/")):
                yield name, pair

    def _numbered(self, kind: str, pairs: Iterable[KeyValue]) -> Iterator[tuple[int, KeyValue]]:
        for pair in pairs:
            number = pair.key.removeprefix(f"{self.prefix}{kind}/")
            if _NUMBER.fullmatch(number) and int(number) < SHARDS:
                yield int(number), pair


def _owner(pair: KeyValue, token: int) -> ShardOwner:
    """Return whose a shard is; a name without a form stands for a gateway that does not live."""
    name = pair.value.decode("ascii", "replace")
    return ShardOwner("" if label(name) else name, token, pair.lease)


def gateway_document(version: str, *, draining: bool, owed: Collection[int] = ()) -> bytes:
    """Return what a gateway writes of itself.  owed: shards, which are written as bits."""
    document: dict[str, object] = {"draining": draining, "version": version}
    if owed:
        document["owed"] = f"{sum(1 << shard for shard in owed):x}"
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def _gateway(pair: KeyValue) -> SiteGateway:
    """Return a gateway that lives; without what its document has in another form."""
    try:
        document = json.loads(pair.value[:MAX_DOCUMENT])
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        return SiteGateway(pair.lease)
    version, draining = document.get("version"), document.get("draining")
    shown = "".join(c for c in version if " " < c <= "~") if isinstance(version, str) else ""
    return SiteGateway(pair.lease, shown[:MAX_VERSION], draining is True, _owed(document))


def _owed(document: dict[str, object]) -> frozenset[int]:
    """Return the shards whose bits are set; none where there is no such number."""
    text = document.get("owed")
    if not isinstance(text, str) or not _BITS.fullmatch(text):
        return frozenset()
    bits = int(text, 16)
    return frozenset(shard for shard in range(SHARDS) if bits >> shard & 1)
