"""Acknowledgements leave in order, reading is bounded, and what a door publishes is, too."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gatewayd.messages.doors.held import (
    MOST_BYTES,
    MOST_HELD,
    RESUME_AT,
    HeldAcknowledgements,
    ReadBudget,
)
from gatewayd.messages.doors.outgoing import (
    MAX_RECEIPTS,
    WINDOW,
    OutgoingMessage,
    OutgoingMessages,
)


@given(st.lists(st.integers(0, 3), max_size=40), st.randoms(use_true_random=False))
def test_acknowledgements_leave_in_the_order_of_arrival(packets: list[int], random: object) -> None:
    held = HeldAcknowledgements()
    all_held = [held.hold(packet) for packet in packets]
    order = list(range(len(packets)))
    random.shuffle(order)  # type: ignore[attr-defined]  # a random.Random
    acknowledged: list[int] = []
    settled: set[int] = set()
    for index in order:
        acknowledged += held.settle(all_held[index])
        settled.add(index)
        first = next((n for n in range(len(packets)) if n not in settled), len(packets))
        assert acknowledged == [one for one in packets[:first] if one]
    assert len(held) == 0


def test_reading_pauses_for_messages_or_bytes_and_goes_on_at_half() -> None:
    budget = ReadBudget()
    for _ in range(MOST_HELD):
        budget.add(10)
    assert not budget.is_used_up
    budget.add(10)
    assert budget.is_used_up
    while budget.count > RESUME_AT:
        assert not budget.has_room
        budget.remove(10)
    assert budget.has_room
    for size in (MOST_BYTES // 2, MOST_BYTES // 2):
        budget.add(size)
    assert budget.is_used_up
    budget.remove(MOST_BYTES // 2)
    assert not budget.is_used_up
    assert not budget.has_room


def receipt(number: int) -> OutgoingMessage:
    return OutgoingMessage(f"r/{number}", b"stored")


def status(topic: str, payload: bytes) -> OutgoingMessage:
    return OutgoingMessage(topic, payload, retained=True)


def taken(outgoing: OutgoingMessages, window: int = WINDOW) -> list[tuple[int, OutgoingMessage]]:
    found = []
    while (following := outgoing.next(window, 0.0)) is not None:
        found.append(following)
    return found


def test_no_more_is_in_flight_than_the_broker_allows() -> None:
    outgoing = OutgoingMessages()
    for number in range(5):
        outgoing.add_receipt(receipt(number))
    first = taken(outgoing, 2)
    assert [message for _, message in first] == [receipt(0), receipt(1)]
    outgoing.acknowledged(first[0][0])
    outgoing.acknowledged(first[0][0])  # a second time it means nothing
    ((packet, message),) = taken(outgoing, 2)
    assert message == receipt(2)
    assert packet not in (one for one, _ in first[1:])
    assert not taken(outgoing, 0)


def test_a_status_takes_the_place_of_an_older_one() -> None:
    outgoing = OutgoingMessages()
    for payload in (b"1", b"2"):
        outgoing.set_status(status("c/x/down/status", payload))
    outgoing.set_status(status("c/y/down/status", b"1"))
    outgoing.add_receipt(receipt(1))
    assert [message for _, message in taken(outgoing)] == [
        receipt(1), status("c/x/down/status", b"2"), status("c/y/down/status", b"1"),
    ]  # fmt: skip


def test_what_was_in_flight_leaves_again_unless_a_newer_status_has_come() -> None:
    outgoing = OutgoingMessages()
    outgoing.add_receipt(receipt(1))
    outgoing.set_status(status("s", b"old"))
    outgoing.set_status(status("t", b"1"))
    taken(outgoing)
    outgoing.add_receipt(receipt(2))
    outgoing.set_status(status("s", b"new"))
    outgoing.lost()
    again = [message for _, message in taken(outgoing)]
    assert again[:2] == [receipt(1), receipt(2)]
    assert set(again[2:]) == {status("s", b"new"), status("t", b"1")}


def test_of_too_many_receipts_the_oldest_are_dropped() -> None:
    outgoing = OutgoingMessages()
    for number in range(MAX_RECEIPTS + 3):
        outgoing.add_receipt(receipt(number))
    assert outgoing.dropped == 3
    _, oldest = taken(outgoing)[0]
    assert oldest == receipt(3)


def test_identifiers_come_round_without_those_in_flight() -> None:
    outgoing = OutgoingMessages()
    outgoing.add_receipt(receipt(0))
    ((kept, _),) = taken(outgoing)
    seen = set()
    for number in range(70_000):
        outgoing.add_receipt(receipt(number))
        ((packet, _),) = taken(outgoing)
        outgoing.acknowledged(packet)
        seen.add(packet)
    assert seen == set(range(1, 65536)) - {kept}
