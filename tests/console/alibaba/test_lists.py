"""Lists of names and models, as operators write them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gatewayd.console.alibaba.device_names import (
    MAX_NAMES,
    MAX_SHOWN,
    in_batches,
    parse_names,
    span,
)
from gatewayd.console.alibaba.thing_model import has_all, parse_model, tsl_of
from gatewayd.errors import ConsoleError

MODEL: dict[str, Any] = {
    "profile": {"productKey": "a1Other"},
    "properties": [{"identifier": "Level", "accessMode": "rw", "dataType": {"type": "int"}}],
    "services": [{"identifier": "Empty", "callType": "sync"}],
}


def mistakes(content: bytes) -> list[str]:
    with pytest.raises(ConsoleError) as raised:
        parse_names(content, "names.txt")
    return str(raised.value).splitlines()


def test_a_list_of_names() -> None:
    content = "\ufeff# the hall\r\nTH20-0001A7  # by the door\r\n\r\npump@hall:3\n".encode()
    assert parse_names(content, "names.txt") == ("TH20-0001A7", "pump@hall:3")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"# nothing\n", "lists no device name"),
        (b"\xff\xfe", "not UTF-8"),
        (b"abc", "line 1: 'abc' cannot be a device name: it has 3 characters"),
        (b"ok-1\n" + b"a" * 33, "line 2: 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' cannot be"),
        (b"a" * 500, f"'{'a' * 40}...' cannot be a device name: it has 500 characters"),
        ("pump-ü".encode(), "line 1: 'pump-\\xfc' cannot be"),
        (b"pump\x1b[1m", "line 1: 'pump\\x1b[1m' cannot be"),
        (b"ok-1\nok-2\nok-1", "line 3: ok-1 is on line 1, too"),
        (b"a1\n" * (MAX_NAMES + 1), f"it lists {MAX_NAMES + 1} device names"),
    ],
)
def test_a_list_that_is_refused(content: bytes, why: str) -> None:
    assert why in mistakes(content)[0]


def test_mistakes_are_shown_within_a_bound() -> None:
    shown = mistakes(b"".join(b"a%d\n" % number for number in range(50)))
    assert len(shown) == MAX_SHOWN + 1
    assert shown[-1] == "names.txt: and 40 more. Nothing was registered"


def test_batches() -> None:
    assert [*in_batches(["a", "b", "c"], 2)] == [["a", "b"], ["c"]]
    assert (span(["a"]), span(["a", "b", "c"])) == ("a", "a to c")


def test_a_model_is_imported_for_the_product_that_it_is_for() -> None:
    model = parse_model(json.dumps(MODEL).encode(), "model.json")
    sent = json.loads(tsl_of(model, "a1Own"))
    assert sent == {**MODEL, "profile": {"productKey": "a1Own"}}


def test_a_model_is_there_when_the_platform_has_added_to_it() -> None:
    added = {"identifier": "post", "type": "info"}
    level = MODEL["properties"][0] | {"name": "Level", "required": False}
    shown = {**MODEL, "properties": [level], "events": [added]}
    assert has_all(json.dumps(shown), MODEL)
    assert not has_all(json.dumps({**shown, "services": []}), MODEL)
    other = {**level, "dataType": {"type": "double"}}
    assert not has_all(json.dumps({**shown, "properties": [other]}), MODEL)
    for nothing in ("", "{", "[]", "{}"):
        assert not has_all(nothing, MODEL)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "no JSON object"),
        (b"[]", "no JSON object"),
        (b"[" * 100_000, "no JSON object"),
        (b"{}", "none of properties, events, services"),
        (b'{"properties": {}}', "properties is no list"),
        (b'{"events": [{"name": "x"}]}', "an entry has no identifier"),
    ],
)
def test_a_model_that_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(ConsoleError, match=why):
        parse_model(content, "model.json")
