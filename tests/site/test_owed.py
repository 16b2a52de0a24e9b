"""What a gateway owes is in its document, and decides what it gets of what moves in any case."""

from __future__ import annotations

import json

import pytest

from gatewayd.site.decisions import OwnState, decide
from gatewayd.site.etcd_messages import EtcdTxn, FoundKeys, KeyValue
from gatewayd.site.reading import SiteKeys, gateway_document
from gatewayd.site.shards import SHARDS
from gatewayd.site.snapshot import ShardOwner, SiteGateway, SiteReading

KEYS = SiteKeys("plant")


def read(document: bytes) -> SiteGateway:
    """Return what is read of a gateway by its document."""
    pair = KeyValue(KEYS.gateway("a"), document, 1, 1, 7)
    found = (FoundKeys((pair,)), *(FoundKeys(()) for _ in range(5)))
    return KEYS.read(EtcdTxn(True, 9, found)).gateways["a"]


@pytest.mark.parametrize("owed", [frozenset(), frozenset({0}), frozenset({5, 63}),
                                  frozenset(range(SHARDS))])  # fmt: skip
def test_shards_are_read_as_they_were_written(owed: frozenset[int]) -> None:
    document = gateway_document("1.0", draining=True, owed=owed)
    assert read(document) == SiteGateway(7, "1.0", True, owed)
    assert len(document) < 128


@pytest.mark.parametrize("owed", [3, None, "", "x", "-1", "1" * 17, ["1"], "\u0661"])
def test_what_is_no_number_of_shards_is_none(owed: object) -> None:
    document = json.dumps({"draining": False, "version": "1", "owed": owed}).encode()
    assert read(document).owed == frozenset()


def test_of_what_moves_in_any_case_a_gateway_claims_what_it_owes() -> None:
    """Two gateways have all shards; a third one is back: the first gives up what that owes."""
    owners = {shard: ShardOwner("ab"[shard % 2], 5, 1 + shard % 2) for shard in range(SHARDS)}
    owed = frozenset({0, 2, 4, 6})
    gateways = {"a": SiteGateway(1), "b": SiteGateway(2), "c": SiteGateway(3, owed=owed)}
    members = dict.fromkeys("abc", b"")
    reading = SiteReading(9, gateways, owners, {}, members, {}, "1")
    working = dict.fromkeys(range(0, SHARDS, 2), 5)
    actions = decide(reading, OwnState("a", 1, holds=True, working=working), 0.0)
    assert owed < actions.give_up.keys()
    assert len(actions.give_up) == 10
