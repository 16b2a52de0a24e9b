"""The vendor of a MAC, by its first 24, 28 or 36 bits (IEEE 802, 8.2), from the IEEE's lists.

The vendor is that of the network chip, which need not be that of the product: an attribute for
rules, and no identity.  The lists are those of Debian's package ieee-data, of which an entry is:

    00-1B-1B   (hex)		Siemens AG,
    001B1B     (base 16)		Siemens AG,

In the list of 28 or 36 bits, the second line has the range of the rest: `900000-9FFFFF`.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gatewayd.device.identity import is_local_mac
from gatewayd.discovery import sanitize
from gatewayd.runtime.watched_file import read_regular

DIRECTORY = Path("/usr/share/ieee-data")
FILES: Mapping[int, str] = {36: "oui36.txt", 28: "mam.txt", 24: "oui.txt"}
"""The list of each length of a prefix, in bits, the longest first."""
MAX_LIST = 16 << 20
"""Bytes of a list: the longest has 6 MB."""
MAX_VENDORS = 100_000
"""Entries of a list: the longest has 40,000."""
MAX_VENDOR = 128
"""Characters of a vendor's name."""

_ENTRY = re.compile(
    rb"^([0-9A-F]{2})-([0-9A-F]{2})-([0-9A-F]{2})[ \t]+\(hex\)[^\n]*\n"
    rb"(?:([0-9A-F]{6})-[0-9A-F]{6}|[0-9A-F]{6})[ \t]+\(base 16\)[ \t]+([^\r\n]{1,400})",
    re.MULTILINE,
)
_MAC_BITS, _MAC_DIGITS = 48, 12
_NOBODYS = frozenset({"", "Private", "IEEE Registration Authority"})
"""What stands for a vendor that is not named, and for a block that is divided further."""


def entries(listing: bytes, bits: int) -> Iterator[tuple[int, bytes]]:
    """Yield prefix and vendor of each entry of a list.  bits: of its prefixes."""
    for count, found in enumerate(_ENTRY.finditer(listing)):
        if count == MAX_VENDORS:
            return
        first, second, third, rest, vendor = found.groups()
        digits = first + second + third + (rest or b"000000")
        yield int(digits, 16) >> (_MAC_BITS - bits), vendor


class VendorList:
    """The entries of one list, in a few bytes each: a dictionary of them would take ten times that.

    Pairs of a prefix, in order, and the place of its vendor among all names.
    """

    def __init__(self, listing: bytes, bits: int) -> None:
        names: dict[bytes, int] = {}
        found = sorted(
            (prefix, names.setdefault(vendor, len(names)))
            for prefix, vendor in entries(listing, bits)
        )
        self._shift = _MAC_BITS - bits
        self._prefixes = array("Q", (prefix for prefix, _ in found))
        self._places = array("L", (place for _, place in found))
        self._names = tuple(names)

    def __len__(self) -> int:
        return len(self._prefixes)

    def find(self, number: int) -> str | None:
        """Return the vendor of a MAC as a number; None if its prefix is not listed."""
        prefix = number >> self._shift
        at = bisect_left(self._prefixes, prefix)
        if at == len(self._prefixes) or self._prefixes[at] != prefix:
            return None
        return self._names[self._places[at]].decode(errors="replace").strip()


class Vendors:
    """The vendors of MACs.  lists: those with the longest prefixes first."""

    def __init__(self, lists: Sequence[VendorList] = ()) -> None:
        self._lists = lists

    def vendor(self, mac: str) -> str:
        """Return the vendor of a MAC; "" if it is not known, or the MAC is locally administered.

        mac: 12 hex digits.
        """
        if len(mac) != _MAC_DIGITS or is_local_mac(mac):
            return ""
        number = int(mac, 16)
        name = next((one for of in self._lists if (one := of.find(number)) is not None), "")
        return "" if name in _NOBODYS or not sanitize.is_clean(name) else name[:MAX_VENDOR]


def read_vendors(directory: Path = DIRECTORY) -> Vendors:
    """Read the lists.  Blocks, for a tenth of a second.  Raises OSError."""
    return Vendors(
        [VendorList(read_regular(directory / name, MAX_LIST), bits) for bits, name in FILES.items()]
    )
