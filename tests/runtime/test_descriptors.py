"""Descriptors of others: a receiver that does not read, and the sockets that systemd passes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gatewayd.runtime.descriptors import FIRST, passed_sockets, write_all


def test_more_than_a_pipe_holds_is_written_to_a_reader() -> None:
    readable, writable = os.pipe()
    read: list[bytes] = []

    def reader() -> None:
        with os.fdopen(readable, "rb") as file:
            read.append(file.read())

    thread = threading.Thread(target=reader)
    thread.start()
    write_all(writable, b"x" * 300_000, 60)
    os.close(writable)
    thread.join()
    assert read == [b"x" * 300_000]


def test_a_receiver_that_does_not_read_is_given_up() -> None:
    readable, writable = os.pipe()
    with pytest.raises(TimeoutError, match="does not read"):
        write_all(writable, b"x" * 300_000, 0.05)
    os.close(readable)
    with pytest.raises(BrokenPipeError):
        write_all(writable, b"x", 0.05)
    os.close(writable)


def test_what_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    opened = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError):  # noqa: PT011  # each kind of it is meant
        write_all(opened, b"x", 0.05)
    os.close(opened)


PASSED = f"""\
import os, sys
from gatewayd.runtime.descriptors import passed_sockets
environ = dict(os.environ) | {{"LISTEN_PID": str(os.getpid())}}
found = passed_sockets(environ, os.getpid())
print([(name, one.getsockname(), os.get_inheritable(one.fileno())) for name, one in found])
assert [one.fileno() for _, one in found] == list(range({FIRST}, {FIRST} + len(found)))
"""


def test_sockets_are_those_of_systemd_by_name(tmp_path: Path) -> None:
    """As it passes them: from the third descriptor on, with their names."""
    made = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    for number, one in enumerate(made):
        one.bind(str(tmp_path / f"s{number}"))
    script = 'exec 3<&"$1" 4<&"$2"; exec "$3" -c "$4"'
    numbers = [str(one.fileno()) for one in made]
    done = subprocess.run(
        ["bash", "-c", script, "bash", *numbers, sys.executable, PASSED],
        env=dict(os.environ) | {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "credentials:credentials@x"},
        pass_fds=[one.fileno() for one in made], check=True, capture_output=True, text=True,
    )  # fmt: skip
    names = zip(("credentials", "credentials@x"), ("s0", "s1"), strict=True)
    assert done.stdout.strip() == str([(n, str(tmp_path / s), False) for n, s in names])
    for one in made:
        one.close()


@pytest.mark.parametrize("environ", [
    {}, {"LISTEN_FDS": "1"}, {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
    {"LISTEN_FDS": "x", "LISTEN_PID": "7"}, {"LISTEN_FDS": "0", "LISTEN_PID": "7"},
])  # fmt: skip
def test_what_is_meant_for_another_process_is_left_alone(environ: dict[str, str]) -> None:
    assert passed_sockets(environ, 7) == []
