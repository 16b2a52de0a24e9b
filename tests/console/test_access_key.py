"""The access key comes from where no other process can read it, and no error shows any of it."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from gatewayd.console.access_key import (
    MAX_KEY,
    AccessKey,
    key_of_credential,
    key_of_descriptor,
    key_of_file,
    parse_access_key,
)
from gatewayd.device.secret import Secret
from gatewayd.errors import ConsoleError

ID, SECRET = "AKIDEXAMPLE0000000001", "s3cr3t-Key/of+40=characters_0123456789ab"
LINES = f"{ID}\n{SECRET}\n".encode()
KEY = AccessKey(ID, Secret(SECRET.encode()))


@pytest.mark.parametrize("content", [
    LINES,
    f"\ufeff\r\n {ID} \r\n{SECRET}".encode(),
    f'User Name,Access Key Id,Secret Access Key\n"owner",{ID},{SECRET}\n'.encode(),
    f"AccessKey ID,AccessKey Secret\r\n{ID},{SECRET}\r\n".encode(),
])  # fmt: skip
def test_what_the_consoles_hand_out(content: bytes) -> None:
    assert parse_access_key(content, "x") == KEY


def test_a_temporary_key_has_a_token() -> None:
    found = parse_access_key(LINES + b"a.token/of+it==\n", "x")
    assert found.token == Secret(b"a.token/of+it==")


@pytest.mark.parametrize("content", [
    b"", ID.encode(), f"{ID} {SECRET}".encode(), LINES + b"a\nb\n", b"\xff\xfe" + LINES,
    f"{ID}\n{SECRET} x\n".encode(), f"a,b\n{SECRET}\n".encode(), b"x" * (MAX_KEY + 1),
    f"{ID}\n{'x' * 257}".encode(), f'a,b\n"{ID}\n'.encode(), f"{ID}\n\x1b[31m{SECRET}".encode(),
])  # fmt: skip
def test_what_holds_no_key(content: bytes) -> None:
    with pytest.raises(ConsoleError, match="x does not hold one") as error:
        parse_access_key(content, "x")
    assert ID not in str(error.value)
    assert SECRET not in str(error.value)


def test_a_key_is_never_shown() -> None:
    assert SECRET not in repr(KEY)
    with pytest.raises(TypeError):
        pickle.dumps(KEY)


def test_a_descriptor_is_read_to_its_end_and_closed() -> None:
    reading, writing = os.pipe()
    for part in (LINES[:5], LINES[5:]):
        os.write(writing, part)
    os.close(writing)
    assert key_of_descriptor(reading) == KEY
    with pytest.raises(ConsoleError, match=f"file descriptor {reading}: Bad file descriptor"):
        key_of_descriptor(reading)


def test_a_descriptor_that_never_ends_is_read_so_far_only() -> None:
    with (
        Path("/dev/zero").open("rb") as endless,
        pytest.raises(ConsoleError, match="does not hold"),
    ):
        key_of_descriptor(os.dup(endless.fileno()))


def test_a_terminal_would_show_it() -> None:
    ours, theirs = os.openpty()
    with pytest.raises(ConsoleError, match="is a terminal"):
        key_of_descriptor(theirs)
    os.close(ours)
    os.close(theirs)


def test_a_credential_of_systemd(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(LINES)
    assert key_of_credential("key", str(tmp_path)) == KEY
    with pytest.raises(ConsoleError, match="systemd passed no credential key"):
        key_of_credential("key", None)
    with pytest.raises(ConsoleError, match="credential other: No such file"):
        key_of_credential("other", str(tmp_path))
    for name in ("../key", "", ".", "..", "a/b", "a b"):
        with pytest.raises(ConsoleError, match="there cannot be"):
            key_of_credential(name, str(tmp_path))


def test_a_file_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(LINES)
    for mode in (0o640, 0o604, 0o620):
        file.chmod(mode)
        with pytest.raises(ConsoleError, match="mode 0600"):
            key_of_file(file)
    file.chmod(0o600)
    assert key_of_file(file) == KEY


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path, why in ((tmp_path / "pipe", "no regular file"), (tmp_path, "Is a directory|regular"),
                      (tmp_path / "none", "No such file")):  # fmt: skip
        with pytest.raises(ConsoleError, match=why):
            key_of_file(path)
