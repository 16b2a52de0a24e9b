"""A secret goes to gatewayd alone, and only from the directory of encrypted credentials."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from gatewayd.cli import pass_secret
from gatewayd.cli.pass_secret import command, requested
from gatewayd.cli.setup.plan import SOCKET

TOP = Path(__file__).parents[2]
PEER = b"\0b5b1ec3bd8a3e3a4/unit/gatewayd.service/"


def test_systemd_names_the_credential_in_its_address() -> None:
    assert requested(PEER + b"product.a1Xy9Zk3Q7f") == "product.a1Xy9Zk3Q7f"
    assert command("x")[1:] == ["--name=x", "decrypt", "/etc/credstore.encrypted/x", "-"]


@pytest.mark.parametrize(
    "peer",
    [
        b"", "", PEER, PEER + b"../shadow", PEER + b"a/b", PEER + b"..", PEER + b".",
        PEER + b"a\0b", PEER + b"\xff", PEER + b"x" * 300,
        b"\0b5b1ec3bd8a3e3a4/unit/other.service/product",
        b"/run/x/unit/gatewayd.service/product", b"\0zz/unit/gatewayd.service/product",
    ],
)  # fmt: skip
def test_no_other_request_is_served(peer: bytes | str) -> None:
    assert requested(peer) == ""


def test_a_connection_of_another_program_gets_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        client.connect(path)
        connection, _ = listener.accept()
        with connection:
            done = subprocess.run(
                [sys.executable, "-m", pass_secret.__name__], check=False,
                stdin=connection.fileno(), stdout=connection.fileno(), stderr=subprocess.PIPE,
            )  # fmt: skip
        assert (done.returncode, b"gatewayd.service" in done.stderr) == (1, True)
        assert client.recv(64) == b""


def test_a_connection_of_systemd_becomes_systemd_creds(tmp_path: Path) -> None:
    program = tmp_path / "systemd-creds"
    program.write_text('#!/bin/sh\nprintf "%s " "$@"\n')
    program.chmod(0o755)
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        client.bind(PEER[:9] + os.urandom(4).hex().encode() + PEER[17:] + b"product.x")
        client.connect(path)
        connection, _ = listener.accept()
        with connection:
            subprocess.run(
                [sys.executable, "-m", pass_secret.__name__], check=True,
                stdin=connection.fileno(), stdout=connection.fileno(),
                env={**os.environ, "PATH": str(tmp_path)},
            )  # fmt: skip
        assert client.recv(256).decode().split() == command("product.x")[1:]


def test_the_units_and_setup_mean_the_same_socket() -> None:
    units = {}
    for name in ("gatewayd-secret.socket", "gatewayd-secret@.service"):
        parser = ConfigParser(interpolation=None, strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]  # as its manual says
        parser.read(TOP / "systemd" / name)
        units[name] = parser
    assert units["gatewayd-secret.socket"]["Socket"]["ListenStream"] == SOCKET
    assert units["gatewayd-secret.socket"]["Socket"]["SocketMode"] == "0600"
    ran = units["gatewayd-secret@.service"]["Service"]["ExecStart"]
    assert ran.split()[-2:] == ["-m", pass_secret.__name__]
