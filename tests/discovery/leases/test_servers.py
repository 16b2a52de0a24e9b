"""The files of each server, and how they are read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gatewayd.discovery.leases.lease import Lease
from gatewayd.discovery.leases.servers import MAX_FILE, SERVERS, LeaseServer, read_leases
from tests.discovery.leases.test_formats import DNSMASQ, ISC, KEA_HEAD, MAC, VECTORS, kea

DNSMASQ_FILES, KEA_FILES = SERVERS[LeaseServer.DNSMASQ], SERVERS[LeaseServer.KEA]


def test_every_server_is_known() -> None:
    assert set(SERVERS) == set(LeaseServer)


def test_a_file_is_watched_in_its_directory() -> None:
    path = Path("/var/lib/kea/kea-leases4.csv")
    assert KEA_FILES.place(path, ["lan0"]) == (
        path.parent,
        [f"kea-leases4.csv{suffix}" for suffix in (".2", ".completed", ".1", "")],
    )
    networkd = SERVERS[LeaseServer.NETWORKD]
    assert networkd.place(networkd.path, ["lan0", "lan1", "lan0"]) == (
        networkd.path, ("lan0", "lan1"),
    )  # fmt: skip


def test_what_kea_has_put_aside_is_read_before_its_journal(tmp_path: Path) -> None:
    aside, journal = tmp_path / "leases.2", tmp_path / "leases"
    aside.write_text(KEA_HEAD + kea(name="old") + kea(name="x").replace("0.57", "0.58"))
    journal.write_text(KEA_HEAD + kea(name="new"))
    directory, names = KEA_FILES.place(journal, ())
    read = read_leases(KEA_FILES, [directory / one for one in names], 0)
    assert {one.address: one.hostname for one in read.leases} == {
        "10.77.0.57": "new", "10.77.0.58": "x",
    }  # fmt: skip


def test_a_file_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    read = read_leases(DNSMASQ_FILES, [tmp_path / "leases"], 0)
    assert (read.leases, read.unreadable) == ([], 0)


def test_rows_that_say_nothing_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    path.write_text(f"nonsense\n{DNSMASQ}more\n")
    read = read_leases(DNSMASQ_FILES, [path], 0)
    assert read.leases == [Lease("10.77.0.57", MAC, 1795977509, "plc", f"01{MAC}")]
    assert read.unreadable == 2


LONG = "x" * 1000


def test_of_a_long_file_of_dnsmasq_the_beginning_counts(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    more = "".join(f"0 00:1b:1b:00:{n >> 8:02x}:{n & 255:02x} 10.78.{n >> 8}.{n & 255} {LONG} *\n"
                   for n in range(2000))  # fmt: skip
    path.write_text(DNSMASQ + more)
    read = read_leases(DNSMASQ_FILES, [path], 0)
    assert 900 < len(read.leases) < 1100
    assert read.leases[0].address == "10.77.0.57"
    assert read.unreadable == 1


def test_of_a_long_journal_the_end_counts(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    path.write_text(KEA_HEAD + kea(name=LONG) * 2000 + kea(name="newest"))
    read = read_leases(KEA_FILES, [path], 0)
    assert [one.hostname for one in read.leases] == ["newest"]
    assert read.unreadable == 1


def test_of_a_long_journal_of_isc_a_cut_block_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    path.write_text(ISC * 20_000)
    read = read_leases(SERVERS[LeaseServer.ISC], [path], 0)
    assert [one.address for one in read.leases] == ["10.77.0.57"]
    assert read.unreadable == 1


def test_of_a_long_file_of_networkd_nothing_counts(tmp_path: Path) -> None:
    path = tmp_path / "lan0"
    path.write_text("[" + " " * MAX_FILE + "]")
    read = read_leases(SERVERS[LeaseServer.NETWORKD], [path], 0)
    assert (read.leases, read.unreadable) == ([], 1)


def test_a_pipe_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    os.mkfifo(path)
    with pytest.raises(OSError, match="not a regular file"):
        read_leases(DNSMASQ_FILES, [path], 0)


def test_a_full_file_is_read_in_time(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    path.write_text(VECTORS["dhcp-isc-04"]["text"] * 1500)
    assert 500_000 < path.stat().st_size < MAX_FILE
    assert len(read_leases(SERVERS[LeaseServer.ISC], [path], 0).leases) == 1
