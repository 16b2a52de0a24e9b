"""Files that everyone may read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gatewayd.monitoring.public_files import replace_public


def test_a_file_is_replaced_and_readable_whatever_the_umask_is(tmp_path: Path) -> None:
    path = tmp_path / "figures"
    before = os.umask(0o077)
    try:
        replace_public(path, b"old")
        with path.open("rb") as reader:
            replace_public(path, b"new")
            assert reader.read() == b"old"
    finally:
        os.umask(before)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [one.name for one in tmp_path.iterdir()] == ["figures"]


def test_what_could_not_be_put_there_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "full").touch()
    with pytest.raises(OSError, match="directory"):
        replace_public(tmp_path / "figures", b"new")
    assert [one.name for one in tmp_path.iterdir()] == ["figures"]


def test_no_link_is_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"theirs")
    (tmp_path / ".figures.new").symlink_to(target)
    replace_public(tmp_path / "figures", b"ours")
    assert target.read_bytes() == b"theirs"
