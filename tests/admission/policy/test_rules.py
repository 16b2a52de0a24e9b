"""The grammar of rules: what is wrong is reported with its key, all of it."""

from __future__ import annotations

from typing import Any

import pytest

from gatewayd.admission.policy.engine import identity_of
from gatewayd.admission.policy.rules import (
    SMALLEST_SHARE,
    Action,
    Rule,
    RuleMessages,
    RuleRequirements,
    RuleTable,
    SessionHolder,
    listed_values,
    make_rule,
)
from gatewayd.device.identity import Trust

GOOD: dict[str, Any] = {
    "name": "meters",
    "match": {"service": "_meter._tcp"},
    "action": Action.REGISTER,
    "extract": {"serial": "txt.sn", "mac": "mac|txt.mac"},
    "device_name": "pm-{serial}",
    "provider": "alibaba",
    "product": "a1",
}


def made(**keys: Any) -> tuple[Rule | None, list[tuple[str, str]]]:
    faults: list[tuple[str, str]] = []
    table = RuleTable(**(GOOD | keys))
    one = make_rule(table, frozenset(), lambda at, text: faults.append((".".join(at), text)))
    return one, faults


def test_a_rule_says_how_messages_are_treated() -> None:
    wanted = RuleMessages(accepted="reply", share=SMALLEST_SHARE)
    one, faults = made(messages=wanted)
    assert not faults
    assert one is not None
    assert one.messages == wanted
    usual, _ = made()
    assert usual is not None
    assert usual.messages == RuleMessages()


def test_a_good_rule_is_made() -> None:
    one, faults = made()
    assert not faults
    assert one is not None
    assert one.trust is Trust.LISTED, "unless it says otherwise"
    assert one.devices == 256
    view = {"txt.sn": "1", "txt.mac": "a8:03:2a:be:54:dc"}
    assert identity_of(one, view) == {"serial": "1", "mac": "a8032abe54dc"}
    assert identity_of(one, {"txt.mac": "none"}) == {}


@pytest.mark.parametrize(
    ("keys", "at", "fragment"),
    [
        ({"messages": RuleMessages(share=SMALLEST_SHARE - 1)}, "messages.share", "less than"),
        ({"messages": RuleMessages(window=1), "action": Action.REJECT}, "messages", "no child"),
        ({"messages": RuleMessages(window=1), "session": SessionHolder.HOLDER}, "messages", "past"),
        ({"name": "a b"}, "name", "letters"),
        ({"name": "\x1b"}, "name", "letters"),
        ({"name": ""}, "name", "letters"),
        ({"match": {}}, "match", "every device"),
        ({"match": {"servcie": "x"}}, "match.servcie", "did you mean 'service'"),
        ({"match": {"service": ()}}, "match.service", "empty list"),
        ({"extract": {"serial": "txt.sn ~ (a+)+"}}, "extract.serial", "too long"),
        ({"extract": {"serial": "sn"}}, "extract.serial", "unknown key"),
        ({"extract": {}}, "device_name", "unknown field"),
        ({"device_name": "meter"}, "device_name", "two devices"),
        ({"device_name": "{txt.sn}"}, "device_name", "unknown field"),
        ({"device_name": ""}, "", "needs 'device_name'"),
        ({"provider": ""}, "", "needs 'provider'"),
        ({"product": "", "action": Action.ASK}, "", "needs 'product'"),
        ({"product": "a/b"}, "product", "letters"),
        ({"require": RuleRequirements("claimed")}, "require.trust", "claimed"),
        ({"window": True, "action": Action.REJECT}, "window", "reject"),
        ({"window": True}, "window", "needs no join window"),
        ({"require": RuleRequirements("pinned")}, "require.trust", "needs 'proof'"),
        ({"require": RuleRequirements("proven")}, "require.trust", "needs 'proof'"),
        ({"proof": "axis", "action": Action.IGNORE}, "proof", "admits no child"),
    ],
)
def test_what_is_wrong_is_reported_at_its_key(keys: dict[str, Any], at: str, fragment: str) -> None:
    one, ((where, text),) = made(**keys)
    assert one is None
    assert where == at
    assert fragment in text


def test_everything_is_reported() -> None:
    _, faults = made(name="a b", match={}, device_name="", provider="")
    assert [at for at, _ in faults] == ["name", "", "match", ""]


@pytest.mark.parametrize("action", [Action.REJECT, Action.IGNORE])
def test_keeping_out_needs_neither_name_nor_cloud(action: Action) -> None:
    one, faults = made(action=action, extract={}, device_name="", provider="", product="")
    assert one is not None, faults
    assert one.template is None


def test_asking_may_rest_on_a_mere_claim() -> None:
    one, faults = made(action=Action.ASK, require=RuleRequirements("claimed"))
    assert one is not None, faults


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (" AB-1 ", {"AB-1"}),
        ("A8:03:2A:BE:54:DC", {"A8:03:2A:BE:54:DC", "a8032abe54dc"}),
        ("a8032abe54dc", {"a8032abe54dc"}),
        ("  ", set()),
    ],
)
def test_a_line_of_a_list_stands_for_itself_and_for_a_mac(text: str, values: set[str]) -> None:
    assert listed_values(text) == values
