"""Who is a member of a site: with real vaults, and a real etcd that others may write to."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from gatewayd.cloud.credentials import read_secret
from gatewayd.device.secret import Secret
from gatewayd.device.views import SiteState
from gatewayd.errors import (
    BlobDamaged,
    Busy,
    InvalidArgs,
    StoreCloned,
    StoreError,
    StoreFull,
    StoreRolledBack,
    StoreSealed,
    StoreUnavailable,
    WrongState,
)
from gatewayd.secretstore.keyslots import recovery
from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from gatewayd.secretstore.vault.vault import Vault
from gatewayd.site.etcd import EtcdClient
from gatewayd.site.etcd_messages import Delete, Get, Put
from gatewayd.site.membership import key_ring
from gatewayd.site.membership.key_ring import DocumentFault, KeyRing, parse_fingerprint
from gatewayd.site.membership.members import MAX_WAITING, Membership, MemberSlots
from gatewayd.site.reading import SiteKeys
from gatewayd.site.replica.blob import open_blob, seal_blob
from gatewayd.site.shards import MAX_GATEWAYS
from gatewayd.storage.storage import Storage
from tests.site.test_blob import KEY, small
from tests.support.etcd import Cluster, running_etcd
from tests.support.replicas import child, until
from tests.support.vaults import DEVELOPMENT

pytestmark = pytest.mark.integration

SITE = SiteKeys("plant")


@pytest.fixture(scope="module")
def members() -> Iterator[Cluster]:
    with running_etcd() as cluster:
        yield cluster


@pytest.fixture
def etcd(members: Cluster) -> Iterator[Cluster]:
    yield members
    members.control("del", "--prefix", "/gatewayd/")


@asynccontextmanager
async def member(
    directory: Path, etcd: Cluster, name: str, machine: bytes | None = None
) -> AsyncIterator[Membership]:
    """Run what a gateway has of the membership, with a vault in a directory."""
    client = EtcdClient.of(etcd.settings(), partial(read_secret, None))
    more = {} if machine is None else {"machine": machine}
    vault = partial(Vault, DEVELOPMENT, directory / name, **more)  # type: ignore[arg-type]  # of a vault
    storage = await Storage.open(directory / name, vault, lambda: 1)
    try:
        made = Membership(storage.secrets, client, SITE, name)
        await made.refresh()
        yield made
    finally:
        client.close()
        await storage.thread.aclose()


async def put(one: Membership, *writes: Put | Delete) -> None:
    """Write to etcd, as who has its password can."""
    await one._client.txn((), writes)


def _is_named(caplog: pytest.LogCaptureFixture, times: int) -> bool:
    return caplog.text.count("largest is /gatewayd/plant/ring") == times


async def test_a_ring_that_is_too_large_is_named_once_and_does_no_harm(
    tmp_path: Path,
    etcd: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("gatewayd.site.etcd.MAX_REQUEST", 2 << 20)
    monkeypatch.setattr("gatewayd.site.membership.members.LOOK", 0.01)
    async with member(tmp_path, etcd, "a") as a:
        await a.found()
        ring = (await a._client.txn((), [Get("/gatewayd/plant/ring", limit=1)])).found[0].pairs[0]
        running = asyncio.create_task(a.run())
        for _ in range(2):
            named = caplog.text.count("largest is /gatewayd/plant/ring")
            await put(a, Put(ring.key, b"x" * 1_200_000))
            await until(partial(_is_named, caplog, named + 1))
            assert a.view().standing is SiteState.READY
            await put(a, Put(ring.key, ring.value))
            await until(lambda: not a._is_useless)
        running.cancel()
        await asyncio.wait({running})
    assert caplog.text.count("cannot be read") == 2


async def let_in(newcomer: Membership, at: Membership) -> None:
    await newcomer.join(at.view().site_fingerprint)
    assert newcomer.view().standing is SiteState.WAITING
    await at.accept(newcomer._name, newcomer.view().fingerprint)
    await newcomer.refresh()


async def test_a_site_is_founded_once_and_joined_by_an_operator_s_yes(
    etcd: Cluster, tmp_path: Path
) -> None:
    async with member(tmp_path, etcd, "a") as a, member(tmp_path, etcd, "b") as b:
        assert a.view().standing is SiteState.NOT_FOUNDED
        with pytest.raises(StoreUnavailable, match="no member"):
            a.keys()
        with pytest.raises(WrongState, match="not founded"):
            await b.join("0" * 32)
        fingerprint = await a.found()
        assert a.view().standing is SiteState.READY
        assert a.view().site_fingerprint == fingerprint
        await b.refresh()
        assert b.view().standing is SiteState.NOT_JOINED
        with pytest.raises(WrongState, match="founded already"):
            await b.found()
        await b.join(fingerprint.upper().replace("-", " "))
        await b.refresh()
        assert b.view().standing is SiteState.WAITING
        await a.refresh()
        assert a.view().waiting == {"b": b.view().fingerprint}
        await a.accept("b", b.view().fingerprint)
        assert a.view().members == {"a": a.view().fingerprint, "b": b.view().fingerprint}
        assert not a.view().waiting
        await b.refresh()
        assert b.view().standing is SiteState.READY
        assert a.keys() == b.keys()
        with pytest.raises(WrongState, match="member already"):
            await b.join(fingerprint)
    async with member(tmp_path, etcd, "b") as b:  # after a restart
        assert b.view().standing is SiteState.READY
        assert b.view().site_fingerprint == fingerprint
        assert b.keys().epoch == 1


async def test_of_two_that_found_at_once_one_does(etcd: Cluster, tmp_path: Path) -> None:
    async with member(tmp_path, etcd, "a") as a, member(tmp_path, etcd, "b") as b:
        outcomes = await asyncio.gather(a.found(), b.found(), return_exceptions=True)
        assert sorted(isinstance(one, WrongState) for one in outcomes) == [False, True]
        first, second = (b, a) if isinstance(outcomes[0], WrongState) else (a, b)
        await second.refresh()
        assert second.view().standing is SiteState.NOT_JOINED
        await let_in(second, first)
        assert first.keys() == second.keys()


async def test_fingerprints_are_compared_on_both_sides(etcd: Cluster, tmp_path: Path) -> None:
    async with member(tmp_path, etcd, "a") as a, member(tmp_path, etcd, "b") as b:
        await a.found()
        for nonsense in ("", "12345", "x" * 32):
            with pytest.raises(InvalidArgs):
                await b.join(nonsense)
        await b.join("0" * 32)
        with pytest.raises(WrongState, match="another fingerprint"):
            await a.accept("b", a.view().fingerprint)
        with pytest.raises(WrongState, match="No gateway 'c' waits"):
            await a.accept("c", b.view().fingerprint)
        await a.accept("b", b.view().fingerprint)
        await b.refresh()
        assert "not the one whose fingerprint was given" in b.view().fault
        with pytest.raises(StoreUnavailable):
            b.keys()
        with pytest.raises(WrongState):
            await b.remove("a")
        await a.remove("b")
        await let_in(b, a)
        assert b.keys() == a.keys()


async def test_a_removed_gateway_reads_nothing_new(etcd: Cluster, tmp_path: Path) -> None:
    async with (
        member(tmp_path, etcd, "a") as a,
        member(tmp_path, etcd, "b") as b,
        member(tmp_path, etcd, "c") as c,
    ):
        await a.found()
        await let_in(b, a)
        await let_in(c, b)
        await a.refresh()
        before, fingerprint = a.keys(), a.view().site_fingerprint
        with pytest.raises(WrongState, match="itself"):
            await a.remove("a")
        with pytest.raises(WrongState, match="is a member, or waits"):
            await a.remove("d")
        written: list[int] = []

        async def rekeyed() -> None:
            written.append(b.keys().epoch)

        b.rekeyed = rekeyed
        await a.remove("c")
        assert a.keys().epoch == 2
        assert a.view().site_fingerprint != fingerprint
        running = asyncio.create_task(b.run())
        await until(lambda: bool(written))
        running.cancel()
        assert written == [2]
        assert b.keys() == a.keys()
        assert open_blob(b.keys(), KEY, seal_blob(before, KEY, small(), os.urandom)) == small()
        await c.refresh()
        assert c.view().standing is SiteState.REMOVED
        assert c._ring is not None
        stolen = c._ring.blob_keys()  # what is in its vault for ever
        with pytest.raises(BlobDamaged):
            open_blob(stolen, KEY, seal_blob(a.keys(), KEY, small(), os.urandom))
        ring = (await c._read()).ring
        assert ring is not None
        for key in stolen.keys.values():
            with pytest.raises(DocumentFault):
                ring.open(key)
        await let_in(c, b)
        assert c.keys().epoch == 2


async def test_who_can_write_to_etcd_becomes_no_member_and_misleads_none(
    etcd: Cluster, tmp_path: Path
) -> None:
    forger = RecoveryKey(recovery.make_private(os.urandom))
    async with member(tmp_path, etcd, "a") as a, member(tmp_path, etcd, "b") as b:
        await a.found()
        await b.join(a.view().site_fingerprint)
        true, public = a._ring, b._own
        assert true is not None
        assert public is not None
        forged = key_ring.new_ring("forger", forger.public, os.urandom)
        for ring in (forged, replace(forged, site=true.site), replace(forged, site=true.site,
                     epoch=2, keys={1: b"x" * 32, 2: b"y" * 32})):  # fmt: skip
            lying = ring.with_member("a", forger.public).with_member("b", public.public)
            mine = a._own
            assert mine is not None
            lying = lying.with_member("a", mine.public)
            await put(
                a,
                Put(f"{SITE.prefix}ring", key_ring.seal_ring(lying, os.urandom)),
                *(Put(f"{SITE.prefix}member/{name}",
                      key_ring.member_document(lying, name, "a", os.urandom))
                  for name in ("a", "b")),
            )  # fmt: skip
            await a.refresh()
            assert "written by none of its members" in a.view().fault
            await b.refresh()
            assert "not the one whose fingerprint was given" in b.view().fault
            for one in (a, b):
                with pytest.raises(StoreUnavailable):
                    one.keys()


@pytest.mark.parametrize("garbage", [b"", b"{}", b"[" * 5000, b'{"version": 2}', b"\xff"])
async def test_documents_that_no_member_wrote(
    etcd: Cluster, tmp_path: Path, garbage: bytes
) -> None:
    async with member(tmp_path, etcd, "a") as a, member(tmp_path, etcd, "b") as b:
        fingerprint = await a.found()
        await put(a, Put(f"{SITE.prefix}join/c", garbage), Put(f"{SITE.prefix}member/d", garbage))
        await a.refresh()
        assert a.view().standing is SiteState.READY
        with pytest.raises(WrongState):
            await a.accept("c", fingerprint)
        await let_in(b, a)
        await put(a, Put(f"{SITE.prefix}ring", garbage))
        await a.refresh()
        assert a.view().standing is SiteState.FAULTY
        assert a.view().fault


async def test_an_etcd_that_lost_all_or_was_put_back_gets_the_keys_from_a_member(
    etcd: Cluster, tmp_path: Path
) -> None:
    async with member(tmp_path, etcd, "a") as a, member(tmp_path, etcd, "b") as b:
        await a.found()
        await let_in(b, a)
        older = [(one.key, one.value) for one in (await a._client.txn(
            (), [*SITE.gets()])).found[3].pairs]  # fmt: skip
        ring = key_ring.seal_ring(a._ring, os.urandom) if a._ring else b""
        keys = a.keys()
        etcd_empty = [Delete(key) for key, _ in older]
        await put(a, *etcd_empty, Delete(f"{SITE.prefix}ring"), Delete(f"{SITE.prefix}layout"))
        await b.refresh()
        assert "etcd has lost the site" in b.view().fault
        await b.found()
        await a.refresh()
        assert a.keys() == b.keys() == keys
        await a.remove("b")
        assert a.keys().epoch == 2
        await put(a, Put(f"{SITE.prefix}ring", ring), *(Put(key, value) for key, value in older))
        await a.refresh()
        assert "put back to epoch 1" in a.view().fault
        await a.found()
        assert a.keys().epoch == 2
        await b.refresh()
        assert b.view().standing is SiteState.REMOVED


async def test_keys_that_no_gateway_writes_keep_no_one_in_or_out(
    etcd: Cluster, tmp_path: Path
) -> None:
    """As of a gateway that was stolen: it is removed all the same."""
    async with member(tmp_path, etcd, "a") as a, member(tmp_path, etcd, "b") as b:
        await a.found()
        junk = ("member/x/y", "member/x/a", "join/x/a", "join/", "member/-", "join/x.y")
        await put(a, *(Put(f"{SITE.prefix}{key}", b"{}") for key in junk))
        await let_in(b, a)
        await a.remove("b")
        assert a.view().members.keys() == {"a"}


async def test_a_stranger_founds_no_site_over_members(etcd: Cluster, tmp_path: Path) -> None:
    async with member(tmp_path, etcd, "a") as a, member(tmp_path, etcd, "b") as b:
        fingerprint = await a.found()
        await put(a, Delete(f"{SITE.prefix}ring"))
        with pytest.raises(WrongState, match="has lost its keys"):
            await b.found()
        assert await a.found() == fingerprint


async def test_a_gateway_of_the_same_name_takes_no_other_s_place(
    etcd: Cluster, tmp_path: Path
) -> None:
    async with member(tmp_path, etcd, "a") as a, member(tmp_path / "other", etcd, "a") as other:
        fingerprint = await a.found()
        await other.refresh()
        assert other.view().standing is SiteState.NOT_JOINED
        with pytest.raises(WrongState, match="Another gateway is a member by the name a"):
            await other.join(fingerprint)
        async with member(tmp_path, etcd, "b") as b, member(tmp_path / "new", etcd, "b") as new:
            await let_in(b, a)
            waiting = key_ring.join_document(new._own.public if new._own else b"")
            await put(a, Put(f"{SITE.prefix}join/b", waiting))
            with pytest.raises(WrongState, match="with another key"):
                await a.accept("b", new.view().fingerprint)
            await a.remove("b")  # the broken one
            await new.join(a.view().site_fingerprint)
            await a.accept("b", new.view().fingerprint)
            await new.refresh()
            assert new.keys() == a.keys()
            await b.refresh()
            assert b.view().standing is not SiteState.READY


async def test_no_more_wait_or_are_members_than_there_is_room_for(
    etcd: Cluster, tmp_path: Path
) -> None:
    async with member(tmp_path, etcd, "a") as a, member(tmp_path, etcd, "b") as b:
        fingerprint = await a.found()
        publics = [RecoveryKey(recovery.make_private(os.urandom)).public
                   for _ in range(MAX_WAITING)]  # fmt: skip
        await put(a, *(Put(f"{SITE.prefix}join/x{n}", key_ring.join_document(public))
                       for n, public in enumerate(publics)))  # fmt: skip
        with pytest.raises(Busy, match="wait for an operator's yes already"):
            await b.join(fingerprint)
        for n, public in enumerate(publics[: MAX_GATEWAYS - 1]):
            await a.accept(f"x{n}", key_ring.fingerprint_of(public))
        last = publics[MAX_GATEWAYS - 1]
        with pytest.raises(WrongState, match="at most"):
            await a.accept(f"x{MAX_GATEWAYS - 1}", key_ring.fingerprint_of(last))
        waited = len(a.view().waiting)
        await a.remove(f"x{MAX_GATEWAYS - 1}")
        assert len(a.view().waiting) == waited - 1
        await a.remove("x0")
        assert len(a.view().members) == MAX_GATEWAYS - 1


async def test_a_vault_that_is_a_clone_or_sealed_gives_no_part_in_the_site(
    etcd: Cluster, tmp_path: Path
) -> None:
    async with member(tmp_path, etcd, "a", b"m" * 32) as a:
        await a.found()
    async with member(tmp_path, etcd, "a", b"n" * 32) as clone:
        assert clone.view().standing is SiteState.FAULTY
        assert "another machine" in clone.view().fault
        with pytest.raises(StoreUnavailable):
            clone.keys()
        with pytest.raises(StoreUnavailable):
            await clone.found()
    (tmp_path / "a" / "development.key").rename(tmp_path / "away")
    async with member(tmp_path, etcd, "a", b"m" * 32) as sealed:
        assert "no key" in sealed.view().fault
    (tmp_path / "away").rename(tmp_path / "a" / "development.key")
    async with member(tmp_path, etcd, "a", b"m" * 32) as a:
        assert a.view().standing is SiteState.READY


async def fill(directory: Path, number: int) -> None:
    """Register a child, before or after the gateway is of a site."""
    storage = await Storage.open(directory, partial(Vault, DEVELOPMENT, directory), lambda: 1)
    one = child(number)
    await storage.secrets.put(one.slot(1), Secret(b"x"))
    await storage.records.update(one.device, lambda _: one)
    await storage.thread.aclose()


async def test_a_vault_that_was_put_back_gives_no_part_in_the_site(
    etcd: Cluster, tmp_path: Path
) -> None:
    await fill(tmp_path / "a", 1)
    async with member(tmp_path, etcd, "a") as a:
        await a.found()
    await fill(tmp_path / "a", 2)
    shutil.copy(tmp_path / "a" / "vault.db", tmp_path / "kept")
    await fill(tmp_path / "a", 3)
    shutil.copy(tmp_path / "kept", tmp_path / "a" / "vault.db")
    async with member(tmp_path, etcd, "a") as a:
        assert a.view().standing is SiteState.FAULTY
        assert "old copy" in a.view().fault
        with pytest.raises(StoreUnavailable):
            a.keys()


@pytest.mark.parametrize(("error", "trusted"), [
    (StoreFull(), True), (StoreUnavailable(), True), (StoreSealed(), False),
    (StoreRolledBack(), False), (StoreCloned(), False),
])  # fmt: skip
async def test_a_full_disk_takes_no_gateway_out_of_its_site(
    error: StoreError, trusted: bool, tmp_path: Path
) -> None:
    """Its children would all go offline for it, where no other gateway lives."""
    storage = await Storage.open(tmp_path, partial(Vault, DEVELOPMENT, tmp_path), lambda: 1)

    def refuse() -> None:
        raise error

    storage.store.headroom = refuse  # type: ignore[method-assign]  # as on such a disk
    try:
        await MemberSlots(storage.secrets, "plant").check()
    except StoreUnavailable:
        assert not trusted
    else:
        assert trusted
    finally:
        await storage.thread.aclose()


def test_a_ring_survives_the_vault_and_fingerprints_are_read_as_people_write_them() -> None:
    ring = KeyRing(b"s" * 16, 3, {2: b"a" * 32, 3: b"b" * 32}, b"n" * 32, {"a": b"public"})
    assert key_ring.from_secret(key_ring.to_secret(ring)) == ring
    assert "aaa" not in repr(ring)
    text = ring.fingerprint
    assert len(text) == 39
    assert parse_fingerprint(text.replace("-", ":").upper()) == text
    assert parse_fingerprint(text[:-1]) is None
    later = ring.without_member("a", b"c" * 32)
    assert later.follows(ring)
    assert not ring.follows(later)
    assert not replace(later, keys={**later.keys, 3: b"x" * 32}).follows(ring)
    for n in range(80):
        later = later.without_member("a", bytes((n,)) * 32)
    assert len(later.keys) == key_ring.MAX_EPOCHS
