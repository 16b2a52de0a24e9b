"""XML of strangers is read within bounds, and nothing in it is expanded or fetched."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.discovery.probing.protocol import UnreadableAnswer
from gatewayd.discovery.protocols.guarded_xml import MAX_DEPTH, MAX_ELEMENTS, XmlElement, parse

MOST = 64 * 1024
ENTITIES = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
BOMB = f'<!DOCTYPE a [<!ENTITY e0 "x">{ENTITIES}]><a>&e9;</a>'
"""It would expand to a thousand million letters."""


def cause_of(data: bytes, most: int = MOST) -> str:
    with pytest.raises(UnreadableAnswer) as refused:
        parse(data, most)
    return refused.value.cause


def memory_of(call: Callable[[], object]) -> int:
    """Return how many bytes were in use at once, at most, while something ran."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_names_have_their_namespaces() -> None:
    root = parse(b'<a:r xmlns:a="urn:x" xmlns="urn:y"><b k="1" a:k="2"> t </b><b/></a:r>', MOST)
    assert root.name == "{urn:x}r"
    assert [one.name for one in root.children] == ["{urn:y}b", "{urn:y}b"]
    first = root.first("{urn:y}b")
    assert first
    assert first.attributes == {"k": "1", "{urn:x}k": "2"}
    assert root.text_of("{urn:y}b") == "t"
    assert len([*root.named("{urn:y}b")]) == 2
    assert root.first("{urn:y}b", "{urn:y}c") is None
    assert root.text_of("{urn:y}b", "{urn:y}c", "{urn:y}d") == ""


def test_prefixes_are_those_in_scope() -> None:
    root = parse(b'<r xmlns:p="urn:1"><s xmlns:p="urn:2" xmlns=""/><s/></r>', MOST)
    inner, after = root.children
    assert (root.prefixes["p"], inner.prefixes["p"], after.prefixes["p"]) == (
        "urn:1", "urn:2", "urn:1"
    )  # fmt: skip


def test_text_between_children_is_the_own_text() -> None:
    root = parse(b"<r>a<s>b</s>c<!-- d --><![CDATA[<e>]]>&amp;</r>", MOST)
    assert root.text == "ac<e>&"


@pytest.mark.parametrize(
    "document",
    [
        BOMB,
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        '<!DOCTYPE a PUBLIC "-//W3C//DTD X" "http://127.0.0.1/x"><a/>',
        '<!DOCTYPE a [<!ENTITY % p SYSTEM "file:///etc/passwd">%p;]><a/>',
        "<?xml version='1.0'?><!-- x --><!DOCTYPE a><a/>",
    ],
)
def test_a_document_type_is_refused_before_anything_of_it(document: str) -> None:
    causes: list[str] = []
    assert memory_of(lambda: causes.append(cause_of(document.encode()))) < 1 << 20
    assert causes == ["document-type"]


def nested(depth: int) -> bytes:
    return b"<a>" * depth + b"</a>" * depth


def test_so_deep_and_no_deeper() -> None:
    assert parse(nested(MAX_DEPTH), MOST).name == "a"
    assert cause_of(nested(MAX_DEPTH + 1)) == "too-much-xml"


def test_so_many_elements_and_no_more() -> None:
    root = parse(b"<r>" + b"<a/>" * (MAX_ELEMENTS - 1) + b"</r>", MOST)
    assert len(root.children) == MAX_ELEMENTS - 1
    assert cause_of(b"<r>" + b"<a/>" * MAX_ELEMENTS + b"</r>") == "too-much-xml"


def test_so_long_and_no_longer() -> None:
    assert parse(b"<a/>" + b" " * 60, 64).name == "a"
    assert cause_of(b"<a/>" + b" " * 61, 64) == "oversized"


@pytest.mark.parametrize(
    "document",
    [b"", b"<a>", b"<a></b>", b"<a/><b/>", b"<x:a/>", b"<a>&e;</a>", b"<a\0/>", b"no XML",
     '<?xml version="1.0"?><a/>'.encode("utf-16")],
)  # fmt: skip
def test_what_is_not_well_formed_is_refused(document: bytes) -> None:
    assert cause_of(document) == "malformed-xml"


@pytest.mark.parametrize("around", [b"\0", b"\r\n\0", b" \n"])
def test_what_devices_send_around_a_document_is_left_out(around: bytes) -> None:
    assert parse(around + b'<?xml version="1.0"?><a/>' + around, MOST).name == "a"


@pytest.mark.parametrize(
    ("declared", "encoded"),
    [("utf-8", "utf-8"), ("iso-8859-1", "iso-8859-1"), ("utf-8", "iso-8859-1"),
     ("no_such_codec", "utf-8"), ("utf-16", "utf-8"), ("zlib_codec", "iso-8859-1")],
)  # fmt: skip
def test_no_encoding_is_looked_up_by_a_name_that_a_device_chooses(
    declared: str, encoded: str
) -> None:
    document = f'<?xml version="1.0" encoding="{declared}"?><a>K\u00fcche</a>'
    assert parse(document.encode(encoded), MOST).text == "K\u00fcche"


def test_many_namespaces_cost_little() -> None:
    declared = " ".join(f'xmlns:p{n}="u{n}"' for n in range(3000))
    inner = '<a xmlns:q="u"/>' * 100
    document = f"<r {declared}>{inner}</r>".encode()
    parsed: list[XmlElement] = []
    assert memory_of(lambda: parsed.append(parse(document, MOST))) < 4 << 20, (
        "copied for each child"
    )
    assert parsed[0].children[99].prefixes["p2999"] == "u2999"


def elements(root: XmlElement, depth: int = 1) -> Iterator[tuple[XmlElement, int]]:
    yield root, depth
    for child in root.children:
        yield from elements(child, depth + 1)


@given(st.binary(max_size=300) | st.text("<>/ab=\"' &;!?[]-:x", max_size=300).map(str.encode))
def test_whatever_comes_is_read_or_refused(noise: bytes) -> None:
    for data in (noise, b"<r>" + noise + b"</r>"):
        try:
            found = [*elements(parse(data, 512))]
        except UnreadableAnswer:
            continue
        assert len(found) <= MAX_ELEMENTS
        assert max(depth for _, depth in found) <= MAX_DEPTH
