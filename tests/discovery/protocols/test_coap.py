"""CoAP: captured answers, hostile ones, blocks, directories, and what aiocoap reads of the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiocoap
import pytest
from aiocoap.numbers import codes, types
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.device.identity import Claim
from gatewayd.discovery.probing.protocol import Datagram, Found, Own, Probe, UnreadableAnswer
from gatewayd.discovery.protocols.coap.discoverer import (
    DIRECTORY,
    GROUPS,
    LIST,
    MAX_DIRECTORIES,
    PORT,
    CoapProtocol,
    IdentityResource,
)
from gatewayd.discovery.protocols.coap.messages import (
    LINK_FORMAT,
    MAX_LINKS,
    Block,
    get,
    parse_links,
    parse_response,
)
from tests.support.reportable import assert_reportable

VECTORS = {
    one["id"]: one for one in json.loads((Path(__file__).parent / "vectors/coap.json").read_text())
}
CAPTURED = bytes.fromhex(VECTORS["coap-01"]["hex"])
TOKEN = b"\1\2\3\4\5\6\7\x08"
SENDER, OWN = "10.0.0.2", Own("10.0.0.1", 40000)
ROOT = '</>;title="Meter 7",</t>;rt="temperature-c ucum:Cel";if="core.s"'
LOOKUP = VECTORS["coap-02"]["text"]
NODES = (
    '</reg/1/>;ep="node1";base="coap://[2001:db8::7]";et="meter";rt="core.rd-ep",'
    '</reg/2/>;ep="node2";d="hall";base="coap://10.0.0.9";rt="core.rd-ep"'
)


def reply(
    payload: bytes | str, *, code: Any = codes.CONTENT, content_format: int | None = LINK_FORMAT,
    block: tuple[int, bool, int] | None = None, etag: bytes = b"", token: bytes = TOKEN,
) -> bytes:  # fmt: skip
    """Return a response as aiocoap writes it.  block: number, whether there is more, exponent."""
    body = payload.encode() if isinstance(payload, str) else payload
    message = aiocoap.Message(code=code, payload=body)
    message.mtype, message.mid, message.token = types.NON, 7, token
    message.opt.content_format = content_format
    message.opt.block2 = block
    message.opt.etag = etag or None
    return bytes(message.encode())


def read(message: bytes, protocol: CoapProtocol | None = None) -> list[Found]:
    news = (protocol or CoapProtocol()).read(Datagram(message, SENDER, PORT, asked=(TOKEN,)))
    return [one for one in news if isinstance(one, Found)]


def answered(question: bytes) -> aiocoap.Message:
    return aiocoap.Message.decode(question)


class Device:
    """A device that is asked: an `Enquiry`.  It answers in blocks of 64 bytes.

    resources: the content format and the body of each path.  lost: which questions are lost.
    """

    def __init__(self, resources: Mapping[str, tuple[int | None, str]], *lost: int) -> None:
        self.address, self.own, self.interface = SENDER, OWN, "lan0"
        self.asked: list[str] = []
        self.etag: Callable[[int], bytes] = lambda _: b"v1"
        self.cut = 64
        self._resources, self._lost, self._tokens = resources, lost, 0

    def token(self) -> bytes:
        self._tokens += 1
        return self._tokens.to_bytes(8, "big")

    async def ask(
        self, probe: Probe, seconds: float, wanted: Callable[[Datagram], bool] = lambda _: True
    ) -> Datagram | None:
        asked = answered(probe.payload)
        path = "/" + "/".join(asked.opt.uri_path)
        self.asked.append(path)
        if len(self.asked) - 1 in self._lost:
            return None
        number = asked.opt.block2.block_number if asked.opt.block2 else 0
        message = self._answer(path, number, probe.token)
        stray = Datagram(reply("</x>", token=b"another"), SENDER, PORT)
        assert not wanted(stray)
        assert wanted(Datagram(message, SENDER, PORT))
        return Datagram(message, SENDER, PORT)

    async def connect(self, port: int) -> Any:
        raise AssertionError("there is nothing to be had by TCP")

    def _answer(self, path: str, number: int, token: bytes) -> bytes:
        if path not in self._resources:
            return reply("", code=codes.NOT_FOUND, content_format=None, token=token)
        content_format, text = self._resources[path]
        body, start = text.encode(), number * 64
        part = body[start : start + self.cut]
        block = (number, start + 64 < len(body), 2)
        return reply(part, content_format=content_format, block=block, etag=self.etag(number),
                     token=token)  # fmt: skip


async def enquire(device: Device, protocol: CoapProtocol | None = None) -> Sequence[Found]:
    (found,) = read(reply(ROOT))
    return await (protocol or CoapProtocol()).enquire(found, device)


def long_list(count: int) -> str:
    return ",".join(f"</sensors/{n}>;rt=s{n}" for n in range(count))


def test_a_captured_answer_shows_its_links() -> None:
    expected = VECTORS["coap-01"]["expect"]
    answer = parse_response(CAPTURED, [bytes.fromhex(expected["token"])])
    assert (answer.content_format, answer.block) == (expected["content_format"], None)
    links = parse_links(answer.payload)
    assert [one.target for one in links] == expected["links"]
    assert links[1].about == {"if": "clock", "rt": "ticks", "title": "Internal Clock", "ct": "0",
                              "obs": ""}  # fmt: skip


def test_the_links_of_a_directory_have_types() -> None:
    links = parse_links(LOOKUP.encode())
    for link, expected in zip(links, VECTORS["coap-02"]["expect"]["links"], strict=True):
        assert {"href": link.target, "rt": link.types[0], "ct": link.about["ct"]} == expected


def test_a_list_of_resources_describes_a_device_and_identifies_none() -> None:
    (one,) = read(reply(ROOT))
    assert (one.key, one.claims, one.label, one.port) == (SENDER, frozenset(), "Meter 7", PORT)
    assert dict(one.attributes) == {
        "coap.rt": "temperature-c ucum:Cel", "coap.if": "core.s", "coap.title": "Meter 7",
    }  # fmt: skip
    assert not one.is_directory
    assert read(reply(LOOKUP))[0].is_directory


def test_an_empty_list_says_nothing() -> None:
    assert read(reply("", content_format=None)) == []


def test_of_a_list_that_is_cut_nothing_is_matched_and_it_may_be_that_of_a_directory() -> None:
    (one,) = read(reply((long_list(9))[:64], block=(0, True, 2)))
    assert dict(one.attributes) == {}
    assert one.is_directory


def test_the_question_is_the_one_that_a_group_may_be_asked() -> None:
    for group, address in zip(GROUPS, ("10.0.0.1", "fe80::1"), strict=True):
        (probe,) = CoapProtocol().probes(TOKEN, Own(address, 40000))
        asked = answered(probe.payload)
        assert (probe.to, probe.port, probe.token) == (group, PORT, TOKEN)
        assert (asked.mtype, asked.code, asked.token) == (types.NON, codes.GET, TOKEN)
        assert asked.opt.uri_path == (".well-known", "core")
        assert len(probe.payload) == 20 + len(TOKEN) - 1 + 2


@pytest.mark.parametrize(
    ("path", "segments"),
    [
        ("/", ()), ("/rd-lookup/ep", ("rd-lookup", "ep")), ("/ep-lookup/", ("ep-lookup", "")),
        ("/a%2Fb/%C3%BC?x=y", ("a/b", "ü")), (f"/{'n' * 255}", ("n" * 255,)),
    ],
)  # fmt: skip
def test_a_path_is_asked_for_segment_by_segment(path: str, segments: tuple[str, ...]) -> None:
    asked = answered(get(path, TOKEN, queries=("ep=node1", "d=x"), block=Block(300, False, 64)))
    assert asked.opt.uri_path == segments
    assert asked.opt.uri_query == ("ep=node1", "d=x")
    block = asked.opt.block2
    assert (block.block_number, block.more, block.size_exponent) == (300, False, 2)


@pytest.mark.parametrize(
    "path", ["coap://192.0.2.9/rd", "//192.0.2.9", "rd", "", "/a" * 9, f"/{'n' * 256}"]
)
def test_a_path_that_leads_elsewhere_is_not_asked_for(path: str) -> None:
    if path.startswith("//"):  # a path of an empty segment, at the same device
        assert answered(get(path, TOKEN)).opt.uri_path == ("", "192.0.2.9")
        return
    with pytest.raises(UnreadableAnswer):
        get(path, TOKEN)


def test_two_questions_have_two_message_ids() -> None:
    questions = [get("/", TOKEN), get("/a", TOKEN), get("/", TOKEN[::-1])]
    assert len({answered(one).mid for one in questions}) == 3


async def test_a_long_list_is_fetched_in_parts() -> None:
    device = Device({"/.well-known/core": (LINK_FORMAT, long_list(12))}, 0)
    (one,) = await enquire(device)
    assert one.attributes["coap.rt"] == " ".join(f"s{n}" for n in range(12))
    assert len(device.asked) == 1 + -(-len(long_list(12)) // 64)


async def test_what_never_ends_is_not_fetched_to_its_end() -> None:
    device = Device({"/.well-known/core": (LINK_FORMAT, long_list(4000))})
    (one,) = await enquire(device)
    assert len(device.asked) == LIST.parts
    assert one.attributes["coap.rt"].startswith("s0 s1 s2")


async def test_parts_of_two_versions_are_not_put_together() -> None:
    device = Device({"/.well-known/core": (LINK_FORMAT, long_list(12))})
    device.etag = lambda number: bytes((number,))
    with pytest.raises(UnreadableAnswer, match="parts-do-not-fit"):
        await enquire(device)
    device.etag, device.cut = (lambda _: b""), 63
    with pytest.raises(UnreadableAnswer, match="parts-do-not-fit"):
        await enquire(device)


async def test_a_list_of_which_a_part_is_missing_shows_nothing() -> None:
    for lost, asked in (((0, 1), 2), ((2, 3), 4)):
        device = Device({"/.well-known/core": (LINK_FORMAT, long_list(12))}, *lost)
        with pytest.raises(TimeoutError):
            await enquire(device)
        assert len(device.asked) == asked


async def test_a_directory_lists_endpoints_by_name_and_sector() -> None:
    device = Device(
        {"/.well-known/core": (LINK_FORMAT, LOOKUP), "/rd-lookup/ep": (LINK_FORMAT, NODES)}
    )
    protocol = CoapProtocol()
    directory, one, other = await enquire(device, protocol)
    assert directory.key == SENDER
    assert one.claims == {Claim("serial", "coap.ep", "node1")}
    assert other.claims == {Claim("serial", "coap.d", "hall/node2")}
    assert dict(one.attributes) == {
        "serial": "node1", "coap.ep": "node1", "coap.et": "meter",
        "coap.base": "coap://[2001:db8::7]",
    }  # fmt: skip
    assert (other.attributes["coap.d"], other.attributes["serial"]) == ("hall", "hall/node2")
    assert one.is_behind
    assert one.port is None

    (probe,) = protocol.probe_of(SENDER, other.key, TOKEN, OWN)
    asked = answered(probe.payload)
    assert asked.opt.uri_path == ("rd-lookup", "ep")
    assert asked.opt.uri_query == ("ep=node2", "d=hall")
    assert read(reply(NODES), protocol) == [one, other]
    assert await protocol.enquire(one, device) == (one,)


async def test_a_directory_at_another_host_is_not_asked() -> None:
    evil = '<coap://192.0.2.9/ep>;rt="core.rd-lookup-ep"'
    device = Device({"/.well-known/core": (LINK_FORMAT, evil)})
    with pytest.raises(UnreadableAnswer, match="foreign-link"):
        await enquire(device)
    assert set(device.asked) == {"/.well-known/core"}


async def test_only_some_directories_are_remembered() -> None:
    protocol = CoapProtocol()
    for number in range(MAX_DIRECTORIES + 5):
        device = Device({"/.well-known/core": (LINK_FORMAT, LOOKUP), "/rd-lookup/ep": (40, NODES)})
        device.address = f"10.0.1.{number}"
        await enquire(device, protocol)
    for address, path in (("10.0.1.0", ".well-known"), ("10.0.1.68", "rd-lookup")):
        (probe,) = protocol.probe_of(address, "ep=node1", TOKEN, OWN)
        assert answered(probe.payload).opt.uri_path[0] == path


@pytest.mark.parametrize(
    "link",
    ['</1>;rt="core.rd-ep"', '</1>;ep="";rt="core.rd-ep"', f'</1>;ep="{"n" * 64}";rt="core.rd-ep"',
     '</1>;ep="a\x1b[2J";rt="core.rd-ep"', '</1>;ep="a";d="\u202e";rt="core.rd-ep"'],
)  # fmt: skip
def test_an_endpoint_without_a_valid_name_is_none(link: str) -> None:
    assert read(reply(link)) == []


def test_names_and_sectors_of_any_text_are_distinct_identities() -> None:
    pairs = [
        ("a/b", ""),
        ("b", "a"),
        ("b", "a/"),
        ("/b", "a"),
        ("b", "a%2F"),
        ("ü" * 31, "ö ;=" * 12),
    ]
    links = [f'</{n}>;ep="{ep}";d="{d}";rt="core.rd-ep"' for n, (ep, d) in enumerate(pairs)]
    devices = read(reply(",".join(links)))
    assert len({(one.key, *one.claims) for one in devices}) == len(pairs)
    for one in devices:
        assert_reportable(one)


def test_a_placeholder_as_the_name_of_an_endpoint_identifies_nothing() -> None:
    (one,) = read(reply('</1>;ep="test";rt="core.rd-ep"'))
    assert not one.claims
    assert "serial" not in one.attributes


@pytest.mark.parametrize(
    ("kind", "text", "value", "key"),
    [
        ("serial", " SN-0042\n", "sn-0042", "serial"),
        ("uuid", "urn:uuid:2FAC1234-31F8-11B4-A222-08002B34C003",
         "2fac1234-31f8-11b4-a222-08002b34c003", "uuid"),
        ("mac", "00:24:be:80:4f:f1", "0024be804ff1", "coap.mac"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("content_format", [None, 0])
async def test_the_resource_that_the_configuration_names_identifies_a_device(
    kind: str, text: str, value: str, key: str, content_format: int | None
) -> None:
    device = Device({"/.well-known/core": (LINK_FORMAT, ROOT), "/dev/id": (content_format, text)})
    (one,) = await enquire(device, CoapProtocol(IdentityResource(kind, "/dev/id")))
    assert one.claims == {Claim(kind, "coap", value)}
    assert one.attributes[key] == text.strip()
    assert one.key == SENDER


@pytest.mark.parametrize(
    "resource", [None, (0, "a\x1b[2J"), (0, "0000"), (0, ""), (0, "n" * 300), (LINK_FORMAT, "</a>")]
)
async def test_a_device_without_such_a_resource_has_no_identity(
    resource: tuple[int, str] | None,
) -> None:
    there = {"/dev/id": resource} if resource else {}
    device = Device({"/.well-known/core": (LINK_FORMAT, ROOT), **there})
    (one,) = await enquire(device, CoapProtocol(IdentityResource("serial", "/dev/id")))
    assert not one.claims


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (b"", "truncated"),
        (CAPTURED[:5], "unasked"),
        (b"\x90" + reply(ROOT)[1:], "no-coap"),
        (b"\x59" + reply(ROOT)[1:], "no-coap"),
        (b"\x78" + reply(ROOT)[1:], "no-coap"),
        (get("/", TOKEN), "no-coap"),
        (reply(ROOT, token=b"another"), "unasked"),
        (reply("", code=codes.NOT_FOUND, content_format=None), "refusal"),
        (reply(ROOT, code=codes.CHANGED), "refusal"),
        (reply(ROOT, content_format=0), "no-link-format"),
        (reply(ROOT, content_format=None), "no-link-format"),
        (reply(ROOT, block=(1, False, 2)), "parts-do-not-fit"),
        (reply(ROOT)[:13], "truncated"),
        (reply("")[:12] + b"\xd1\x06\x00", "critical-option"),  # an option 19
        (reply("")[:12] + b"\xe1", "truncated"),
        (reply("")[:12] + b"\xf1\x00", "no-coap"),
        (reply("")[:12] + b"\xd1\x0a\x07", "no-coap"),
        (reply("")[:12] + b"\xd4\x0a\0\0\0\0", "no-coap"),
        (reply("")[:12] + b"\0" * 100, "no-coap"),
        (reply("no links"), "no-link-format"),
        (reply(b"\xff\xfe"), "no-link-format"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_resources_is_refused(message: bytes, cause: str) -> None:
    with pytest.raises(UnreadableAnswer) as refused:
        read(message)
    assert refused.value.cause == cause


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ('</a>;title="x, </b>;y",</c>', ["/a", "/c"]),
        ('</a>;title="say \\"x\\"",</b>', ["/a", "/b"]),
        (" </a> ; rt = x , </b>", ["/a", "/b"]), ("</a>;broken\x00,</b>", []),
        ('</a>,</b>;x="y', ["/a"]),
        ("</a>,", ["/a"]), ("</a>,,</b>", ["/a"]), ("<>", [""]), ("</a></b>", []),
    ],
)  # fmt: skip
def test_links_are_read_up_to_the_first_fault(text: str, targets: list[str]) -> None:
    try:
        found = [one.target for one in parse_links(text.encode())]
    except UnreadableAnswer:
        found = []
    assert found == targets


def test_the_last_link_of_what_goes_on_does_not_count() -> None:
    body = b'</a>;rt=x,</b>;title="y, z";rt=b'
    for end in range(10, len(body)):
        links = parse_links(body[:end], has_more=True)
        assert [one.target for one in links] == ["/a"]


def test_links_are_bounded() -> None:
    assert len(parse_links(long_list(3000).encode())) == MAX_LINKS


def test_long_attributes_keep_whole_words() -> None:
    (one,) = read(reply(",".join(f"</{n}>;rt=type-{n:04}" for n in range(60))))
    words = one.attributes["coap.rt"].split()
    assert words == [f"type-{n:04}" for n in range(len(words))]
    assert 20 < len(words) < 30


def links_of(targets: Iterable[tuple[str, Mapping[str, str]]]) -> str:
    quoted = {
        target: ";".join(
            '{}="{}"'.format(key, value.replace("\\", r"\\").replace('"', r"\""))
            for key, value in about.items()
        )
        for target, about in targets
    }
    return ",".join(
        f"<{target}>;{about}" if about else f"<{target}>" for target, about in quoted.items()
    )


TEXTS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x2FF), max_size=20)


@given(
    st.dictionaries(
        st.text("abc/0-", max_size=8).map("/{}".format),
        st.dictionaries(st.sampled_from(["rt", "if", "title", "ep"]), TEXTS, max_size=3),
        max_size=6,
    ),
    st.integers(0, 300),
)
def test_links_that_are_written_are_read_again(made: dict[str, dict[str, str]], cut: int) -> None:
    text = links_of(made.items()).encode()
    found = {one.target: dict(one.about) for one in parse_links(text)}
    assert found == made
    some = parse_links(text[:cut], has_more=True)
    assert [one.target for one in some] == list(made)[: len(some)]
    assert all(dict(one.about) == made[one.target] for one in some)


@given(
    st.binary(max_size=300), st.binary(min_size=1, max_size=8), st.sampled_from(range(7)),
    st.integers(0, 5000), st.booleans(), st.sampled_from([None, 0, 40, 50]),
)  # fmt: skip
def test_aiocoap_writes_what_is_read(
    body: bytes, token: bytes, exponent: int, number: int, more: bool, form: int | None
) -> None:
    message = reply(
        body, token=token, block=(number, more, exponent), content_format=form, etag=b"e"
    )
    answer = parse_response(message, [token])
    assert answer.block == Block(number, more, 16 << exponent)
    assert (answer.payload, answer.content_format, answer.version) == (body, form, b"e")


@given(st.binary(max_size=200), st.integers(0, 120))
def test_no_message_does_more_than_be_refused(junk: bytes, at: int) -> None:
    seed = reply(NODES + "," + ROOT, block=(0, False, 6))
    for message in (
        junk,
        seed[:12] + junk,
        seed[:at] + junk,
        seed[:at] + junk + seed[at + len(junk) :],
    ):
        try:
            devices = read(message)
        except UnreadableAnswer:
            continue
        for one in devices:
            assert_reportable(one)


def test_directories_may_be_longer_than_lists() -> None:
    assert DIRECTORY.size > LIST.size
