"""The membership of this gateway: how a site is founded, joined and left, by operators' commands.

    found     at the first gateway, where etcd has no site: it makes the keys
    join      at another one, with the fingerprint of the site: it asks, and waits
    accept    at a member, with the fingerprint of the gateway that waits: it gets the keys
    remove    at a member: the others get a new key, and write all children again

Both fingerprints are compared by people, so that who can write to etcd can neither become a member
nor have a newcomer encrypt its children for anyone else.  No site is founded without a command: two
gateways that start at once before an empty etcd, or an etcd that lost its data, must not make two.

The private key and the ring are in slots of the vault.  A vault that is sealed, or may be an old
copy or a clone, gives this gateway no part in the site.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from gatewayd.device.identity import DeviceId
from gatewayd.device.recovery import reason_of
from gatewayd.device.secret import Secret, SecretRef, SecretSlots
from gatewayd.device.views import SiteState
from gatewayd.errors import (
    Busy,
    ConfigError,
    EtcdUseless,
    GatewayError,
    InvalidArgs,
    SecretNotFound,
    SiteError,
    StoreCloned,
    StoreError,
    StoreRolledBack,
    StoreSealed,
    StoreUnavailable,
    WrongState,
)
from gatewayd.secretstore.keyslots import recovery
from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from gatewayd.secretstore.vault import crypto
from gatewayd.settings.grammar import label
from gatewayd.site.decisions import LAYOUT
from gatewayd.site.etcd import as_one_word, largest
from gatewayd.site.etcd_messages import Compare, Compared, Delete, Get, KeyValue, Operation, Put
from gatewayd.site.membership import key_ring
from gatewayd.site.membership.key_ring import (
    DocumentFault,
    KeyRing,
    MemberDocument,
    SealedRing,
    fingerprint_of,
    parse_fingerprint,
    read_member,
    read_ring,
)
from gatewayd.site.reading import SiteKeys
from gatewayd.site.replica.blob import BlobKeys
from gatewayd.site.replica.blob_writer import SiteStore
from gatewayd.site.shards import MAX_GATEWAYS
from gatewayd.site.shown import ShownMembers

log = logging.getLogger(__name__)

LOOK = 2.0
"""Seconds between two readings of the members."""
MAX_WAITING = 16
"""Gateways that may wait for an operator's yes."""

PROVIDER: Final = "site"
"""Under which the slots of a site are kept; their device is no child's."""
NOT_A_MEMBER = "This gateway is no member of its site now, and has none of its keys"


@dataclass(frozen=True, slots=True)
class _Documents:
    """What etcd holds of the members, at one revision.

    ring: None for none.  changed: the revision of each key, 0 for one that does not exist.
    members, waiting: None for a document that cannot be read.
    """

    ring: SealedRing | None
    changed: Mapping[str, int]
    members: Mapping[str, MemberDocument | None] = field(default_factory=dict)
    waiting: Mapping[str, MemberDocument | None] = field(default_factory=dict)


_UNTRUSTED = {reason_of(kind()).code for kind in (StoreSealed, StoreRolledBack, StoreCloned)}


class MemberSlots:
    """The slots of a site in the vault: private key, ring, and the fingerprint of a site to join.

    What is replaced gets a new slot, and the old one is emptied after that.
    site: its name.
    """

    def __init__(self, slots: SecretSlots, site: str) -> None:
        self._slots, self._site = slots, site

    async def get(self, kind: str) -> Secret | None:
        """Return the newest of a kind; None for none.  Raises StoreError."""
        for ref in await self._refs(kind):
            with suppress(SecretNotFound):
                return await self._slots.get(ref)
        return None

    async def put(self, kind: str, secret: Secret | None) -> None:
        """Replace what there is of a kind; None: by nothing.  Raises StoreError."""
        refs = await self._refs(kind)
        if secret is not None:
            number = refs[0].attempt + 1 if refs else 1
            await self._slots.put(SecretRef(PROVIDER, self._device, number, kind), secret)
        for ref in refs:
            await self._slots.delete(ref)

    async def check(self) -> None:
        """Raise StoreUnavailable where the vault has no key, or is not to be trusted.

        A full disk is no reason: what is in the vault can be used, and children stay online.
        """
        why = await self._slots.check_ready()
        if why is not None and why.code in _UNTRUSTED:
            raise StoreUnavailable(str(why))

    @property
    def _device(self) -> DeviceId:
        return DeviceId(f"site-{self._site}")

    async def _refs(self, kind: str) -> Sequence[SecretRef]:
        refs = await self._slots.refs(self._device)
        return sorted((r for r in refs if r.provider == PROVIDER and r.kind == kind), reverse=True)


OWN_KEY, RING, EXPECTED = "site-member", "site-ring", "site-expected"
"""The kinds of slots."""


class Membership:
    """The membership of this gateway in one site.

    slots: of the secret store, not those that are replicated.  name: of this gateway.
    rekeyed: awaited once the site has another key: all children are to be written again.
    """

    def __init__(
        self,
        slots: SecretSlots,
        client: SiteStore,
        keys: SiteKeys,
        name: str,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._slots, self._client = MemberSlots(slots, keys.site), client
        self._keys, self._name, self._random = keys, name, random
        self.rekeyed: Callable[[], Awaitable[None]] | None = None
        self._own: RecoveryKey | None = None
        self._ring: KeyRing | None = None
        self._view = ShownMembers(standing=SiteState.STARTING)
        self._rekey_due = self._is_useless = False
        self._turn = asyncio.Lock()

    def view(self) -> ShownMembers:
        """Return what is known of the members, as of the last reading."""
        return self._view

    def keys(self) -> BlobKeys:
        """Return the keys of the site.  Raises StoreUnavailable where this gateway is no member."""
        if self._ring is None or self._view.standing is not SiteState.READY:
            raise StoreUnavailable(NOT_A_MEMBER)
        return self._ring.blob_keys()

    async def run(self) -> None:
        """Read the members every few seconds, until cancelled."""
        while True:
            with suppress(SiteError):  # who reads the shards says so
                await self._look()
            if self._rekey_due and self.rekeyed is not None:
                try:
                    await self.rekeyed()
                except GatewayError as error:
                    log.warning("Children have the former key of the site for now: %s.", error)
                else:
                    self._rekey_due = False
            await asyncio.sleep(LOOK)

    async def _look(self) -> None:
        """Read what etcd has of the members; what is too large for that is named once."""
        try:
            await self.refresh()
        except EtcdUseless as error:
            if not self._is_useless:
                key = await largest(self._client, self._gets())
                log.warning(
                    "The members of the site cannot be read: %s The largest is %s.",
                    error,
                    as_one_word(key),
                )
            self._is_useless = True
        else:
            self._is_useless = False

    async def refresh(self) -> None:
        """Read what etcd has of the members, and go by it.

        Raises SiteError.  What else is wrong is in the view, and gives no part in the site.
        """
        async with self._turn:
            await self._refresh()

    async def found(self) -> str:
        """Found the site, and return its fingerprint; or put back what etcd lost of it.

        Raises WrongState, SiteError, StoreError.
        """
        async with self._commanded():
            own, documents = await self._open(), await self._read()
            ring = self._ring
            if documents.ring is not None and not self._is_put_back(documents.ring):
                raise WrongState(
                    "The site is founded already: join it with gatewayctl site join FINGERPRINT"
                )
            if documents.ring is None and documents.members and ring is None:
                raise WrongState(
                    "etcd has members of this site, and has lost its keys: run gatewayctl site "
                    "found on one of them"
                )
            if ring is None:
                ring = key_ring.new_ring(self._name, own.public, self._random)
                await self._slots.put(RING, key_ring.to_secret(ring))
                self._ring = ring
            layout = Compare(f"{self._keys.prefix}layout", Compared.CHANGED,
                             documents.changed.get("layout", 0))  # fmt: skip
            await self._publish(ring, documents, [layout])
            log.info("The site has the fingerprint %s.", ring.fingerprint)
            return ring.fingerprint

    async def join(self, fingerprint: str) -> None:
        """Ask to be a member of the site that has this fingerprint.

        Raises InvalidArgs, WrongState, Busy, SiteError, StoreError.
        """
        expected = _fingerprint(fingerprint)
        async with self._commanded():
            own, documents = await self._open(), await self._read()
            if documents.ring is None:
                raise WrongState(
                    "The site is not founded: run gatewayctl site found on its first gateway"
                )
            if (known := documents.members.get(self._name)) is not None:
                is_us = known.public == own.public
                raise WrongState(
                    "This gateway is a member already" if is_us else
                    f"Another gateway is a member by the name {self._name}: set gateway in [site], "
                    f"or run gatewayctl site remove {self._name} on a member, if it is gone"
                )  # fmt: skip
            if len(documents.waiting.keys() - {self._name}) >= MAX_WAITING:
                raise Busy(f"{MAX_WAITING} gateways wait for an operator's yes already")
            await self._slots.put(RING, None)
            self._ring = None
            await self._slots.put(EXPECTED, Secret(expected.encode("ascii")))
            key = f"{self._keys.prefix}join/{self._name}"
            await self._write([], [Put(key, key_ring.join_document(own.public))])

    async def accept(self, gateway: str, fingerprint: str) -> None:
        """Let a gateway that waits be a member.

        Raises InvalidArgs, WrongState, SiteError, StoreError.
        """
        expected = _fingerprint(fingerprint)
        async with self._commanded():
            ring, documents = await self._require()
            waiting = documents.waiting.get(gateway)
            if waiting is None:
                raise WrongState(
                    f"No gateway {gateway!a} waits: run gatewayctl site join FINGERPRINT on it"
                )
            if waiting.fingerprint != expected:
                raise WrongState(
                    f"The gateway that waits as {gateway} has another fingerprint, "
                    f"{waiting.fingerprint}: compare it with what gatewayctl site status shows at "
                    "that gateway"
                )
            if ring.members.get(gateway, waiting.public) != waiting.public:
                raise WrongState(
                    f"{gateway} is a member with another key: first run gatewayctl site remove "
                    f"{gateway}, so that the former one gets no new key"
                )
            if gateway not in ring.members and len(ring.members) >= MAX_GATEWAYS:
                raise WrongState(f"A site has {MAX_GATEWAYS} gateways at most: remove another one")
            await self._publish(ring.with_member(gateway, waiting.public), documents)

    async def remove(self, gateway: str) -> None:
        """Remove a member, or a gateway that waits; the others get a new key of the site.

        Raises WrongState, SiteError, StoreError.
        """
        async with self._commanded():
            ring, documents = await self._require()
            if gateway == self._name:
                raise WrongState("A gateway cannot remove itself: run this on another member")
            if gateway not in ring.members:
                if gateway not in documents.waiting:
                    raise WrongState(f"No gateway {gateway!a} is a member, or waits")
                await self._write([], [Delete(f"{self._keys.prefix}join/{gateway}")])
                return
            newer = ring.without_member(gateway, self._random(crypto.KEY_SIZE))
            await self._publish(newer, documents)

    def _commanded(self) -> _Command:
        return _Command(self._turn, self._refresh)

    async def _require(self) -> tuple[KeyRing, _Documents]:
        """Return the ring and what etcd has, at a member.  Raises WrongState."""
        documents = await self._refresh()
        if documents is None or self._ring is None or self._view.standing is not SiteState.READY:
            raise WrongState(f"{NOT_A_MEMBER}. {self._view.fault}".strip(". "))
        return self._ring, documents

    async def _refresh(self) -> _Documents | None:
        """Read what etcd has, go by it, and return it; None where that cannot be.

        Raises SiteError.
        """
        try:
            own, documents = await self._open(), await self._read()
        except StoreError as error:
            self._view = ShownMembers(standing=SiteState.FAULTY, fault=str(error))
            return None
        standing, fault = self._standing(own, documents), ""
        if standing is SiteState.READY:
            try:
                await self._accept_ring(own, documents)
            except (DocumentFault, StoreError) as error:
                standing, fault = SiteState.FAULTY, str(error)
        elif standing is SiteState.NOT_FOUNDED and self._ring is not None:
            fault = (
                "etcd has lost the site: run gatewayctl site found, which puts its keys back, and "
                "with them the children"
            )
        ring = self._ring if standing is SiteState.READY else None
        self._view = ShownMembers(
            standing=standing,
            fingerprint=fingerprint_of(own.public),
            site_fingerprint=ring.fingerprint if ring is not None else "",
            epoch=ring.epoch if ring is not None else 0,
            members=_fingerprints(documents.members),
            waiting=_fingerprints(documents.waiting),
            fault=fault,
        )
        return documents

    def _standing(self, own: RecoveryKey, documents: _Documents) -> SiteState:
        if documents.ring is None:
            return SiteState.NOT_FOUNDED
        known = documents.members.get(self._name)
        if known is not None and known.public == own.public:
            return SiteState.READY
        waiting = documents.waiting.get(self._name)
        if waiting is not None and waiting.public == own.public:
            return SiteState.WAITING
        is_ours = self._ring is not None and self._ring.site == documents.ring.site
        return SiteState.REMOVED if is_ours else SiteState.NOT_JOINED

    async def _accept_ring(self, own: RecoveryKey, documents: _Documents) -> None:
        """Go on with the ring in etcd, once it is in the vault.

        Raises DocumentFault where it is not of the members that are known, or older; StoreError.
        """
        document, sealed = documents.members[self._name], documents.ring
        assert document is not None, "a member has a document"
        assert sealed is not None, "the site is founded"
        known = self._ring
        if known is not None and self._is_put_back(sealed):
            raise DocumentFault(
                f"etcd was put back to epoch {sealed.epoch} of the site's keys, and this gateway "
                f"has {known.epoch}: run gatewayctl site found, which puts the newer back"
            )
        ring = sealed.open(document.unwrap(own, sealed))
        if ring == known:
            return
        if known is None:
            expected = await self._slots.get(EXPECTED)
            if expected is None or expected.reveal().decode("ascii") != ring.fingerprint:
                raise DocumentFault(
                    "the site is not the one whose fingerprint was given, or has another key "
                    "since: run gatewayctl site remove GATEWAY on a member, with the name of this "
                    "one, then gatewayctl site join FINGERPRINT on this one, with the fingerprint "
                    "of the site"
                )
        elif not ring.follows(known):
            raise DocumentFault(
                "the key ring of the site was written by none of its members: see who can write to "
                "etcd"
            )
        await self._slots.put(RING, key_ring.to_secret(ring))
        self._rekey_due |= known is not None and ring.epoch != known.epoch
        self._ring = ring

    def _is_put_back(self, sealed: SealedRing) -> bool:
        """Whether etcd has an older ring than is known here."""
        known = self._ring
        return known is not None and sealed.site == known.site and sealed.epoch < known.epoch

    async def _open(self) -> RecoveryKey:
        """Return the private key, which is made once, and read the ring.  Raises StoreError."""
        await self._slots.check()
        if self._own is None:
            pem = await self._slots.get(OWN_KEY)
            if pem is None:
                pem = Secret(recovery.make_private(self._random))
                await self._slots.put(OWN_KEY, pem)
            try:
                own = RecoveryKey(pem.reveal())
                kept = await self._slots.get(RING)
                self._ring = key_ring.from_secret(kept) if kept is not None else None
            except (ConfigError, DocumentFault) as error:
                raise StoreUnavailable(str(error)) from error
            self._own = own
        return self._own

    async def _read(self) -> _Documents:
        """Return what etcd has of the members.  Raises SiteError, StoreUnavailable."""
        prefix, done = self._keys.prefix, await self._client.txn((), self._gets())
        ring, layout, members, waiting = (found.pairs for found in done.found)
        pairs = (*ring, *layout, *members, *waiting)
        changed = {one.key.removeprefix(prefix): one.changed for one in pairs}
        try:
            return _Documents(
                read_ring(ring[0].value) if ring else None,
                changed,
                dict(_named(f"{prefix}member/", members)),
                dict(_named(f"{prefix}join/", waiting)),
            )
        except DocumentFault as error:
            raise StoreUnavailable(str(error)) from error

    def _gets(self) -> Sequence[Get]:
        """Return what is read of the members."""
        prefix = self._keys.prefix
        return [
            Get(f"{prefix}ring", limit=1), Get(f"{prefix}layout", limit=1),
            Get(f"{prefix}member/", True, 4 * MAX_GATEWAYS),
            Get(f"{prefix}join/", True, 4 * MAX_WAITING),
        ]  # fmt: skip

    async def _publish(
        self, ring: KeyRing, before: _Documents, compares: Sequence[Compare] = ()
    ) -> None:
        """Write a ring for all its members, and remove the documents of others.

        before: what etcd has, and must still have.  Raises WrongState, SiteError, StoreError.
        """
        prefix = self._keys.prefix
        writes: list[Operation] = [
            Put(f"{prefix}layout", LAYOUT.encode("ascii")),
            Put(f"{prefix}ring", key_ring.seal_ring(ring, self._random)),
        ]
        for name in ring.members:
            document = key_ring.member_document(ring, name, self._name, self._random)
            writes.append(Put(f"{prefix}member/{name}", document))
        gone = [f"member/{name}" for name in before.members.keys() - ring.members.keys()]
        gone += [f"join/{name}" for name in before.waiting.keys() & ring.members.keys()]
        still = [Compare(f"{prefix}ring", Compared.CHANGED, before.changed.get("ring", 0))]
        still += [Compare(prefix + key, Compared.CHANGED, before.changed[key]) for key in gone]
        await self._write([*still, *compares], [*writes, *(Delete(prefix + key) for key in gone)])

    async def _write(self, compares: Sequence[Compare], writes: Sequence[Operation]) -> None:
        done = await self._client.txn(compares, writes)
        if not done.succeeded:
            await self._refresh()
            raise WrongState("The members of the site were changed meanwhile: look, and try again")


class _Command:
    """One command at a time; what it has changed shows in the view at its end."""

    def __init__(self, turn: asyncio.Lock, refresh: Callable[[], Awaitable[object]]) -> None:
        self._turn, self._refresh = turn, refresh

    async def __aenter__(self) -> None:
        await self._turn.acquire()

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        try:
            if error is None:
                await self._refresh()
        finally:
            self._turn.release()


def _named(prefix: str, pairs: Iterable[KeyValue]) -> Iterator[tuple[str, MemberDocument | None]]:
    """Yield the documents of gateways; keys that no gateway writes are left out."""
    for pair in pairs:
        if label(name := pair.key.removeprefix(prefix)):
            continue
        try:
            yield name, read_member(pair.value)
        except DocumentFault:
            yield name, None


def _fingerprints(documents: Mapping[str, MemberDocument | None]) -> Mapping[str, str]:
    return {name: one.fingerprint for name, one in documents.items() if one is not None}


def _fingerprint(text: str) -> str:
    if (found := parse_fingerprint(text)) is None:
        raise InvalidArgs("A fingerprint has 32 hex digits, as gatewayctl site status shows them")
    return found
