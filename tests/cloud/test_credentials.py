"""Secrets that an operator hands in."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from gatewayd.cloud.credentials import MAX_BYTES, GivenSecret, passphrase_in, read_secret
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(mode=0o600)
    path.write_text(" p5Tq0Zx8Wv3Rk1Ls\n")
    return path


def test_a_file_that_only_we_may_read(file: Path) -> None:
    assert read_secret(None, "", file) == Secret(b"p5Tq0Zx8Wv3Rk1Ls")
    file.chmod(0o400)
    assert read_secret(None, "", file) == Secret(b"p5Tq0Zx8Wv3Rk1Ls")


def test_blanks_belong_to_a_passphrase_wherever_it_is_read(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf p5Tq \r\n")
    kept = Secret(b" p5Tq ")
    assert read_secret(None, "", file, passphrase=True) == kept
    assert read_secret(file.parent, "secret", None, passphrase=True) == kept
    assert passphrase_in(file.read_bytes()) == kept.reveal()
    assert read_secret(None, "", file) == Secret(b"p5Tq")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o620, 0o602, 0o601])
def test_a_file_that_others_may_use(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(ConfigError, match=f"chmod 0600 {file}"):
        read_secret(None, "", file)


def test_a_credential_may_show_the_mode_of_its_acl(file: Path) -> None:
    file.chmod(0o440)
    assert read_secret(file.parent, "secret", None) == Secret(b"p5Tq0Zx8Wv3Rk1Ls")


@pytest.mark.parametrize("name", ["..", ".", "../secret", "a/b", "a b", "x" * 256, "-n"])
def test_what_is_no_name_of_a_credential(file: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="must be the name of a systemd credential"):
        read_secret(file.parent / "inner", name, None)


def test_a_service_without_credentials() -> None:
    with pytest.raises(ConfigError, match="LoadCredential=product"):
        read_secret(None, "product", None)


def test_no_place_is_named() -> None:
    with pytest.raises(ConfigError):
        read_secret(None, "", None)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_secret(None, "", tmp_path / "none")
    with pytest.raises(ConfigError, match="not a regular file"):
        read_secret(tmp_path.parent, tmp_path.name, None)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(ConfigError, match="not a regular file"):
        read_secret(None, "", pipe)


@pytest.mark.parametrize("content", [b"", b" \n", b"x" * (MAX_BYTES + 1)])
def test_what_is_no_secret(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="1 to 4096 bytes"):
        read_secret(None, "", file)


def test_a_credential_that_could_not_be_decrypted_is_empty(file: Path) -> None:
    file.write_bytes(b"\n")
    with pytest.raises(ConfigError, match="cannot be decrypted on this machine"):
        read_secret(file.parent, "secret", None)
    file.write_bytes(b"x" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="1 to 4096 bytes"):
        read_secret(file.parent, "secret", None)


async def test_those_who_ask_at_once_share_a_reading() -> None:
    read: list[str] = []
    fault = ConfigError("no such credential")

    def counted(credential: str, _: Path | None) -> Secret:
        read.append(credential)
        if len(read) == 2:
            raise fault
        return Secret(f"{credential}-{len(read)}".encode())

    given = GivenSecret(counted, "product", None)
    first = asyncio.create_task(given.read())
    asked = [asyncio.create_task(given.read()) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    assert await asyncio.gather(*asked) == [Secret(b"product-1")] * 3
    assert first.cancelled()
    failed = await asyncio.gather(given.read(), given.read(), return_exceptions=True)
    assert list(failed) == [fault, fault]
    assert await given.was_replaced(Secret(b"product-1"))
    assert read == ["product"] * 3


async def test_one_who_is_cancelled_while_it_is_read_leaves_no_task() -> None:
    may_end = threading.Event()

    def slow(_: str, __: Path | None) -> Secret:
        may_end.wait()
        return Secret(b"product")

    asked = asyncio.create_task(GivenSecret(slow, "product", None).read())
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait({asked})
    try:
        assert asyncio.all_tasks() == {asyncio.current_task()}
    finally:
        may_end.set()
