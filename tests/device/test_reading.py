"""The neutral form: what is read, and what is refused, with a code and a remedy."""

from __future__ import annotations

import json

import pytest

from gatewayd.device import reading
from gatewayd.device.reading import EARLIEST, LATEST, MAX_DEPTH, Reading, UnfitMessage

AT = 1_764_444_000_123


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"{}", Reading({}, 0)),
        (b' {"temperature": 21.5, "lit": true} ', Reading({"temperature": 21.5, "lit": True}, 0)),
        (b'{"time": 1764444000123, "a": -1}', Reading({"a": -1}, AT)),
        ('{"ort": "Süd"}'.encode(), Reading({"ort": "Süd"}, 0)),
        (b'{"list": ["a", {"b": 1}]}', Reading({"list": ["a", {"b": 1}]}, 0)),
        (b'{"n": 9223372036854775807}', Reading({"n": (1 << 63) - 1}, 0)),
        (b'{"n": 1e308}', Reading({"n": 1e308}, 0)),
    ],
)
def test_what_is_read(payload: bytes, expected: Reading) -> None:
    assert reading.read(payload) == expected


def refusal(payload: bytes) -> str:
    with pytest.raises(UnfitMessage) as raised:
        reading.read(payload)
    reason = raised.value.reason
    assert reason.text.endswith(".")
    assert reason.remedy.endswith(".")
    assert reason.text.isprintable()
    return reason.code


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"21.5", b"[1]", b"null", b'"text"', b"{", b'{"a": 1} {}', b'{"a": NaN}',
        b'{"a": -Infinity}', b"\xff\xfe{\x00}\x00", b'{"a": "\xff"}', b'\xef\xbb\xbf{"a": 1}',
        b'{"a": 1, "a": 2}', b'{"a": {"b": 1, "b": 2}}', b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a":' * 100_000, b"\x00" * 100,
    ],
)  # fmt: skip
def test_what_is_no_object(payload: bytes) -> None:
    assert refusal(payload) == "message-unreadable"


@pytest.mark.parametrize(
    "value",
    ["null", "9223372036854775808", "-9223372036854775809", "1e309", r'"\ud800"', "[null]",
     r'{"\udfff": 1}', "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), '{"a": {"b": null}}'],
)  # fmt: skip
def test_a_value_that_no_cloud_has(value: str) -> None:
    assert refusal(f'{{"a": {value}}}'.encode()) == "message-value-unfit"


def test_as_deep_as_is_allowed() -> None:
    deep = "[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH
    assert reading.read(f'{{"a": {deep}}}'.encode()).values == {"a": json.loads(deep)}


@pytest.mark.parametrize(
    "time",
    [EARLIEST - 1, LATEST, 0, -AT, AT // 1000, AT * 1000, f"{AT}.5", f'"{AT}"', "true", "{}"],
)
def test_a_time_that_is_none(time: object) -> None:
    assert refusal(f'{{"time": {time}, "a": 1}}'.encode()) == "message-time-unfit"


def test_the_first_and_the_last_time() -> None:
    for time in (EARLIEST, LATEST - 1):
        assert reading.read(f'{{"time": {time}}}'.encode()).time == time


def test_only_a_plain_name_is_shown() -> None:
    assert reading.shown("climate:temperature") == '"climate:temperature"'
    assert "\x1b" not in reading.shown("\x1b[2J")
    assert "x" * 65 not in reading.shown("x" * 65)
