"""A recording without names and addresses: each is replaced by another of the same form.

What is the same in the recording stays the same, what differs stays different, and no length
changes, so that the fault that was recorded is still there.  Kept are service types, the keys of
TXT records, the vendor's half of a MAC, the network that an address is in, words of one or two
letters or digits, numbers of one digit alone, as "00000000", and values of TXT keys that the caller
names.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import random
import re
import struct
from collections.abc import Collection, Iterator
from typing import Final

_HEADER = struct.Struct("!6H")  # RFC 1035, 4.1.1
_RECORD = struct.Struct("!HHIH")  # type, class, TTL, length: RFC 1035, 4.1.3
A, CNAME, PTR, TXT, AAAA, SRV, NSEC = 1, 5, 12, 16, 28, 33, 47
SERVICE: Final = 6
"""Bytes of a SRV record before its name (RFC 2782)."""
POINTER: Final = 0xC0
MAX_LABELS: Final = 128
"""A name has no more (RFC 1035, 2.3.4); one that seems to has a loop."""
DOMAINS: Final = frozenset({b"local", b"arpa", b"in-addr", b"ip6"})
"""Labels that say nothing of a device."""
PROTOCOLS: Final = frozenset({b"_tcp", b"_udp", b"_dns-sd"})
SUBTYPE: Final = b"_sub"
"""Nor do these, and what stands before one of the first: a service type (RFC 6763, 4.1, 7.1, 9)."""
SHORT: Final = 2
"""Bytes of a word that stays."""
TRIES: Final = 1000

_HEX = "[0-9A-Fa-f]"
_PAIR, _PAIRS = rf"{_HEX}{{2}}", rf"(?:{_HEX}{{2}}\1)"
_MAC = re.compile(rf"(?<![^\W_]){_PAIR}([-:._ ]){_PAIRS}{{4}}{_PAIRS}{{0,2}}{_PAIR}(?![^\W_])")
_UUID = re.compile(rf"(?<![^\W_]){_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}(?![^\W_])")
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.])")
_PARTS = re.compile(rf"{_UUID.pattern}|{_MAC.pattern}|{_IPV4.pattern}|[^\W_]+")
_HEXADECIMAL = re.compile(rf"{_HEX}+")
_INTERFACE_MAC = re.compile(rf"{_HEX}{{12}}\Z")  # as "enx" and a MAC: systemd.net-naming-scheme(7)
_CONTROL = re.compile(r"[\0-\x1f\x7f]")
_PADDING = "\0\t\n\r"
_EUI48, _EUI64, _TAIL = 12, 16, 6
_GREEK = "αβγδεζηθικλμνξοπρστυφχψω"


class Unreadable(ValueError):
    """A packet is no DNS message, so that what is in it cannot be replaced."""


class Pseudonyms:
    """The replacements of one recording.

    key: secret bytes; with the same ones, the same is replaced by the same.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._words: dict[str, str] = {}
        self._used: set[str] = set()
        self._addresses: dict[str, str] = {}

    def text(self, text: str) -> str:
        """Return a text with its words replaced; it has as many bytes."""
        return _PARTS.sub(lambda found: self._part(found[0]), text)

    def address(self, text: str) -> str:
        """Return the replacement of an IP address, with its scope.  Raises ValueError."""
        if text not in self._addresses:
            bare, _, scope = text.partition("%")
            one = ipaddress.ip_address(bare)
            packed = self.packed(one.packed)
            made = str(ipaddress.ip_address(packed))
            self._addresses[text] = f"{made}%{self.interface(scope)}" if scope else made
        return self._addresses[text]

    def interface(self, name: str) -> str:
        """Return the name of an interface, with the MAC replaced that it may be named by."""
        return _INTERFACE_MAC.sub(lambda found: self._word(found[0]), name)

    def octets(self, raw: bytes) -> bytes:
        """Return the replacement of a label or a value, with as many bytes.

        Of what is no text, each byte is replaced, and what is made is no text either.
        """
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            return self._binary(raw)
        if not _CONTROL.search(text.rstrip(_PADDING)):
            return self.text(text).encode()
        rng = self._rng(f"octets {raw.hex()}")
        return "".join(one if one in _PADDING else _odd(one, rng) for one in text).encode()

    def _binary(self, raw: bytes) -> bytes:
        made = raw
        for attempt in range(TRIES):
            rng = self._rng(f"octets {attempt} {raw.hex()}")
            made = bytes(one & 0x80 | rng.getrandbits(7) for one in raw)
            if "\ufffd" in made.decode(errors="replace"):
                break
        return made

    def packed(self, raw: bytes) -> bytes:
        """Return the replacement of an IP address in its 4 or 16 bytes."""
        one = ipaddress.ip_address(raw)
        if one.is_multicast or one.is_loopback or one.is_unspecified:
            return raw
        return self._ipv4(raw) if isinstance(one, ipaddress.IPv4Address) else self._ipv6(raw)

    def _part(self, part: str) -> str:
        if _UUID.fullmatch(part) or _MAC.fullmatch(part):
            separator = part[8] if _UUID.fullmatch(part) else part[2]
            bare = self._word(part.replace(separator, ""))
            digits = iter(bare)
            return "".join(one if one == separator else next(digits) for one in part)
        if _IPV4.fullmatch(part):
            return re.sub(r"\d", "0", part)  # another address may be longer
        return self._word(part)

    def _word(self, word: str) -> str:
        lower = "".join(map(_lower, word))
        if _length(word) <= SHORT or len(set(lower)) == 1:
            return word
        made = self._made(lower)
        return "".join(
            new.upper() if old.isupper() and old.isascii() else new
            for old, new in zip(word, made, strict=True)
        )

    def _made(self, lower: str) -> str:
        """Return the replacement of a word in lower case."""
        if _HEXADECIMAL.fullmatch(lower):
            if len(lower) == _EUI48:
                return lower[:_TAIL] + self._unique(lower[_TAIL:])
            if len(lower) == _EUI64 and lower[_TAIL : _TAIL + 4] == "fffe":
                return lower[: _TAIL + 4] + self._unique(lower[_TAIL + 4 :])
        return self._unique(lower)

    def _unique(self, lower: str) -> str:
        if lower not in self._words:
            made = lower
            for attempt in range(TRIES):
                made = self._drawn(lower, attempt)
                if made not in self._used:
                    break
            self._words[lower] = made
            self._used.add(made)
        return self._words[lower]

    def _drawn(self, lower: str, attempt: int) -> str:
        rng = self._rng(f"word {attempt} {lower}")
        letters = "abcdef" if _HEXADECIMAL.fullmatch(lower) else "abcdefghijklmnopqrstuvwxyz"
        return "".join(_like(one, letters, rng) for one in lower)

    def _rng(self, about: str) -> random.Random:
        digest = hmac.digest(self._key, about.encode(errors="surrogatepass"), hashlib.sha256)
        return random.Random(digest)  # noqa: S311  # the key makes its seed secret, and one name has to give one replacement

    def _bit(self, prefix: int, length: int) -> int:
        return self._rng(f"bit {length} {prefix}").getrandbits(1)

    def _network(self, value: int, length: int, kept: int) -> int:
        """Return the first bits of an address, replaced so that networks stay networks."""
        made = value
        for at in range(kept, length):
            made ^= self._bit(value >> (length - at), at) << (length - at - 1)
        return made

    def _ipv4(self, raw: bytes) -> bytes:
        prefix = self._network(int.from_bytes(raw[:3]), 24, 16)
        hosts = list(range(1, 255))
        self._rng(f"hosts {raw[:3].hex()}").shuffle(hosts)
        host = hosts[raw[3] - 1] if 0 < raw[3] <= len(hosts) else raw[3]
        return prefix.to_bytes(3) + bytes([host])

    def _ipv6(self, raw: bytes) -> bytes:
        local = ipaddress.IPv6Address(raw).is_link_local
        prefix = raw[:8] if local else self._network(int.from_bytes(raw[:8]), 64, 16).to_bytes(8)
        host = raw[8:]
        if host[3:5] == b"\xff\xfe":  # made of a MAC: RFC 4291, appendix A
            return prefix + host[:5] + bytes.fromhex(self._unique(host[5:].hex()))
        if not any(host[:6]):
            return prefix + host
        return prefix + self._rng(f"host {host.hex()}").randbytes(8)


def _length(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def _lower(one: str) -> str:
    """Return a character in lower case, unless that takes another number of bytes."""
    lower = one.lower()
    return lower if _length(lower) == _length(one) else one


def _odd(one: str, rng: random.Random) -> str:
    """Return a character that prints or not, as another does, and has as many bytes."""
    if not one.isascii():
        return _like(one, "", rng)
    return chr(rng.randrange(1, 32) if _CONTROL.match(one) else rng.randrange(33, 127))


def _like(one: str, letters: str, rng: random.Random) -> str:
    """Return a character of the same kind that has as many bytes."""
    if one.isascii():
        return rng.choice("0123456789" if one.isdigit() else letters)
    first = {3: 0x4E00, 4: 0x20000}.get(_length(one))  # CJK ideographs
    return rng.choice(_GREEK) if first is None else chr(first + rng.randrange(256))


class Anonymizer:
    """The replacement of what events hold.

    pseudonyms: those of the recording.  keep: TXT keys whose values stay as they are.
    """

    def __init__(self, pseudonyms: Pseudonyms, keep: Collection[str] = ()) -> None:
        self._names = pseudonyms
        self._keep = {one.lower().encode() for one in keep}

    def field(self, name: str, value: object) -> object:
        """Return the replacement of one field of an event."""
        if name == "reason" or not isinstance(value, str):
            return value
        if name == "interface":
            return self._names.interface(value)
        return " ".join(map(self._member, value.split(" ")))

    def packet(self, raw: bytes) -> bytes:
        """Return a DNS message with the same structure, and other names.  Raises Unreadable."""
        made = bytearray(raw)
        try:
            self._message(raw, made)
        except (struct.error, IndexError) as error:
            raise Unreadable("it is no DNS message") from error
        return bytes(made)

    def _member(self, text: str) -> str:
        bare, slash, length = text.partition("/")
        try:
            return self._names.address(bare) + slash + length
        except ValueError:
            return self._names.text(text)

    def _message(self, raw: bytes, made: bytearray) -> None:
        _, _, questions, *counts = _HEADER.unpack_from(raw)
        at = _HEADER.size
        for _ in range(questions):
            at = self._name(raw, made, at) + 4
        for _ in range(sum(counts)):
            at = self._name(raw, made, at)
            kind, _, _, length = _RECORD.unpack_from(raw, at)
            at += _RECORD.size
            if at + length > len(raw):
                raise Unreadable("a record is cut")
            self._data(raw, made, kind, at, at + length)
            at += length
        made[at:] = bytes(len(raw) - at)  # what follows is of nothing

    def _data(self, raw: bytes, made: bytearray, kind: int, at: int, end: int) -> None:
        """Replace the data of one record."""
        if kind in (PTR, CNAME):
            self._name(raw, made, at)
        elif kind == SRV:
            self._name(raw, made, at + SERVICE)
        elif kind == NSEC:
            self._name(raw, made, at)
        elif (kind, end - at) in ((A, 4), (AAAA, 16)):
            made[at:end] = self._names.packed(raw[at:end])
        elif kind == TXT:
            self._strings(raw, made, at, end)
        else:
            made[at:end] = bytes(end - at)

    def _strings(self, raw: bytes, made: bytearray, at: int, end: int) -> None:
        while at < end:
            last = min(at + 1 + raw[at], end)  # the last string may be cut
            key, equals, value = raw[at + 1 : last].partition(b"=")
            if key.lower() not in self._keep:
                replaced = self._names.octets
                shown = key + equals + replaced(value) if equals else replaced(key)
                made[at + 1 : last] = shown
            at = last

    def _name(self, raw: bytes, made: bytearray, at: int) -> int:
        """Replace the labels of a name; return where it ends."""
        labels = [label.lower() for _, label in _labels(raw, at)]
        reverse = labels[-1:] == [b"arpa"]
        own = _labels(raw, at, follow=False)
        for (start, label), after in zip(own, [*labels[1:], b""], strict=False):
            if not _is_common(label.lower(), after):
                shown = b"0" * len(label) if reverse else self._names.octets(label)
                made[start : start + len(label)] = shown
            at = start + len(label)
        return at + (2 if raw[at] >= POINTER else 1)


def _is_common(label: bytes, after: bytes) -> bool:
    """Whether a label says nothing of a device.  after: the label that follows it; both lower."""
    if label in DOMAINS or label in PROTOCOLS or label == SUBTYPE:
        return True
    return label.startswith(b"_") and after in PROTOCOLS


def _labels(raw: bytes, at: int, *, follow: bool = True) -> Iterator[tuple[int, bytes]]:
    """Yield the labels of a name, each with where it begins.

    follow: pointers; or end at the first.  Raises Unreadable, IndexError.
    """
    for _ in range(MAX_LABELS):
        length = raw[at]
        if length == 0 or (length >= POINTER and not follow):
            return
        if length >= POINTER:
            at = (length & ~POINTER) << 8 | raw[at + 1]
            continue
        if at + 1 + length > len(raw):
            raise Unreadable("a label is cut")
        yield at + 1, raw[at + 1 : at + 1 + length]
        at += 1 + length
    raise Unreadable("a name has no end")
