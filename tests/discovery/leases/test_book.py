"""What a reading of lease files shows to be new, and what to be gone."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gatewayd.discovery.leases.book import LeaseBook, LeaseNews
from gatewayd.discovery.leases.lease import MAX_LEASES, NEVER, Lease

NOW = 1000.0
PLC = Lease("10.77.0.57", "001b1b3434cb", NOW + 60, "plc")
LAMP = Lease("10.77.0.58", "240ac40c2f91", NOW + 60, "lamp")


def book(*leases: Lease) -> LeaseBook:
    made = LeaseBook()
    made.update(leases, NOW)
    return made


def test_the_first_reading_finds_leases_of_devices_that_may_be_gone() -> None:
    assert LeaseBook().update([PLC, LAMP], NOW) == LeaseNews(
        found=(
            PLC,
            LAMP,
        )
    )


def test_an_empty_first_reading_is_one() -> None:
    read = book()
    assert read.update([PLC], NOW) == LeaseNews(given=(PLC,))


def test_a_new_a_renewed_and_a_renamed_lease_was_given() -> None:
    read = book(PLC)
    assert read.update([PLC, LAMP], NOW).given == (LAMP,)
    renewed = replace(PLC, ends=NOW + 90)
    assert read.update([renewed, LAMP], NOW).given == (renewed,)
    renamed = replace(renewed, hostname="plc-2")
    assert read.update([renamed, LAMP], NOW).given == (renamed,)
    assert read.update([renamed, LAMP], NOW) == LeaseNews()


def test_a_lease_is_returned_once_it_was_missing_twice() -> None:
    read = book(PLC, LAMP)
    assert read.update([LAMP], NOW) == LeaseNews()
    assert read.is_doubtful
    assert read.at(PLC.address) == PLC
    assert read.update([LAMP], NOW) == LeaseNews(returned=(PLC,))
    assert not read.is_doubtful
    assert read.at(PLC.address) is None


def test_a_lease_that_was_missing_once_is_kept() -> None:
    read = book(PLC)
    assert read.update([], NOW) == LeaseNews()
    assert read.update([PLC], NOW) == LeaseNews()
    assert not read.is_doubtful


def test_a_lease_that_has_ended_is_not_returned() -> None:
    read = book(PLC)
    assert read.update([], NOW + 60) == LeaseNews()
    assert not read.is_doubtful
    assert len(read) == 0


def test_a_device_with_another_address_has_returned_nothing() -> None:
    read, moved = book(PLC), replace(PLC, address="10.77.0.90", ends=NOW + 90)
    assert read.update([moved], NOW).given == (moved,)
    assert read.of(PLC.mac) == [moved, PLC]
    assert read.update([moved], NOW) == LeaseNews()
    assert read.of(PLC.mac) == [moved]


def test_an_address_given_to_another_device_is_its() -> None:
    read, taken = book(PLC), replace(LAMP, address=PLC.address)
    assert read.update([taken], NOW).given == (taken,)
    assert read.of(PLC.mac) == []
    assert read.at(PLC.address) == taken


def test_no_more_are_kept_than_count() -> None:
    many = [Lease(f"10.0.{n >> 8}.{n & 255}", PLC.mac, NEVER) for n in range(MAX_LEASES)]
    read = book(*many)
    read.update([replace(one, address=f"10.1{one.address[4:]}") for one in many], NOW)
    assert len(read) == MAX_LEASES


@given(st.lists(st.lists(st.sampled_from([PLC, LAMP, replace(PLC, ends=NEVER)]), max_size=3)))
def test_what_is_known_is_what_was_read_last_or_is_in_doubt(readings: list[list[Lease]]) -> None:
    read = LeaseBook()
    last: dict[str, Lease] = {}
    for one in readings:
        read.update(one, NOW)
        last = {lease.address: lease for lease in one}
        assert all(read.at(address) == lease for address, lease in last.items())
        assert read.is_doubtful == (len(read) > len(last))
    assert {lease.mac for lease in read.all()} == {
        lease.mac for lease in read.all() if read.of(lease.mac)
    }
