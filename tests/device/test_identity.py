"""What identifies a device, and what identifies none, as a factory's default does."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.device.identity import MAX_MACS, Claim, claim, device_id, macs, universal

UUID = "2f402f80-da50-11e1-9b23-ecb5fa123456"


@pytest.mark.parametrize(
    "value",
    [
        "", "0", "000", "0000000000000000", "999999999999999999", "FFFFFFFF", "xxxxxxxxxx", "--",
        "00-00-00", "12345678", "0123456789", "1234567890", "Default string",
        "To be filled by O.E.M.", "Not Specified", "{{BRIDGEID}}", "SN-${SERIAL}",
        "%SERIAL%", "<serial number>",
    ],
)  # fmt: skip
def test_a_default_of_the_factory_identifies_nothing(value: str) -> None:
    assert claim("serial", "_x._tcp", value) is None


@pytest.mark.parametrize(
    "value",
    ["7", "11", "A1", "SN0001", "1234567", "0000000000000001", "X12345678", "序列号", "a_b"],
)
def test_a_short_or_odd_serial_number_is_one(value: str) -> None:
    assert claim("serial", "_x._tcp", value) == Claim("serial", "_x._tcp", value.lower())


@pytest.mark.parametrize(
    "value",
    [
        "01:02:03:04:05:06", "00:11:22:33:44:55", "00-00-00-00-00-00", "22:22:22:22:22:22",
        "ff:ff:ff:ff:ff:ff", "12:34:56:78:9a:bc", "01:00:5e:00:00:fb",
        "00:00:00:00:00:00:00:00", "01:23:45:67:89:ab:cd:ef", "24:0a:c4:0c:2f", "24:0a:c4:0c:2f:9",
    ],
)  # fmt: skip
def test_a_mac_of_an_example_or_of_a_group_identifies_nothing(value: str) -> None:
    assert claim("mac", "l2", value) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("24:0A:C4:0C:2F:91", "240ac40c2f91"),
        ("240a.c40c.2f91", "240ac40c2f91"),
        ("24-0a-c4-ff-fe-0c-2f-91", "240ac40c2f91"),
        ("00124b0014b55df2", "00124b0014b55df2"),
    ],
)
def test_a_mac_has_one_spelling_and_an_eui_64_is_one(text: str, value: str) -> None:
    assert claim("mac", "_x._tcp", text) == Claim("mac", "_x._tcp", value)


def test_of_a_list_of_macs_those_count_that_identify_something() -> None:
    listed = "24:0a:c4:0c:2f:91, 00:00:00:00:00:00;240AC40C2F91 24:0a:c4:0c:2f:92"
    assert macs(listed) == ("240ac40c2f91", "240ac40c2f92")
    assert len(macs(" ".join(f"240ac40c2f{n:02x}" for n in range(99)))) == MAX_MACS


@pytest.mark.parametrize(
    "value", ["03000200-0400-0500-0006-000700080009", "12345678-1234-5678-1234-567812345678"]
)
def test_a_uuid_of_a_board_or_of_an_example_identifies_nothing(value: str) -> None:
    assert claim("uuid", "_x._tcp", value) is None


@pytest.mark.parametrize(
    "text", [UUID, UUID.upper(), f"urn:uuid:{UUID}", f"{{{UUID}}}", UUID.replace("-", "")]
)
def test_a_uuid_has_one_spelling(text: str) -> None:
    assert claim("uuid", "_x._tcp", text) == Claim("uuid", "_x._tcp", UUID)


@pytest.mark.parametrize("digit", "0f")
def test_a_uuid_of_one_digit_identifies_nothing(digit: str) -> None:
    assert claim("uuid", "_x._tcp", re.sub("[0-9a-f]", digit, UUID)) is None


@pytest.mark.parametrize(
    ("kind", "namespace", "value", "is_universal"),
    [
        ("uuid", "_x._tcp", UUID, True),
        ("uuid", "_x._tcp", "shelly-1", False),
        ("mac", "_x._tcp", "24:0a:c4:0c:2f:91", True),
        ("mac", "_x._tcp", "26:0a:c4:0c:2f:91", False),
        ("mac", "l2", "24:0a:c4:0c:2f:91", False),
        ("serial", "_x._tcp", "A-1", False),
    ],
)
def test_what_is_universal(kind: str, namespace: str, value: str, is_universal: bool) -> None:
    one = claim(kind, namespace, value)
    assert one is not None
    assert (universal(one) is not None) is is_universal


def test_an_id_is_the_same_under_any_service() -> None:
    made = {device_id([Claim("uuid", service, UUID)], service) for service in ("_ipp", "_uscan")}
    assert len(made) == 1


@given(st.sampled_from(["serial", "uuid", "mac", "cert", "name"]), st.text(max_size=300))
def test_a_claim_stays_as_it_is_when_it_is_made_again(kind: str, text: str) -> None:
    one = claim(kind, "x", text)
    assert one is None or claim(kind, "x", one.value) == one


TEXTS = st.text(max_size=300) | st.from_regex(r"[{ ]*(urn:|uuid:|URN:){0,3}[{ 0-9a-f-]{0,40}[} ]*")


@given(st.sampled_from(["serial", "uuid", "mac", "cert"]), TEXTS)
def test_a_claim_of_what_was_normalised_is_the_same_claim(kind: str, text: str) -> None:
    """What comes from the discovery helper is refused where it is not."""
    made = claim(kind, "_x._tcp", text)
    assert made is None or claim(kind, "_x._tcp", made.value) == made
    assert made is None or len(made.value) <= 255
