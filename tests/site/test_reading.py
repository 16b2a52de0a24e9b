"""What is read of a site in etcd: all of its gateways, and nothing that has another form."""

from __future__ import annotations

import pytest

from gatewayd.site.decisions import live_gateways
from gatewayd.site.etcd_messages import Put
from gatewayd.site.reading import SiteKeys, gateway_document
from gatewayd.site.snapshot import ShardOwner, SiteGateway, SiteReading
from tests.support.memory_etcd import MemoryEtcd

KEYS = SiteKeys("plant")


def read(*puts: Put) -> SiteReading:
    etcd = MemoryEtcd(lambda: 0.0, leases={7: 15.0})
    for one in puts:
        etcd.txn([], [one], [])
    return KEYS.read(etcd.txn([], KEYS.gets(), []))


def test_gateways_owners_and_members_are_read_at_one_revision() -> None:
    compares, puts = KEYS.claim("gateway-a", 7, {5: 0, 63: 0})
    etcd = MemoryEtcd(lambda: 0.0, leases={7: 15.0})
    document = gateway_document("1.2", draining=True, owed=[0, 63])
    etcd.txn([], [Put(KEYS.gateway("gateway-a"), document, 7)], [])
    token = etcd.txn(compares, puts, []).revision
    etcd.txn([], [Put(f"{KEYS.prefix}member/gateway-a", b"{}")], [])
    etcd.txn(
        [], [Put(f"{KEYS.prefix}join/gateway-b", b"{}"), Put(f"{KEYS.prefix}layout", b"1")], []
    )
    found = KEYS.read(etcd.txn([], KEYS.gets(), []))
    assert found == SiteReading(
        revision=token + 2,
        gateways={"gateway-a": SiteGateway(7, "1.2", True, frozenset({0, 63}))},
        owners={shard: ShardOwner("gateway-a", token, 7) for shard in (5, 63)},
        held={shard: ShardOwner("gateway-a", token, 0) for shard in (5, 63)},
        members={"gateway-a": b"{}"},
        joining={"gateway-b": b"{}"},
        layout="1",
    )
    assert not live_gateways(found), "it gives up all shards"


def test_a_shard_is_claimed_once_and_given_up_by_its_token_alone() -> None:
    etcd = MemoryEtcd(lambda: 0.0, leases={7: 15.0, 8: 15.0})
    first = etcd.txn(*KEYS.claim("a", 7, {5: 0}), [])
    assert not etcd.txn(*KEYS.claim("b", 8, {5: 0}), []).succeeded
    etcd.revoke(7)
    assert not etcd.txn(*KEYS.claim("b", 8, {5: 0}), []).succeeded, "it was not given up"
    second = etcd.txn(*KEYS.claim("b", 8, {5: first.revision}), [])
    assert second.succeeded
    assert not etcd.txn(*KEYS.give_up(5, first.revision), []).succeeded
    assert etcd.txn(*KEYS.give_up(5, second.revision), []).succeeded
    assert not etcd.pairs


@pytest.mark.parametrize(
    "key", ["member/x/y", "member/\udce9", "member/", "shard/7", "shard/64", "shard/07/1", "held/7"]
)
def test_a_key_of_another_form_is_left_out(key: str) -> None:
    found = read(Put(KEYS.prefix + key, b"gateway-a"), Put(f"{KEYS.prefix}member/b", b""))
    assert (list(found.members), found.owners, found.held) == (["b"], {}, {})


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"[" * 900, b'{"version":7,"draining":"yes","owed":7}', b'{"owed":"-1"}'],
)
def test_a_gateway_whose_document_has_another_form_lives_all_the_same(document: bytes) -> None:
    assert read(Put(KEYS.gateway("a"), document, 7)).gateways == {"a": SiteGateway(7)}


def test_an_owner_without_a_name_is_one_that_does_not_live_and_has_the_shard() -> None:
    found = read(Put(KEYS.shard(7), b"\xff\x1b[2J", 7))
    assert found.owners[7].gateway == ""
    assert found.owners[7].lease == 7


def test_the_keys_of_another_layout_are_left_alone() -> None:
    found = read(
        Put(KEYS.gateway("a"), gateway_document("2", draining=False), 7),
        Put(f"{KEYS.prefix}member/a", b""),
        Put(f"{KEYS.prefix}layout", b"2"),
    )
    assert not live_gateways(found)
