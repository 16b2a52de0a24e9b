"""`gatewayctl rules`: checks files, and shows how rules decide on recorded sightings."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from gatewayd.cli.rules import rules_check, rules_test
from gatewayd.errors import GatewayError

RULES = """
[[rule]]
name = "phones"
match = { service = "_phone._tcp" }
action = "ignore"

[[rule]]
name = "meters"
match = { source = "mdns", service = "_meter._tcp", subnet = "10.0.0.0/8" }
extract = { serial = "txt.sn ~ [A-Z0-9-]{1,20}" }
device_name = "pm-{serial}"
action = "register"
provider = "alibaba"
product = "a1"
list = "site.list"
"""
METER = {
    "source": "mdns/lan0", "key": "x", "at": 1.0, "interface": "lan0", "port": 80,
    "addresses": ["10.0.0.7"], "trust": "corroborated",
    "attributes": {"service": "_meter._tcp", "txt.sn": "AB-1"},
}  # fmt: skip


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    (tmp_path / "site.list").write_text("AB-1\n")
    path = tmp_path / "10.toml"
    path.write_text(RULES)
    return path


def test_good_rules_pass(rules: Path) -> None:
    out = io.StringIO()
    assert rules_check([rules], out, {"alibaba": {"a1"}}) == 0
    assert out.getvalue() == "2 rules in 1 files can be used.\n"


def test_bad_rules_fail(rules: Path) -> None:
    out = io.StringIO()
    assert rules_check([rules], out, {}) == 1
    (line,) = out.getvalue().splitlines()
    assert line.startswith(f"{rules}:13: ")
    assert "meters" in line


def test_each_sighting_is_judged_and_explained(rules: Path) -> None:
    phone = {"source": "mdns", "attributes": {"service": "_phone._tcp"}}
    stranger = METER | {"attributes": {"service": "\x1b[2J", "txt.sn": "CANARY"}}
    unlisted = METER | {"attributes": {"service": "_meter._tcp", "txt.sn": "AB-2"}}
    record = rules.with_name("seen.jsonl")
    lines = [json.dumps(one) for one in (METER, phone, stranger, unlisted)]
    record.write_text("\n".join(lines))
    out = io.StringIO()
    assert rules_test(record, [rules], out) == 0
    text = out.getvalue().replace(f"{record}:", "")
    decisions = [line.partition(")")[0] for line in text.splitlines() if ":     " not in line]
    assert decisions == [
        "1: register as alibaba:a1/pm-AB-1 (admitted-by-rule",
        "2: ignore (ignored-by-rule",
        "3: ask (no-rule",
        "4: ask as alibaba:a1/pm-AB-2 (trust-too-low",
    ]
    assert [line for line in text.splitlines() if ":     " in line] == [
        "1:     phones: service does not match",
        "1:     meters: matches",
        "2:     phones: matches",
        "3:     phones: service does not match",
        "3:     meters: service does not match",
        "4:     phones: service does not match",
        "4:     meters: matches",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "1",
        "{}",
        '{"source": "x", "trust": "sure"}',
        '{"source": "x", "attributes": 1}',
        "[" * 100000,
    ],
)
def test_what_is_no_sighting_fails(rules: Path, line: str) -> None:
    record = rules.with_name("seen.jsonl")
    record.write_text(f"{line}\n")
    out = io.StringIO()
    assert rules_test(record, [rules], out) == 1
    assert out.getvalue() == f"{record}:1: not a sighting\n"


def test_sightings_are_not_judged_by_bad_rules(rules: Path) -> None:
    rules.write_text("rule = ")
    out = io.StringIO()
    assert rules_test(rules.with_name("none.jsonl"), [rules], out) == 1
    assert "not valid TOML" in out.getvalue()


@pytest.mark.parametrize("name", ["nowhere.jsonl", "."])
def test_sightings_that_cannot_be_read_are_named(rules: Path, name: str) -> None:
    with pytest.raises(GatewayError, match="cannot be read: "):
        rules_test(rules.parent / name, [rules], io.StringIO())
