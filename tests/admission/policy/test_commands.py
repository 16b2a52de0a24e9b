"""The words of a rule for commands: a kind, or a kind with a glob of names; nothing by default."""

from __future__ import annotations

import pytest

from gatewayd.admission.policy.commands import MAX_WORDS, allows, parse_command
from gatewayd.admission.policy.patterns import RuleError
from gatewayd.admission.policy.rules import Action, RuleTable, make_rule
from gatewayd.admission.rules import RuleBook
from gatewayd.device.command import ChildCommand, CommandKind


def command(kind: str, name: str = "", *properties: str) -> ChildCommand:
    arguments = dict.fromkeys(properties, 1)
    return ChildCommand("1", CommandKind(kind), name, arguments, "t", b"", "r", 20.0)


@pytest.mark.parametrize(
    ("words", "wanted", "is_allowed"),
    [
        ((), command("service", "reboot"), False),
        (("service",), command("service", "reboot"), True),
        (("service:*",), command("service", "reboot"), True),
        (("service:reboot",), command("service", "reboot"), True),
        (("service:reboot",), command("service", "reboot2"), False),
        (("service:boot",), command("service", "reboot"), False),
        (("service:reboot",), command("service", "Reboot"), False),
        (("service:Switch.*",), command("service", "Switch.Set"), True),
        (("service:Switch.*",), command("service", "SwitchXSet"), False),
        (("service",), command("set", "", "power"), False),
        (("set:power",), command("set", "", "power"), True),
        (("set:power",), command("set", "", "power", "limit"), False),
        (("set:power", "set:lim*"), command("set", "", "power", "limit"), True),
        (("set:power",), command("set"), False),
        (("get:*",), command("get"), True),
        (("get:power",), command("get"), False),
        (("get:Meter",), command("get", "Meter"), True),
        (("get:Meter",), command("get", "Meter", "Meter:power"), False),
        (("get:Meter:*",), command("get", "Meter", "Meter:power"), True),
        (("get:Meter:*",), command("get", "Meter"), False),
        (("request",), command("request"), True),
        (("request:x",), command("request"), False),
        (("message",), command("message", "any"), True),
    ],
)
def test_a_command_is_allowed_by_a_word(
    words: tuple[str, ...], wanted: ChildCommand, is_allowed: bool
) -> None:
    assert allows([parse_command(word) for word in words], wanted) is is_allowed


@pytest.mark.parametrize(
    "word",
    [
        *("", "*", "reboot", "Service", "service ", "service:", "service:a b", "set:[ab]"),
        *("set:é", f"service:{'x' * 129}", "service:\n", "set/get"),
    ],
)
def test_any_other_word_is_refused(word: str) -> None:
    with pytest.raises(RuleError):
        parse_command(word)


GOOD = RuleTable(
    name="meters",
    match={"service": "_meter._tcp"},
    action=Action.REGISTER,
    extract={"serial": "txt.sn"},
    device_name="pm-{serial}",
    provider="alibaba",
    product="a1",
)


def reported(action: Action, *words: str) -> list[tuple[str, ...]]:
    table = RuleTable("meters", GOOD.match, action, GOOD.extract, "", GOOD.device_name,
                      "alibaba", "a1", commands=words)  # fmt: skip
    found: list[tuple[str, ...]] = []
    make_rule(table, frozenset(), lambda at, _: found.append(at))
    return found


def test_what_is_wrong_is_reported_at_its_key() -> None:
    assert reported(Action.REGISTER, "set", "reboot", "get:") == [("commands",)] * 2
    assert reported(Action.REJECT, "set") == [("commands",)]
    assert reported(Action.REGISTER, *["set"] * (MAX_WORDS + 1)) == [("commands",)]
    assert not reported(Action.ASK, *["set"] * MAX_WORDS)


def test_the_rule_of_a_child_counts_as_it_is_in_force() -> None:
    table = RuleTable("meters", GOOD.match, Action.REGISTER, GOOD.extract, "", GOOD.device_name,
                      "alibaba", "a1", commands=("set",))  # fmt: skip
    rule = make_rule(table, frozenset(), lambda *_: None)
    assert rule is not None
    book = RuleBook((rule,))
    power = command("set", "", "power")
    assert book.allows("meters", power)
    assert not book.allows("", power), "of a child that an operator has approved without a rule"
    book.replace(())
    assert not book.allows("meters", power)
