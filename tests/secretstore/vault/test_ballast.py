"""The room that is kept for a full disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatewayd.errors import StoreUnavailable
from gatewayd.secretstore.vault.ballast import SIZE, Ballast


def test_room_is_put_aside_and_given_up_once(tmp_path: Path) -> None:
    path = tmp_path / "reserve"
    reserve = Ballast(path)
    assert not reserve.free()
    reserve.fill()
    reserve.fill()
    assert path.stat().st_blocks * 512 >= SIZE
    assert reserve.free()
    assert not reserve.free()
    assert not path.exists()


def test_a_reserve_half_made_is_completed(tmp_path: Path) -> None:
    (tmp_path / "reserve").write_bytes(b"")
    Ballast(tmp_path / "reserve").fill()
    assert (tmp_path / "reserve").stat().st_size == SIZE


def test_a_link_is_no_reserve(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(SIZE))
    (tmp_path / "reserve").symlink_to("large")
    with pytest.raises(StoreUnavailable):
        Ballast(tmp_path / "reserve").fill()
    assert not (tmp_path / "reserve").is_symlink()


def test_a_directory_that_is_gone_is_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        Ballast(tmp_path / "nowhere/reserve").fill()
