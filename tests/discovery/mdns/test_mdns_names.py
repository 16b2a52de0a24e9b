"""Names: from the wire, and onto it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.discovery.mdns.records import (
    IN,
    MAX_LABEL,
    SRV,
    TXT,
    InstanceName,
    encode_query,
    parse,
    service,
)
from gatewayd.errors import ConfigError
from gatewayd.simulator.lan import dns
from gatewayd.simulator.lan.dns import DnsQuestion

TYPE = "_gatewayd-child._tcp"


@pytest.mark.parametrize("written", [TYPE, f"{TYPE}.local", f"{TYPE}.local."])
def test_a_type_is_taken_in_each_spelling(written: str) -> None:
    assert service(written) == TYPE


@pytest.mark.parametrize(
    "written",
    [
        "", "http", "_http", "_http._sctp", "_http._tcp.example.org", "_-a._tcp", "_a--b._tcp",
        "_a b._tcp", f"_{'x' * 63}._tcp", "_x\n._tcp", "._tcp",
    ],
)  # fmt: skip
def test_what_is_no_type_is_refused(written: str) -> None:
    with pytest.raises(ConfigError, match="must hold service types"):
        service(written)


@pytest.mark.parametrize("instance", ["TH-20 0001A7", "a.dot.in.it", "é" * 31, "-"])
def test_a_name_is_split(instance: str) -> None:
    assert parse(TYPE, f"{instance}.{TYPE}.local.") == InstanceName(TYPE, instance)


def test_case_does_not_tell_names_apart() -> None:
    name = parse(TYPE, f"Lamp.{TYPE.upper()}.LOCAL.")
    assert name == InstanceName(TYPE, "Lamp")
    assert name.key == InstanceName(TYPE, "LAMP").key


@pytest.mark.parametrize(
    "instance",
    [
        "",
        " ",
        ".a",
        "a.",
        "a..b",
        "a\0b",
        "a\x1b[0m",
        "a\r\nb",
        "\u202ea",
        "a\u200bb",
        "\ufffd",
        "x" * 64,
        "é" * 32,
    ],
)
def test_a_hostile_name_is_refused(instance: str) -> None:
    assert parse(TYPE, f"{instance}.{TYPE}.local.") is None


def test_a_name_of_another_type_is_refused() -> None:
    assert parse(TYPE, "Lamp._http._tcp.local.") is None


@given(st.text(st.characters(codec=None)))
def test_any_name_is_either_usable_or_refused(raw: str) -> None:
    for full in (raw, f"{raw}.{TYPE}.local."):
        name = parse(TYPE, full)
        assert name is None or len(encode_query(name)) <= 512


def test_a_question_asks_for_one_label_even_with_dots() -> None:
    sent = dns.decode(encode_query(InstanceName(TYPE, "a.dot.in.it")))
    label = (b"a.dot.in.it", b"_gatewayd-child", b"_tcp", b"local")
    assert sent.questions == (DnsQuestion(label, SRV), DnsQuestion(label, TXT))
    assert sent.answers == ()


def test_the_longest_name_fits() -> None:
    sent = dns.decode(encode_query(InstanceName(TYPE, "x" * MAX_LABEL)))
    assert sent.questions[0].family == IN
