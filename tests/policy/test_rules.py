"""The grammar of rules: what is wrong is reported with its key, all of it."""

from __future__ import annotations

from typing import Any

import pytest

from gatewayd.device.identity import Trust
from gatewayd.policy.admission import Action
from gatewayd.policy.rules import Require, Rule, RuleTable, normal_identity, rule

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
    one = rule(table, frozenset(), lambda at, text: faults.append((".".join(at), text)))
    return one, faults


def test_a_good_rule_is_made() -> None:
    one, faults = made()
    assert not faults
    assert one is not None
    assert one.trust is Trust.LISTED, "unless it says otherwise"
    assert one.devices == 256
    view = {"txt.sn": "1", "txt.mac": "a8:03:2a:be:54:dc"}
    assert one.identity(view) == {"serial": "1", "mac": "a8032abe54dc"}
    assert one.identity({"txt.mac": "none"}) == {}


@pytest.mark.parametrize(
    ("keys", "at", "told"),
    [
        ({"name": "a b"}, "name", "letters"),
        ({"name": "\x1b"}, "name", "letters"),
        ({"name": ""}, "name", "letters"),
        ({"match": {}}, "match", "every device"),
        ({"match": {"servcie": "x"}}, "match.servcie", "did you mean 'service'"),
        ({"match": {"service": ()}}, "match.service", "empty list"),
        ({"extract": {"serial": "txt.sn ~ (a+)+"}}, "extract.serial", "too long"),
        ({"extract": {"serial": "sn"}}, "extract.serial", "unknown key"),
        ({"extract": {}}, "device_name", "no extracted field"),
        ({"device_name": "meter"}, "device_name", "two devices"),
        ({"device_name": "{txt.sn}"}, "device_name", "no extracted field"),
        ({"device_name": ""}, "", "needs 'device_name'"),
        ({"provider": ""}, "", "needs 'provider'"),
        ({"product": "", "action": Action.ASK}, "", "needs 'product'"),
        ({"product": "a/b"}, "product", "letters"),
        ({"require": Require("heard")}, "require.trust", "anybody on the LAN"),
    ],
)
def test_what_is_wrong_is_reported_at_its_key(keys: dict[str, Any], at: str, told: str) -> None:
    one, ((where, text),) = made(**keys)
    assert one is None
    assert where == at
    assert told in text


def test_everything_is_reported() -> None:
    _, faults = made(name="a b", match={}, device_name="", provider="")
    assert [at for at, _ in faults] == ["name", "", "match", ""]


@pytest.mark.parametrize("action", [Action.REJECT, Action.IGNORE])
def test_keeping_out_needs_neither_name_nor_cloud(action: Action) -> None:
    one, faults = made(action=action, extract={}, device_name="", provider="", product="")
    assert one is not None, faults
    assert one.template is None


def test_asking_may_rest_on_what_was_merely_heard() -> None:
    one, faults = made(action=Action.ASK, require=Require("heard"))
    assert one is not None, faults


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        (" AB-1 ", "ab-1"),
        ("A8:03:2A:BE:54:DC", "a8032abe54dc"),
        ("a8-03-2a-ff-fe-be-54-dc", "a8032abe54dc"),
    ],
)
def test_identities_are_compared_in_one_form(text: str, normal: str) -> None:
    assert normal_identity(text) == normal
