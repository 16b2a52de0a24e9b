"""Changes of files, by inotify."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.discovery.kernel.file_changes import FileChanges, FileEvent, parse_events
from gatewayd.runtime.tasks import until_one_ends
from gatewayd.testing.waiting import PATIENCE


def event(mask: int, name: bytes) -> bytes:
    padded = name + b"\0" * (16 - len(name) % 16)
    return struct.pack("=iIII", 1, mask, 0, len(padded)) + padded


def test_events_are_parsed() -> None:
    raw = event(0x2, b"leases") + struct.pack("=iIII", 1, 0x4000, 0, 0) + event(0x8, b"x")
    assert list(parse_events(raw)) == [
        FileEvent(0x2, "leases"), FileEvent(0x4000, ""), FileEvent(0x8, "x"),
    ]  # fmt: skip


@given(st.binary(max_size=200), st.integers(0, 100))
def test_any_bytes_are_borne(raw: bytes, cut: int) -> None:
    list(parse_events(raw))
    whole = event(0x2, b"leases") * 2
    assert len(list(parse_events(whole[:cut]))) <= 2


async def seen(changes: FileChanges) -> None:
    """Return once a change is seen: not at the end of the hour for which it is waited.

    Raises TimeoutError.
    """
    async with asyncio.timeout(PATIENCE):
        await changes.wait(3600.0)


async def test_a_file_that_is_made_written_replaced_and_removed_has_changed(tmp_path: Path) -> None:
    path, other = tmp_path / "leases", tmp_path / "leases.new"
    with FileChanges(tmp_path, ["leases"]) as changes:
        path.write_text("a")
        await seen(changes)
        with path.open("r+") as file:  # in place, and not closed
            file.write("b")
            file.flush()
            await seen(changes)
        await changes.wait(0.1)  # it was closed
        other.write_text("c")
        other.replace(path)
        await seen(changes)
        path.unlink()
        await seen(changes)


async def test_other_files_do_not_count(tmp_path: Path) -> None:
    with FileChanges(tmp_path, ["leases"]) as changes:
        for number in range(200):
            (tmp_path / f"other{number}").write_text("")
        began = asyncio.get_running_loop().time()
        await changes.wait(1.0)
        assert asyncio.get_running_loop().time() - began > 0.9, "to its end"


async def test_a_change_among_those_of_other_files_is_seen(tmp_path: Path) -> None:
    with FileChanges(tmp_path, ["leases"]) as changes:

        async def write() -> None:
            for number in range(1000):
                (tmp_path / f"other{number}").write_text("")
                await asyncio.sleep(0)
            (tmp_path / "leases").write_text("")
            await asyncio.Event().wait()

        await until_one_ends(write(), changes.wait(3600.0))
        assert (tmp_path / "leases").exists()


async def test_a_directory_that_goes_is_an_error(tmp_path: Path) -> None:
    directory = tmp_path / "kea"
    directory.mkdir()
    with FileChanges(directory, ["leases"]) as changes:
        directory.rmdir()
        with pytest.raises(FileNotFoundError, match="the directory is gone"):
            await changes.wait(PATIENCE)


@pytest.mark.parametrize("name", ["none", "file"])
def test_what_is_no_directory_cannot_be_watched(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match=name), FileChanges(tmp_path / name, ["leases"]):
        pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before
