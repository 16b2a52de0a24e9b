"""The vendors of MACs: the lists of the IEEE, as Debian has them."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.discovery.protocols.oui import (
    DIRECTORY,
    FILES,
    MAX_VENDOR,
    VendorList,
    Vendors,
    entries,
    read_vendors,
)


def entry(digits: str, vendor: str, rest: str = "") -> bytes:
    """One entry as the IEEE writes it, with its address."""
    pairs = "-".join(digits[at : at + 2] for at in (0, 2, 4))
    second = f"{rest}     (base 16)" if rest else f"{digits}     (base 16)"
    return (
        f"{pairs}   (hex)\t\t{vendor}\r\n{second}\t\t{vendor}\r\n"
        "\t\t\t\t1 Allen-Bradley Dr.\r\n\t\t\t\tMayfield Heights  OH  44124\r\n\t\t\t\tUS\r\n\r\n"
    ).encode()


HEAD = b"OUI/MA-L      Organization\r\ncompany_id    Organization\r\n\r\n"
LARGE = HEAD + entry("001B1B", "Siemens AG,") + entry("D01411", "IEEE Registration Authority")
LARGE += entry("70B3D5", "IEEE Registration Authority") + entry("741AE0", "Private")
MEDIUM = HEAD + entry("D01411", "ABB EVI SPA", "B00000-BFFFFF")
SMALL = HEAD + entry("70B3D5", "2M Technology", "719000-719FFF")
VENDORS = Vendors([VendorList(SMALL, 36), VendorList(MEDIUM, 28), VendorList(LARGE, 24)])


@pytest.mark.parametrize(
    ("mac", "vendor"),
    [
        ("001b1b3434cb", "Siemens AG,"),
        ("d01411b12345", "ABB EVI SPA"),
        ("d01411c12345", ""),  # a block of another, who is not listed
        ("70b3d5719abc", "2M Technology"),
        ("70b3d5718abc", ""),
        ("741ae0000001", ""),  # who does not want to be named
        ("021b1b3434cb", ""),  # locally administered
        ("ffffffffffff", ""),
        ("001b1bfffe3434cb", ""),  # no MAC
        ("", ""),
    ],
)
def test_the_longest_prefix_counts(mac: str, vendor: str) -> None:
    assert VENDORS.vendor(mac) == vendor


def test_without_lists_no_vendor_is_known() -> None:
    assert Vendors().vendor("001b1b3434cb") == ""


@pytest.mark.parametrize("name", ["Acme\u202e", "A\x07B"])
def test_a_name_that_does_not_print_is_none(name: str) -> None:
    vendors = Vendors([VendorList(entry("001B1B", name), 24)])
    assert vendors.vendor("001b1b3434cb") == ""


def test_a_long_name_is_cut() -> None:
    vendors = Vendors([VendorList(entry("001B1B", "x" * 300), 24)])
    assert len(vendors.vendor("001b1b3434cb")) == MAX_VENDOR


@given(st.binary(max_size=400), st.sampled_from(sorted(FILES)))
def test_any_bytes_are_borne(raw: bytes, bits: int) -> None:
    listed = VendorList(entry("001B1B", "Siemens", "719000-719FFF") + raw, bits)
    assert len(listed) == len(
        list(entries(entry("001B1B", "Siemens", "719000-719FFF") + raw, bits))
    )


@given(st.lists(st.integers(0, (1 << 24) - 1), max_size=50), st.integers(0, (1 << 24) - 1))
def test_a_prefix_is_found_if_it_is_listed(prefixes: Sequence[int], other: int) -> None:
    listed = VendorList(b"".join(entry(f"{one:06X}", f"v{one}") for one in prefixes), 24)
    for one in prefixes:
        assert listed.find(one << 24) == f"v{one}"
    assert (listed.find(other << 24) is not None) == (other in prefixes)


def test_a_missing_list_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        read_vendors(tmp_path)


@pytest.mark.namespace  # where what the quick tests lack is installed
def test_debians_lists_are_read_as_a_whole() -> None:
    vendors = read_vendors()
    assert vendors.vendor("001b1b3434cb") == "Siemens AG,"
    assert vendors.vendor("0080f40a0b0c") == "TELEMECANIQUE ELECTRIQUE"
    assert vendors.vendor("70b3d5719abc") == "2M Technology"
    for bits, name in FILES.items():
        counted = subprocess.run(
            ["grep", "-c", "(hex)", DIRECTORY / name], capture_output=True, text=True, check=True
        )
        assert len(VendorList((DIRECTORY / name).read_bytes(), bits)) == int(counted.stdout)
