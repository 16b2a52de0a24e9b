"""The kernel makes of our requests what nft makes of the same rules in text."""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import pytest

from gatewayd.messages.broker import nftables
from gatewayd.messages.broker.connection_limit import REMOVED, TABLE, main, requests
from gatewayd.messages.broker.nftables import NftablesError, acknowledgements, attribute
from tests.integration.lan import namespaces

RULES = r"""table inet {table} {{
    set addresses4 {{ type ipv4_addr; size 65535; flags dynamic; }}
    set addresses6 {{ type ipv6_addr; size 65535; flags dynamic; }}
    chain input {{
        type filter hook input priority filter; policy accept;
        tcp dport 8883 tcp flags & (syn | ack) == syn jump new_connection
        tcp dport 8884 tcp flags & (syn | ack) == syn jump new_connection
    }}
    chain new_connection {{
        meta l4proto tcp ct state new \
            add @addresses4 {{ ip saddr ct count over 64 }} \
            reject with tcp reset
        meta l4proto tcp ct state new \
            add @addresses6 {{ ip6 saddr ct count over 64 }} \
            reject with tcp reset
    }}
}}
"""
LIMITER = (sys.executable, "-m", "tests.messages.broker.limiter")


def _listed(inside: tuple[str, ...], table: str) -> list[Any]:
    """Return what nft lists of a table, without its name, its owner and its numbers."""
    ran = subprocess.run(
        [*inside, "nft", "--json", "list", "table", "inet", table],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    text = ran.stdout.replace(table, TABLE)
    found = [one for one in json.loads(text)["nftables"] if "metainfo" not in one]
    for one in found:
        for facts in one.values():
            facts.pop("handle", None)
            if "table" in one:
                facts.pop("flags", None)
    return found


@pytest.mark.namespace
def test_the_kernel_has_the_rules_of_the_text_as_long_as_the_socket_lives() -> None:
    with namespaces() as (inside, _):
        command = [*inside, *LIMITER, "64", "8884", "8883"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as limiter:
            assert limiter.stdout is not None
            assert limiter.stdout.readline() == "limited\n"
            subprocess.run(
                [*inside, "nft", "-f", "-"], input=RULES.format(table="by_text"), text=True,
                check=True,
            )  # fmt: skip
            assert _listed(inside, TABLE) == _listed(inside, "by_text")
            subprocess.run([*inside, "nft", "flush", "ruleset"], check=True)
            assert _listed(inside, TABLE)  # it is the socket's alone
            limiter.communicate("")
        tables = subprocess.run(
            [*inside, "nft", "list", "tables"], check=True, capture_output=True, text=True
        )
        assert tables.stdout == ""


def _answer(sequence: int, code: int, length: int = 36) -> bytes:
    return struct.pack("=IHHIIi16x", length, 2, 0, sequence, 0, -code)


class _Kernel:
    """A kernel that answers a batch in its own way, at the other end of a pair of sockets."""

    def __init__(self, *answers: bytes) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for one in answers:
            self.theirs.send(one)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ours.close()
        self.theirs.close()


def test_every_answer_is_read_before_a_refusal_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """What were left unread would start the unit again, as systemd watches the socket."""
    with _Kernel(_answer(1, errno.EBUSY)) as kernel:  # of a request before
        batch = [REMOVED, REMOVED]
        monkeypatch.setattr(nftables, "SECONDS", 60.0)
        send = kernel.ours.send

        class Answered(socket.socket):
            """A socket whose kernel answers as soon as it is asked."""

            def send(self, data: Any, flags: int = 0) -> int:
                kernel.theirs.send(_answer(1, errno.EPERM) + _answer(2, 0))
                return send(data, flags)

        with Answered(fileno=os.dup(kernel.ours.fileno())) as sock:
            with pytest.raises(NftablesError, match="not permitted") as refused:
                nftables.apply(sock, batch)
            assert refused.value.code == errno.EPERM
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(1)


def test_a_kernel_that_does_not_answer_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nftables, "SECONDS", 0.05)
    with _Kernel() as kernel, pytest.raises(NftablesError, match="no answer"):
        nftables.apply(kernel.ours, [REMOVED])


def test_an_answer_that_is_no_message_is_refused() -> None:
    with pytest.raises(NftablesError):
        list(acknowledgements(_answer(1, 0, length=3) + _answer(2, 0)))


def test_attributes_are_padded_and_nested() -> None:
    assert attribute(1, b"\x06") == bytes.fromhex("0500010006000000")
    assert attribute(2, "a") == bytes.fromhex("0600020061000000")
    assert attribute(4, ((1, 1),)) == bytes.fromhex("0c0004800800010000000001")


def test_without_a_right_over_the_firewall_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "limit.json"
    file.write_text('{"ports": [1], "connections": 4}')
    with _Kernel() as kernel:
        monkeypatch.setattr(
            "gatewayd.messages.broker.connection_limit.passed_sockets",
            lambda *_: [("", kernel.ours.dup())],
        )

        def refuses(*_: object) -> None:
            raise NftablesError(errno.EPERM)

        monkeypatch.setattr(nftables, "apply", refuses)
        assert main([str(file)], {}, 1) == 1
    assert "Failed to limit the connections of an address: nftables: Operation not permitted" in (
        capsys.readouterr().err
    )


def test_nothing_is_asked_for_without_a_limit_or_a_port() -> None:
    assert requests([], 4) == requests([1], 0) == ()
