"""Records and secrets of a site's children, with real stores and a real etcd."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gatewayd.device.identity import DeviceId
from gatewayd.device.record import CloudName, Record, unchanged
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import (
    BlobDamaged,
    BlobTooLarge,
    EtcdRefused,
    OwnershipLost,
    SecretNotFound,
    ShardOverfull,
    StoreUnavailable,
)
from gatewayd.site.etcd_messages import Compare, Delete, EtcdTxn, Operation, Put
from gatewayd.site.membership.members import Membership
from gatewayd.site.replica import blob_writer
from gatewayd.site.replica.blob import MAX_BYTES, key_of_child, open_blob
from gatewayd.site.replica.blob_writer import SiteStore
from gatewayd.site.replica.replication import FORGOTTEN_FOR
from gatewayd.site.shards import SHARDS, shard_of
from gatewayd.storage.site_marks import MarkStanding
from tests.support.etcd import Cluster, running_etcd
from tests.support.replicas import (
    KEYS,
    NOW,
    PREFIX,
    SITE,
    Gateway,
    child,
    cloud_name,
    gateway,
    until,
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def members() -> Iterator[Cluster]:
    with running_etcd() as cluster:
        yield cluster


@pytest.fixture
def etcd(members: Cluster) -> Iterator[Cluster]:
    yield members
    members.control("del", "--prefix", "/gatewayd/")


def instead(one: Record, _: Record | None) -> Record:
    return one


async def registered(one: Gateway, number: int, secret: bytes = b"issued") -> Record:
    """Register a child by the steps of the registrar."""
    record = await one.admit(number)
    device = record.device
    record = await one.records.update(device, lambda r: unchanged(r).with_intent(NOW))
    await one.secrets.put(record.slot(record.attempt), Secret(secret))
    attempt = record.attempt
    return await one.records.update(device, lambda r: unchanged(r).with_secret(attempt, NOW))


async def stored(one: Gateway, number: int) -> bytes:
    """Return what etcd has of a child."""
    key = key_of_child(KEYS, shard_of(cloud_name(number)), cloud_name(number))
    found = await one.client.range(PREFIX + key, 1)
    return found.pairs[0].value if found.pairs else b""


async def test_what_is_written_is_in_etcd_and_a_replaced_gateway_has_it(
    etcd: Cluster, tmp_path: Path
) -> None:
    numbers = range(40)
    async with gateway(tmp_path / "a", etcd, "a") as a:
        await a.claim(*range(SHARDS))
        await asyncio.gather(*(registered(a, n, b"issued %d" % n) for n in numbers))
        pairs = (await a.client.range("/gatewayd/", 500)).pairs
        dump = b"".join(one.key.encode() + one.value for one in pairs)
        assert len(pairs) == SHARDS + len(numbers)
        for hidden in (b"TH20", b"sensor", b"issued", b"Sensor"):
            assert hidden not in dump
    async with gateway(tmp_path / "b", etcd, "b") as b:
        assert not list(b.records.all())
        await b.claim(*range(SHARDS))
        assert len(list(b.records.all())) == len(b.adopted) == len(numbers)
        for number in numbers:
            record = b.records[child(number, "a").device]
            assert record.stored == 1
            assert await b.secrets.get(record.slot(1)) == Secret(b"issued %d" % number)
        assert b.replica.view().children == len(numbers)
    async with gateway(tmp_path / "b", etcd, "b") as b:
        assert not b.storage.without_secret
        assert len(list(b.records.all())) == len(numbers)


async def test_a_gateway_that_was_replaced_comes_up_from_etcd_alone(
    etcd: Cluster, tmp_path: Path
) -> None:
    """Its machine is gone: another one of the same name needs an operator's yes, and no backup."""
    async with gateway(tmp_path / "a", etcd, "a") as a, gateway(tmp_path / "b", etcd, "b") as b:
        members = {one.name: Membership(one.storage.secrets, one.client, SITE, one.name)
                   for one in (a, b)}  # fmt: skip
        fingerprint = await members["a"].found()
        await members["b"].join(fingerprint)
        await members["a"].accept("b", members["b"].view().fingerprint)
        await members["b"].refresh()
        a.keys, b.keys = members["a"].keys(), members["b"].keys()
        await b.take(1, 2)
        for number in (1, 2):
            await registered(b, number)
        stolen = b.keys
    async with gateway(tmp_path / "a", etcd, "a") as a, gateway(tmp_path / "new", etcd, "b") as new:
        at_a = Membership(a.storage.secrets, a.client, SITE, "a")
        await at_a.remove("b")
        newcomer = Membership(new.storage.secrets, new.client, SITE, "b")
        await newcomer.refresh()
        await newcomer.join(at_a.view().site_fingerprint)
        await at_a.accept("b", newcomer.view().fingerprint)
        await newcomer.refresh()
        new.keys = newcomer.keys()
        await new.take(1, 2)
        for number in (1, 2):
            record = new.records[child(number, "b").device]
            assert await new.secrets.get(record.slot(record.stored)) == Secret(b"issued")
            key = key_of_child(new.keys, shard_of(cloud_name(number)), cloud_name(number))
            written = (await new.client.range(PREFIX + key, 1)).pairs[0].value
            with pytest.raises(BlobDamaged):  # by who has the old machine
                open_blob(stolen, key, written)


async def test_a_child_goes_from_one_gateway_to_another_and_back(
    etcd: Cluster, tmp_path: Path
) -> None:
    """Each knows it by an id of its own; what both saw of it is united."""
    async with gateway(tmp_path / "a", etcd, "a") as a, gateway(tmp_path / "b", etcd, "b") as b:
        await b.take(1)
        ours = await b.admit(1)
        await b.replica.release(shard_of(cloud_name(1)))
        await a.take(1)
        assert a.records[ours.device].claims == ours.claims
        await a.records.forget(ours.device)
        await a.take(2)
        theirs = await registered(a, 2)
        await b.take(1, 2)
        assert b.forgotten == [ours.device]
        assert b.records.get(ours.device) is None
        with pytest.raises(OwnershipLost):
            await a.records.update(theirs.device, lambda r: unchanged(r).with_intent(NOW))
        activated = replace(b.records[theirs.device], activated_at=5)
        await b.records.update(theirs.device, lambda _: activated)
        await a.take(2)
        assert a.records[theirs.device].activated_at == 5
        assert a.adopted[-1] == activated


async def test_what_no_gateway_wrote_has_no_child_wait_longer_than_it_is_there(
    etcd: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Values that are too large are as good as none; too many keys are named."""
    monkeypatch.setattr("gatewayd.site.etcd.MAX_REQUEST", 2 << 20)
    monkeypatch.setattr("gatewayd.site.replica.replication.MAX_OF_SHARD", 7)
    shard = shard_of(cloud_name(1))
    below = f"{PREFIX}child/{shard:02}/"
    large, many = f"{below}{'a' * 64}", [f"{below}x{number}" for number in range(9)]
    async with gateway(tmp_path / "a", etcd, "a") as a, gateway(tmp_path / "b", etcd, "b") as b:
        await a.claim(shard)
        record = await registered(a, 1)
        await a.client.txn([], [Put(large, b"x" * 1_200_000)])
        await b.claim(shard)
        assert b.records[record.device].stored == record.stored
        assert f"Its key is {large}" in caplog.text
        await b.client.txn([], [Put(key, b"") for key in many[1:]])
        await b.client.txn([], [Put(many[0], b"")])
        with pytest.raises(ShardOverfull, match=rf"more than 7 keys.*newest is {many[0]}"):
            await a.claim(shard)
        await a.client.txn([], [*map(Delete, many)])
        await a.claim(shard)
        assert a.records[record.device].stored == record.stored


async def test_a_child_that_moved_to_another_shard_is_kept_when_both_are_gained_at_once(
    etcd: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The former name is forgotten in the one, while the record is taken over in the other."""
    former = cloud_name(1)
    later = CloudName("west", "thermo", former.device)
    shards = shard_of(former), shard_of(later)
    assert shards[0] != shards[1]
    async with gateway(tmp_path / "a", etcd, "a") as a, gateway(tmp_path / "b", etcd, "b") as b:
        await a.claim(*shards)
        record = await registered(a, 1)
        await b.claim(shards[0])
        await a.claim(shards[0])
        device = record.device
        await a.records.update(device, lambda r: unchanged(r).with_move(later, NOW))
        record = await a.records.update(device, lambda r: unchanged(r).switched(NOW))
        merge, under_way = b.local.merge, 0

        async def merging(*arguments: Any) -> Any:  # as of the copies here
            nonlocal under_way
            under_way += 1
            assert under_way == 1, "what is here was looked at before the other merge changed it"
            try:
                await asyncio.sleep(0)
                return await merge(*arguments)
            finally:
                under_way -= 1

        monkeypatch.setattr(b.local, "merge", merging)
        await asyncio.gather(*(b.claim(shard) for shard in shards))
        for _ in range(2):
            assert [one.cloud for one in b.records.all()] == [later]
            assert await b.secrets.get(record.generations[1].slot(device, 1)) == Secret(b"issued")
            await b.claim(shards[1])


async def test_the_id_and_the_claims_here_stay_when_another_gateway_knew_the_child(
    etcd: Cluster, tmp_path: Path
) -> None:
    async with gateway(tmp_path / "b", etcd, "b") as b:
        own = child(1, "b")
        await b.storage.records.update(own.device, lambda _: own)
    async with gateway(tmp_path / "a", etcd, "a") as a:
        await a.take(1)
        theirs = await registered(a, 1)
    async with gateway(tmp_path / "b", etcd, "b") as b:
        await b.take(1)
        record = b.records[own.device]
        assert record.stored == 1
        assert record.claims == own.claims | theirs.claims
        assert await b.secrets.get(record.slot(1)) == Secret(b"issued")
        assert b.records.get(theirs.device) is None
        (blob,) = [open_blob(KEYS, key_of_child(KEYS, shard_of(cloud_name(1)), cloud_name(1)),
                             await stored(b, 1))]  # fmt: skip
        assert blob.record == record


async def test_a_gain_that_is_cancelled_is_done_again_whenever_it_ended(
    etcd: Cluster, tmp_path: Path
) -> None:
    """As where the shard was lost meanwhile: each child has one record all the same."""
    shard = shard_of(cloud_name(1))
    async with gateway(tmp_path / "a", etcd, "a") as a:
        await a.take(1)
        record = await registered(a, 1)
    for step in range(2):  # the merge itself, and the marks
        async with gateway(tmp_path / f"b{step}", etcd, "b") as b:
            gaining = asyncio.create_task(b.take(1))
            cancel_at(gaining, b, step)
            with pytest.raises(asyncio.CancelledError):
                await gaining
            await b.replica.release(shard)
            await b.take(1)
            assert [one.device for one in b.records.all()] == [record.device]
            assert await b.secrets.get(record.slot(1)) == Secret(b"issued")


def cancel_at(task: asyncio.Task[None], one: Gateway, step: int) -> None:
    """Cancel a task when a gateway asks for a work on the disk, after so many others."""
    run, left = one.storage.thread.run, step

    async def cancelling(*arguments: Any) -> Any:  # as of the thread
        nonlocal left
        left -= 1
        if left == -1:
            task.cancel()
        return await run(*arguments)

    one.storage.thread.run = cancelling  # type: ignore[method-assign,assignment]  # of this one alone


async def test_an_id_that_is_another_child_s_here_is_not_taken(
    etcd: Cluster, tmp_path: Path
) -> None:
    async with gateway(tmp_path / "a", etcd, "a") as a:
        await a.take(1)
        theirs = await registered(a, 1)
    async with gateway(tmp_path / "b", etcd, "b") as b:
        other = replace(child(2), device=theirs.device)
        await b.storage.records.update(other.device, lambda _: other)
        b.local.index(other.device, other)
        await b.take(1)
        assert b.records[theirs.device] == other
        (made,) = [one for one in b.records.all() if one.cloud == cloud_name(1)]
        assert await b.secrets.get(made.slot(1)) == Secret(b"issued")


@pytest.mark.parametrize("first", ["former", "later"])
async def test_a_child_that_was_forgotten_elsewhere_and_is_back_by_another_name_keeps_its_id(
    etcd: Cluster, tmp_path: Path, first: str
) -> None:
    """Whichever of the two shards comes first: else there would be two children of one device."""
    former, later = cloud_name(1), CloudName("west", "meter", "TH20-1")
    shards = [shard_of(former), shard_of(later)]
    if first == "later":
        shards.reverse()
    async with gateway(tmp_path / "a", etcd, "a") as a, gateway(tmp_path / "b", etcd, "b") as b:
        await a.claim(*shards)
        record = await registered(a, 1)
        device = record.device
        for shard in shards:
            await a.replica.release(shard)
        await b.claim(*shards)
        await b.records.forget(device)
        new = replace(child(1, "b"), device=device, cloud=later, claims=record.claims)
        await b.records.update(device, lambda _: new)
        await b.secrets.put(new.slot(1), Secret(b"another"))
        await b.records.update(device, lambda r: unchanged(r).with_intent(NOW).with_secret(1, NOW))
        for shard in shards:
            await b.replica.release(shard)
        await a.claim(*shards)
        (found,) = a.records.all()
        assert (found.device, found.cloud, found.stored) == (device, later, 1)
        assert await a.secrets.get(found.slot(1)) == Secret(b"another")


async def test_a_gateway_that_ran_alone_publishes_what_it_has_and_goes_alone_again(
    etcd: Cluster, tmp_path: Path
) -> None:
    rejected = child(9, cloud=None)
    async with gateway(tmp_path / "a", etcd, "a") as a:
        for one in (child(1, "a"), child(2, "a"), rejected):
            await a.storage.records.update(one.device, partial(instead, one))
    async with gateway(tmp_path / "a", etcd, "a") as a, gateway(tmp_path / "b", etcd, "b") as b:
        await a.take(1, 2, 3)
        assert await stored(a, 1)
        assert await stored(a, 2)
        await b.take(1)
        assert [one.cloud for one in b.adopted] == [cloud_name(1)]
        await a.replica.release(shard_of(cloud_name(1)))
        a.others = False  # the last one of the site
        await a.replica.release(shard_of(cloud_name(2)))
    async with gateway(tmp_path / "a", etcd, "a") as a:  # without [site]
        standing = {one.device: one.elsewhere.code for one in a.records.all()}
        assert standing == {
            child(1, "a").device: "left-with-site", child(2, "a").device: "", rejected.device: "",
        }  # fmt: skip


async def test_a_child_that_is_too_large_keeps_no_other_from_its_gateway(
    etcd: Cluster, tmp_path: Path
) -> None:
    own, shard = child(1, "a"), shard_of(cloud_name(1))
    neighbour = next(n for n in range(2, 1000) if shard_of(cloud_name(n)) == shard)
    async with gateway(tmp_path / "a", etcd, "a") as a:
        await a.storage.secrets.put(own.slot(1), Secret(bytes(MAX_BYTES)))
        for one in (own, child(neighbour, "a")):
            await a.storage.records.update(one.device, partial(instead, one))
    async with gateway(tmp_path / "a", etcd, "a") as a:
        await a.take(1)
        assert not await stored(a, 1)
        assert await stored(a, neighbour)
        with pytest.raises(BlobTooLarge):
            await a.records.update(own.device, partial(instead, own))
        await a.secrets.delete(own.slot(1))
        assert await stored(a, 1)


async def test_what_belongs_to_no_shard_stays_at_its_gateway(etcd: Cluster, tmp_path: Path) -> None:
    async with gateway(tmp_path / "a", etcd, "a") as a:
        identity = replace(child(1), device=DeviceId("gateway-east"))
        for one in (identity, child(2, cloud=None)):
            await a.records.update(one.device, partial(instead, one))
        authority = SecretRef("broker", DeviceId("authority-broker"), 1, "authority")
        await a.secrets.put(authority, Secret(b"key of a CA"))
        await a.secrets.delete(authority)
        await a.records.settle({}, gone=child(2).device)
        await a.records.forget(identity.device)
        assert not (await a.client.range(PREFIX, 10)).pairs


async def test_nothing_is_written_by_a_gateway_that_has_lost_the_shard(
    etcd: Cluster, tmp_path: Path
) -> None:
    """What was issued to it all the same is kept here, and used where the child got no other."""
    async with gateway(tmp_path / "a", etcd, "a") as a, gateway(tmp_path / "b", etcd, "b") as b:
        with pytest.raises(OwnershipLost):
            await a.admit(1)
        assert not list(a.records.all())
        await a.take(1)
        record = await registered(a, 1)
        await b.take(1)  # a has not noticed
        before = await stored(b, 1)
        for late in (
            a.records.update(record.device, lambda r: unchanged(r).with_intent(NOW)),
            a.secrets.put(record.slot(2), Secret(b"late")),
        ):
            with pytest.raises(OwnershipLost):
                await late
        assert await stored(b, 1) == before
        await a.replica.release(shard_of(cloud_name(1)))
        relabelled = replace(record, label="of b", activated_at=5)
        await b.records.update(record.device, partial(instead, relabelled))
        await a.take(1)
        now = a.records[record.device]
        assert (now.label, now.stored, now.candidate) == ("of b", 1, 2)
        assert await a.secrets.get(record.slot(2)) == Secret(b"late")


async def test_a_shard_that_no_one_else_has_touched_goes_on_where_it_was(
    etcd: Cluster, tmp_path: Path
) -> None:
    async with gateway(tmp_path / "a", etcd, "a") as a, gateway(tmp_path / "b", etcd, "b") as b:
        await a.take(1)
        record = await registered(a, 1)
        await b.take(1)
        with pytest.raises(OwnershipLost):
            await a.records.forget(record.device)
        await a.take(1)
        assert a.records.get(record.device) is None
        await b.take(1)
        assert b.forgotten == [record.device]


async def test_a_moved_child_is_under_its_new_name_alone(etcd: Cluster, tmp_path: Path) -> None:
    other = CloudName("west", "meter", "TH20-1")
    async with gateway(tmp_path / "a", etcd, "a") as a, gateway(tmp_path / "b", etcd, "b") as b:
        await a.take(1)
        await a.claim(shard_of(other))
        record = await registered(a, 1)
        moving = record.with_move(other, NOW)
        target = moving.at_target()
        assert target is not None
        moving = moving.with_target(target.with_intent(NOW).with_secret(1, NOW))
        await a.records.update(record.device, lambda _: moving)
        await a.secrets.put(SecretRef("west", record.device, 1), Secret(b"other"))
        await b.take(1)
        assert b.records[record.device] == moving
        await a.take(1)
        await a.records.update(record.device, lambda r: unchanged(r).switched(NOW))
        await a.replica.release(shard_of(other))
        await a.claim(shard_of(other))  # the name that it has left says nothing of whose it is
        away = await a.storage.administer(
            lambda: a.storage.database.marks.devices(MarkStanding.AWAY)
        )
        assert record.device not in away
        await b.claim(shard_of(other))
        await b.take(1)
        assert b.records[record.device].cloud == other
        assert len(list(b.records.all())) == 1
        for slot in (SecretRef("west", record.device, 1), SecretRef("east", record.device, 1)):
            assert await b.secrets.get(slot)


@pytest.fixture
def single() -> Iterator[Cluster]:
    with running_etcd() as cluster:
        yield cluster


async def test_a_child_that_moved_under_its_name_is_at_the_taker_whatever_comes_first(
    etcd: Cluster, tmp_path: Path
) -> None:
    """Both names are in one shard, in the order of two digests; the taker knows the former one."""
    numbers = range(1, 9)
    async with gateway(tmp_path / "a", etcd, "a") as a, gateway(tmp_path / "b", etcd, "b") as b:
        await b.take(*numbers)
        for number in numbers:
            await registered(b, number)
        await a.take(*numbers)
        for number in numbers:
            record = a.records[child(number, "b").device]
            moving = record.with_move(replace(cloud_name(number), provider="west"), NOW)
            target = moving.at_target()
            assert target is not None
            moving = moving.with_target(target.with_intent(NOW).with_secret(1, NOW))
            await a.secrets.put(SecretRef("west", record.device, 1), Secret(b"other"))
            await a.records.update(record.device, partial(instead, moving.switched(NOW)))
        await b.take(*numbers)
        for number in numbers:
            record = b.records[child(number, "b").device]
            assert record.cloud == replace(cloud_name(number), provider="west")
            assert await b.secrets.get(record.slot(1)) == Secret(b"other")
            assert await b.secrets.get(SecretRef("east", record.device, 1)) == Secret(b"issued")
        assert not b.forgotten
        assert b.replica.view().children == len(numbers)


async def test_an_etcd_that_is_away_is_awaited_no_longer_than_the_lease(
    single: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob_writer, "PATIENCE", 600.0)  # as etcd takes long here to be back
    async with gateway(tmp_path / "a", single, "a") as a:
        await a.take(1)
        await a.admit(1)
        await asyncio.to_thread(single.end)
        late = asyncio.create_task(registered(a, 1))
        await until(lambda: bool(a.replica.view().fault))
        assert a.replica.view().waiting == 1
        await asyncio.to_thread(single.start)
        assert (await late).stored == 1
        assert not a.replica.view().fault
        await asyncio.to_thread(single.end)
        device = child(1, "a").device
        changing = asyncio.create_task(
            a.records.update(device, lambda r: replace(unchanged(r), activated_at=5))
        )
        await until(lambda: bool(a.replica.view().fault))
        a.holds = False
        with pytest.raises(OwnershipLost, match="lease"):
            await changing
        await a.replica.release(shard_of(cloud_name(1)))
        await asyncio.to_thread(single.start)
        await a.take(1)  # what is here is the newer: no one else has had it
        assert a.records[device].activated_at == 5
        async with gateway(tmp_path / "b", single, "b") as b:
            await b.take(1)
            assert b.records[device].activated_at == 5


class Full:
    """A client of an etcd that is full: it renews leases, and takes nothing."""

    def __init__(self, client: SiteStore) -> None:
        self._client = client

    async def txn(
        self,
        compares: Iterable[Compare],
        success: Iterable[Operation],
        failure: Iterable[Operation] = (),
    ) -> EtcdTxn:
        writes = [*success]
        if any(isinstance(one, Put) for one in writes):
            raise EtcdRefused("etcd says 'mvcc: database space exceeded'.")
        return await self._client.txn(compares, writes, failure)


async def test_an_etcd_that_is_full_is_not_awaited_for_ever(
    etcd: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob_writer, "PATIENCE", 0.2)
    async with gateway(tmp_path / "a", etcd, "a") as a:
        await a.take(1)
        record = await registered(a, 1)
        a.replica._writer._client = Full(a.client)
        relabelled = replace(record, label="later")
        with pytest.raises(StoreUnavailable, match="space exceeded"):
            await a.records.update(record.device, partial(instead, relabelled))
        a.replica._writer._client = a.client
        await a.records.update(record.device, lambda r: replace(unchanged(r), stale=1))
        sealed = await stored(a, 1)
        blob = open_blob(KEYS, key_of_child(KEYS, shard_of(cloud_name(1)), cloud_name(1)), sealed)
        assert blob.record == replace(relabelled, stale=1)


async def test_keys_that_no_gateway_wrote_leave_nothing_here(etcd: Cluster, tmp_path: Path) -> None:
    async with gateway(tmp_path / "a", etcd, "a") as a:
        shard = shard_of(cloud_name(1))
        begin = f"{PREFIX}child/{shard:02}/"
        ahead = b"gwds\1\0\0\0\x63" + bytes(60)
        for key, value in (("c" * 64, b"gwds\2" + bytes(60)), ("d" * 64, ahead)):
            await a.client.txn((), [Put(begin + key, value)])
        for key in ("x", "a" * 64, "a" * 63, "b/" + "a" * 64, f"child/{shard:02}/" + "a" * 64):
            await a.client.txn((), [Put(begin + key, b"junk")])
        await a.take(1)
        assert not a.local.marks
        assert not list(a.records.all())
        await registered(a, 1)
        name = key_of_child(KEYS, shard, cloud_name(1)).rpartition("/")[2]
        await a.client.txn((), [Put(f"{begin}child/{shard:02}/{name}", b"junk")])
        known = dict(a.local.marks)
        await a.take(1)
        assert a.local.marks == known
        assert known.keys() == {name}


async def test_a_child_that_is_back_after_long_is_not_forgotten_again(
    etcd: Cluster, tmp_path: Path
) -> None:
    async with gateway(tmp_path / "a", etcd, "a") as a, gateway(tmp_path / "b", etcd, "b") as b:
        await a.take(1)
        record = await registered(a, 1)
        for number in range(5):
            await a.records.update(record.device, partial(instead, replace(record, stale=number)))
        await b.take(1)
        await b.records.forget(record.device)
        b.now += FORGOTTEN_FOR + 1
        await b.take(1)
        assert not await stored(b, 1)
        back = await registered(b, 1)
        await a.take(1)
        assert [one.device for one in a.records.all()] == [record.device]
        assert a.records[record.device].first_seen == back.first_seen
        assert await a.secrets.get(a.records[record.device].slot(1)) == Secret(b"issued")


async def test_damaged_and_newer_blobs(etcd: Cluster, tmp_path: Path) -> None:
    async with gateway(tmp_path / "a", etcd, "a") as a, gateway(tmp_path / "b", etcd, "b") as b:
        await a.take(1)
        record = await registered(a, 1)
        key = PREFIX + key_of_child(KEYS, shard_of(cloud_name(1)), cloud_name(1))
        await a.client.txn((), [Put(key, b"garbage")])
        await b.take(1)  # it has nothing of the child
        assert not list(b.records.all())
        await a.take(1)
        assert a.records[record.device] == record
        await b.take(1)
        assert b.records[record.device] == record
        newer = bytearray(await stored(b, 1))
        newer[4] += 1
        await b.client.txn((), [Put(key, bytes(newer))])
        await a.take(1, 2)  # the other children of the shard are worked on
        with pytest.raises(StoreUnavailable, match="newer gatewayd"):
            await a.records.update(record.device, partial(instead, record))
        assert await stored(a, 1) == bytes(newer)


async def test_a_new_key_of_the_site_replaces_the_former_everywhere(
    etcd: Cluster, tmp_path: Path
) -> None:
    newer = replace(KEYS, epoch=2, keys={**KEYS.keys, 2: b"m" * 32})
    only = replace(newer, keys={2: b"m" * 32})
    async with gateway(tmp_path / "a", etcd, "a") as a, gateway(tmp_path / "b", etcd, "b") as b:
        await a.take(1, 2)
        for number in (1, 2):
            await registered(a, number)
        await a.replica.release(shard_of(cloud_name(2)))
        a.keys = b.keys = newer
        await a.replica.reseal()
        key = key_of_child(KEYS, shard_of(cloud_name(1)), cloud_name(1))
        assert open_blob(only, key, await stored(a, 1)).record is not None
        b.keys = KEYS  # it has not read the new key yet

        async def reread() -> None:
            b.keys = newer

        b.replica._reread = reread
        await b.take(2, 1)  # who gains a shard does the same
        assert len(list(b.records.all())) == 2
        key = key_of_child(KEYS, shard_of(cloud_name(2)), cloud_name(2))
        assert open_blob(only, key, await stored(b, 2)).record is not None


async def test_a_secret_that_the_vault_lost_comes_back_from_the_site(
    etcd: Cluster, tmp_path: Path
) -> None:
    async with gateway(tmp_path / "a", etcd, "a") as a:
        await a.take(1)
        record = await registered(a, 1)
        await a.storage.secrets.delete(record.slot(1))
        relabelled = replace(record, label="later")
        await a.records.update(record.device, partial(instead, relabelled))
    async with gateway(tmp_path / "a", etcd, "a") as a:
        assert a.storage.without_secret
        await a.take(1)
        assert a.records[record.device] == relabelled
        assert await a.secrets.get(record.slot(1)) == Secret(b"issued")


async def test_what_was_forgotten_long_ago_is_forgotten_by_etcd(
    etcd: Cluster, tmp_path: Path
) -> None:
    async with gateway(tmp_path / "a", etcd, "a") as a:
        await a.take(1)
        record = await registered(a, 1)
        await a.records.forget(record.device)
        with pytest.raises(SecretNotFound):
            await a.secrets.get(record.slot(1))
        await a.take(1)
        assert await stored(a, 1)
        a.now += FORGOTTEN_FOR + 1
        await a.take(1)
        assert not await stored(a, 1)
        assert not a.local.marks
        await registered(a, 1)
        assert await stored(a, 1)


async def test_a_released_shard_is_away_and_a_gained_one_ours(
    etcd: Cluster, tmp_path: Path
) -> None:
    async with gateway(tmp_path / "a", etcd, "a") as a:
        await a.take(1)
        await registered(a, 1)
        await a.replica.release(shard_of(cloud_name(1)))
        (mark,) = a.local.marks.values()
        assert mark.standing is MarkStanding.AWAY
        await a.take(1)
        (mark,) = a.local.marks.values()
        assert mark.standing is MarkStanding.OURS
