"""What a proof is worth to a rule: the name has to be of the identity that is proven."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gatewayd.admission.policy.engine import PolicyContext, decide, identity_claims
from gatewayd.admission.policy.rules import (
    Action,
    Decision,
    Rule,
    RuleRequirements,
    RuleTable,
    make_rule,
)
from gatewayd.device.identity import PROOF_OF_ANOTHER, Claim, DeviceId, Evidence, Trust
from gatewayd.device.proof import Pin, Proof
from gatewayd.proofs import reasons

ME = DeviceId("child-me")
CAMERA = {"service": "_axis._tcp", "txt.mac": "ACCC8E000001", "txt.model": "P3245"}
PROVEN = Proof("axis", "192.0.2.7", 7, "sha256:aa", "accc8e000001", "CN=Axis CA", "1f")
KEY_ONLY = replace(PROVEN, identity="", signer="", serial="")


def a_rule(trust: str = "proven", **keys: Any) -> Rule:
    base: dict[str, Any] = {
        "name": "cameras", "match": {"service": "_axis._tcp"}, "action": Action.REGISTER,
        "extract": {"serial": "txt.mac", "model": "txt.model"}, "device_name": "cam-{serial}",
        "provider": "alibaba", "product": "a1", "require": RuleRequirements(trust),
        "proof": "axis",
    }  # fmt: skip
    table = RuleTable(**(base | keys))
    faults: list[str] = []
    made = make_rule(table, frozenset(), lambda _, text: faults.append(text))
    assert made is not None, faults
    return made


def judged(proof: Proof | None, rule: Rule | None = None, **facts: Any) -> Decision:
    views = facts.pop("views", (CAMERA,))
    evidence = Evidence(views, frozenset(), Trust.CLAIMED, proof=proof, **facts)
    return decide(evidence, [rule or a_rule()], ME, PolicyContext())


def test_the_vendors_word_on_the_identity_in_the_name_admits() -> None:
    decision = judged(PROVEN)
    assert (decision.action, decision.trust) == (Action.REGISTER, Trust.PROVEN)
    assert decision.proof == "axis"


@pytest.mark.parametrize("shown", ["accc8e000001", "AC:CC:8E:00:00:01", "ac-cc-8e-00-00-01"])
def test_one_identity_may_be_spelled_in_several_ways(shown: str) -> None:
    assert judged(PROVEN, views=({**CAMERA, "txt.mac": shown},)).trust is Trust.PROVEN


@pytest.mark.parametrize(
    ("proof", "code"),
    [
        (None, "proof-pending"),
        (replace(KEY_ONLY, reason=reasons.NOT_TRUSTED), "proof-not-trusted"),
        (replace(PROVEN, identity="accc8e000002"), "proof-of-other-identity"),
        (replace(PROVEN, name="other"), "proof-pending"),
    ],
)
def test_without_that_it_waits_with_the_reason(proof: Proof | None, code: str) -> None:
    decision = judged(proof)
    assert (decision.action, decision.reason.code) == (Action.ASK, code)
    assert decision.trust is Trust.CLAIMED


def test_a_genuine_certificate_does_not_let_the_rest_of_a_name_vary() -> None:
    assert judged(PROVEN, a_rule(device_name="{model}-{serial}")).trust is Trust.CLAIMED


def test_what_is_announced_has_to_agree_also_where_the_name_does_not_use_it() -> None:
    rule = a_rule(extract={"serial": "txt.mac", "id": "proof.identity"}, device_name="cam-{id}")
    assert judged(PROVEN, rule).action is Action.REGISTER
    decision = judged(PROVEN, rule, views=({**CAMERA, "txt.mac": "ACCC8E000002"},))
    assert decision.reason.code == "proof-of-other-identity"


def test_a_name_may_be_made_of_the_proven_identity_alone() -> None:
    rule = a_rule(extract={"id": "proof.identity"}, device_name="cam-{id}")
    assert judged(None, rule).reason.code == "proof-pending"
    decision = judged(PROVEN, rule)
    assert decision.cloud is not None
    assert decision.cloud.device == "cam-accc8e000001"


def test_what_the_lan_announces_never_passes_for_a_proven_identity() -> None:
    rule = a_rule(extract={"serial": "proof.identity"})
    forged = ({**CAMERA, "proof.identity": "accc8e000001"},)
    assert judged(None, rule, views=forged).cloud is None
    assert judged(replace(PROVEN, identity="accc8e000009"), rule, views=forged).cloud != (
        judged(PROVEN, rule, views=forged).cloud
    )


def test_a_pinned_key_is_worth_more_than_a_list_and_no_more_than_itself() -> None:
    pinned = replace(KEY_ONLY, pinned=True)
    assert judged(pinned, a_rule("pinned")).trust is Trust.PINNED
    assert judged(pinned, a_rule("proven")).reason.code == "proof-of-other-identity"
    assert judged(KEY_ONLY, a_rule("pinned")).reason.code == "key-not-pinned"
    assert judged(KEY_ONLY, a_rule("listed")).reason.code == "trust-too-low"


def test_a_proof_that_the_rule_does_not_name_counts_nothing() -> None:
    assert judged(PROVEN, a_rule("authenticated", proof="")).trust is Trust.CLAIMED
    assert judged(PROVEN, a_rule("authenticated", proof="")).proof == ""


def test_who_proves_the_key_of_another_is_held_whatever_is_proven() -> None:
    decision = judged(PROVEN, conflict=PROOF_OF_ANOTHER)
    assert (decision.action, decision.reason.code) == (Action.ASK, PROOF_OF_ANOTHER)
    assert decision.trust is Trust.CLAIMED


def test_a_proof_is_no_claim_of_the_rule() -> None:
    """Its claim is of a namespace of its own, which no announcement can write."""
    found = identity_claims(CAMERA, [a_rule(extract={"serial": "proof.identity"})])
    assert not found
    assert PROVEN.claim == Claim("cert", "idevid.axis", "accc8e000001")
    assert KEY_ONLY.claim is None


def test_a_pin_holds_what_was_proven_and_nothing_where_no_key_was() -> None:
    pin = Pin.of(PROVEN)
    assert pin is not None
    assert Pin.parse(pin.text()) == pin
    assert (pin.key, pin.identity, pin.signer, pin.serial, pin.at) == (
        "sha256:aa", "accc8e000001", "CN=Axis CA", "1f", 7,
    )  # fmt: skip
    assert Pin.of(Proof("axis", "192.0.2.7", 7, reason=reasons.REFUSED)) is None
