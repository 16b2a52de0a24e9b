"""The sanitiser: what may be matched, and what may be shown."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.discovery.discoverer import MAX_ATTRIBUTE
from gatewayd.discovery.sanitize import (
    MAX_KEY,
    MAX_LABEL,
    UNNAMED,
    attribute,
    is_clean,
    label,
    usable_addresses,
)

ANYTHING = st.text(st.characters(codec=None))
"""Lone surrogates too: a decoder may hand them over."""

BAD = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(ANYTHING)
def test_a_label_is_always_fit_to_show(raw: str) -> None:
    shown = label(raw)
    assert 1 <= len(shown) <= MAX_LABEL
    assert not {unicodedata.category(one) for one in shown} & BAD
    assert shown == shown.strip()
    assert shown.encode()


@given(ANYTHING)
def test_a_label_stays_as_it_is_when_cleaned_again(raw: str) -> None:
    assert label(label(raw)) == label(raw)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("TH-20 0001A7", "TH-20 0001A7"),
        ("Küche é 室温", "Küche é 室温"),
        ("", UNNAMED),
        ("\x00\u202e\n", UNNAMED),
        ("a\x1b[2Jb", "a [2Jb"),
        ("\u202eevil\u202c", "evil"),
        ("line\r\nbreak", "line break"),
        ("x" * 500, "x" * MAX_LABEL),
        ("\ud800surrogate", "surrogate"),
        ("bad\ufffdbytes", "bad bytes"),
    ],
)
def test_labels(raw: str, shown: str) -> None:
    assert label(raw) == shown


@given(ANYTHING, ANYTHING)
def test_an_attribute_is_kept_as_it_is_or_refused(key: str, value: str) -> None:
    pair = attribute(key, value)
    if pair is not None:
        assert pair == (key.lower(), value)
        assert is_clean(value)
        assert len(value) <= MAX_ATTRIBUTE


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("", "x"), ("a b", "x"), ("a=b", "x"), ("é", "x"), ("k" * (MAX_KEY + 1), "x"),
        ("k", "a\nb"), ("k", "a\u200bb"), ("k", "\ufffd"), ("k", "x" * (MAX_ATTRIBUTE + 1)),
    ],
)  # fmt: skip
def test_an_unclean_attribute_is_refused(key: str, value: str) -> None:
    assert attribute(key, value) is None


def test_an_attribute_may_be_empty_and_its_key_is_lowered() -> None:
    assert attribute("FW", "") == ("fw", "")
    assert attribute("json.@type", "x" * MAX_ATTRIBUTE) == ("json.@type", "x" * MAX_ATTRIBUTE)


def test_addresses_that_no_host_has_are_left_out() -> None:
    given_ = ("fe80::1%2", "192.0.2.1", "0.0.0.0", "239.1.1.1", "255.255.255.255", "ff02::1", "::1")  # noqa: S104  # listens nowhere
    assert usable_addresses(given_, "eth1") == ("192.0.2.1", "fe80::1%eth1")
    assert usable_addresses(("127.1.0.7",), "lo") == ("127.1.0.7",)
    assert usable_addresses(("127.1.0.7", "::ffff:127.0.0.1"), "eth1") == ()
    assert len(usable_addresses(tuple(f"192.0.2.{i}" for i in range(1, 200)), "eth1")) == 8
