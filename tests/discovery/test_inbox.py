"""What waits to be taken in."""

from __future__ import annotations

from gatewayd.discovery.discoverer import Loss, LossReason, Sighting
from gatewayd.discovery.inventory import Inbox, Item


def sighting(key: str, label: str = "") -> Sighting:
    return Sighting("mdns", key, 0, 60, "", (), None, frozenset(), {}, label)


def loss(key: str) -> Loss:
    return Loss("mdns", key, 0, LossReason.GOODBYE)


def test_the_newest_of_a_place_is_taken_in_where_the_first_would_have_been() -> None:
    inbox = Inbox(10)
    for key, label in (("a", "old"), ("b", ""), ("a", "new")):
        inbox.sight(sighting(key, label), 0)
    assert [inbox.pop(), inbox.pop(), inbox.pop()] == [
        Item(sighting("a", "new")), Item(sighting("b")), None,
    ]  # fmt: skip


def test_a_loss_comes_after_the_sighting_and_a_sighting_ends_it() -> None:
    inbox = Inbox(10)
    inbox.sight(sighting("a"), 0)
    inbox.lose(loss("a"), 0)
    inbox.lose(loss("b"), 0)
    inbox.sight(sighting("b"), 0)
    assert inbox.pop() == Item(sighting("a"), loss("a"))
    assert inbox.pop() == Item(sighting("b"))


def test_without_room_the_lowest_rank_goes_first_and_is_counted() -> None:
    inbox = Inbox(2)
    for key, rank in (("a", 1), ("b", 0), ("c", 1), ("d", 0)):
        inbox.sight(sighting(key), rank)
    assert (len(inbox), inbox.overflow) == (2, 2)
    assert [inbox.pop(), inbox.pop()] == [Item(sighting("a")), Item(sighting("c"))]
