"""The reader of recordings: what it refuses, and that nothing trips it."""

from __future__ import annotations

import io
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.simulator.lan.recording import (
    MAX_LINE,
    MAX_SECONDS,
    MAX_TEXT,
    MalformedRecording,
    RecordedDatagram,
    RecordedLine,
    parse_line,
    read_recording,
)

FIRST = b'{"at": 0, "kind": "recording", "version": 1}\n'
DATAGRAM = (
    b'{"at": 0.5, "kind": "datagram", "interface": "lan0", "sender": "10.0.0.7", "port": 5353,'
    b' "data": "AAE="}\n'
)
END = b'{"at": 2.0, "kind": "end", "reason": "time", "lost": 0}\n'


def read(*lines: bytes) -> list[RecordedLine]:
    return list(read_recording(io.BytesIO(b"".join(lines))))


def test_a_recording_is_read() -> None:
    datagram, end = read(FIRST, DATAGRAM, END)
    assert (datagram.at, datagram.kind, datagram.interface) == (0.5, "datagram", "lan0")
    assert RecordedDatagram.of(datagram) == RecordedDatagram("10.0.0.7", 5353, b"\0\1")
    assert (end.kind, end.text("reason"), end.number("lost", 10)) == ("end", "time", 0)


@pytest.mark.parametrize(
    ("more", "found"),
    [
        (b'"to": "239.255.255.250", "to_port": 1900', (b"\0\1", "239.255.255.250", 1900)),
        (b'"to": "ff02::c", "to_port": 3702', (b"\0\1", "ff02::c", 3702)),
        (b'"to": "broadcast", "to_port": 44818', (b"\0\1", "255.255.255.255", 44818)),
        (b'"n": 1', (b"", "", 0)),
    ],
)
def test_of_other_sources_what_was_for_all_is_played(
    more: bytes, found: tuple[bytes, str, int]
) -> None:
    (line,) = read(FIRST, DATAGRAM.replace(b'"port"', b'"source": "toys", ' + more + b', "port"'))
    one = RecordedDatagram.of(line)
    assert (one.data, one.to, one.to_port) == found


@pytest.mark.parametrize("to", ["10.0.0.1", "fe80::1", "", "host", "255.255.255.255"])
def test_nothing_is_played_to_one_host(to: str) -> None:
    more = b'"source": "toys", "to": "%s", "to_port": 9, "port"' % to.encode()
    (line,) = read(FIRST, DATAGRAM.replace(b'"port"', more))
    with pytest.raises(MalformedRecording):
        RecordedDatagram.of(line)


def test_one_that_was_cut_between_two_lines_is_read_as_far_as_it_goes() -> None:
    assert [one.kind for one in read(FIRST, DATAGRAM)] == ["datagram"]


def test_what_is_not_known_is_passed_over() -> None:
    (line,) = read(FIRST, b'{"at": 1, "kind": "weather", "sky": "blue", "n": -7}\n')
    assert line.members == {"sky": "blue", "n": -7}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((), "empty"),
        ((END,), "Line 1"),
        ((FIRST.replace(b"1}", b"2}"),), "version"),
        ((FIRST, b"\n"), "Line 2: it is no JSON"),
        ((FIRST, b"[]\n"), "no object"),
        ((FIRST, b"[" * 5000), "no JSON"),
        ((FIRST, DATAGRAM[:-20]), "no JSON"),
        ((FIRST, END, DATAGRAM), "Line 3: at is earlier"),
        ((FIRST, b'{"kind": "end"}\n'), "at is no number"),
        ((FIRST, b'{"at": true, "kind": "end"}\n'), "at is no number"),
        ((FIRST, b'{"at": NaN, "kind": "end"}\n'), "at is not from 0"),
        ((FIRST, b'{"at": %s, "kind": "end"}\n' % (b"9" * 400)), "at is not from 0"),
        ((FIRST, b'{"at": -1, "kind": "end"}\n'), "at is not from 0"),
        ((FIRST, b'{"at": %d, "kind": "end"}\n' % (MAX_SECONDS + 1)), "at is not from 0"),
        ((FIRST, b'{"at": 1, "kind": "A B"}\n'), "kind"),
        ((FIRST, b'{"at": 1, "kind": "end", "x": null}\n'), "member"),
        ((FIRST, b'{"at": 1, "kind": "end", "x": %d}\n' % (1 << 70)), "member"),
        ((FIRST, b'{"at": 1, "kind": "end", "x": "%s"}\n' % (b"x" * (MAX_TEXT + 1))), "member"),
        ((FIRST, b'{"at": 1, "kind": "end", "data": "%s"}\n' % (b"x" * MAX_LINE)), "bytes"),
        ((FIRST, json.dumps({"at": 1, "kind": "end"} | dict.fromkeys("abcdefghijklmnopq", 1))
          .encode()), "too many"),
    ],
)  # fmt: skip
def test_what_is_no_recording_is_refused(lines: tuple[bytes, ...], said: str) -> None:
    with pytest.raises(MalformedRecording, match=said):
        read(*lines)


@pytest.mark.parametrize(
    "changes",
    [
        {"sender": "nowhere"}, {"sender": 7}, {"port": 70_000}, {"port": "5353"}, {"port": -1},
        {"data": "no base64"}, {"data": "A" * 24_000}, {"data": 1},
    ],
)  # fmt: skip
def test_what_is_no_datagram_is_refused(changes: dict[str, str | int]) -> None:
    (line,) = read(FIRST, DATAGRAM)
    with pytest.raises(MalformedRecording):
        RecordedDatagram.of(RecordedLine(line.at, line.kind, line.members | changes))


@pytest.mark.parametrize("name", ["", "..", "a/b", "x" * 16, "a b", "a\n"])
def test_what_is_no_interface_is_refused(name: str) -> None:
    with pytest.raises(MalformedRecording):
        _ = RecordedLine(0.0, "link", {"interface": name}).interface


@given(st.binary(max_size=400))
def test_any_bytes_are_a_line_or_refused(raw: bytes) -> None:
    with suppress(MalformedRecording):
        assert 0 <= parse_line(raw).at <= MAX_SECONDS


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
)
MEMBERS = st.dictionaries(
    st.sampled_from(["at", "kind", "interface", "sender", "port", "data", "version"]), JSON
)


@given(MEMBERS, st.sampled_from([FIRST, DATAGRAM, END]))
def test_any_members_are_a_datagram_or_refused(members: dict[str, object], base: bytes) -> None:
    changed = json.dumps(json.loads(base) | members).encode() + b"\n"
    with suppress(MalformedRecording):
        for line in read(FIRST, changed):
            assert RecordedDatagram.of(line).port <= 65_535
