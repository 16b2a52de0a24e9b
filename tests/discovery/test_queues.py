"""What is due, and when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gatewayd.discovery.queues import Agenda


@given(st.lists(st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(0, 99)))))
def test_each_key_is_due_once_at_its_newest_moment(
    steps: list[tuple[int, int | None]],
) -> None:
    agenda = Agenda[int]()
    model: dict[int, int] = {}
    for key, moment in steps:
        if moment is None:
            agenda.discard(key)
            model.pop(key, None)
        else:
            agenda.put(key, moment)
            model[key] = moment
    assert len(agenda) == len(model)
    for now in range(100):
        due = set()
        while (key_due := agenda.pop(now)) is not None:
            due.add(key_due)
        assert due == {key for key, moment in model.items() if moment == now}
        assert agenda.next() == min((m for m in model.values() if m > now), default=None)


def test_moments_that_are_void_do_not_pile_up() -> None:
    agenda = Agenda[str]()
    for n in range(10_000):
        agenda.put("x", 1e6 + n)
    assert len(agenda._heap) < 100
    assert agenda.pop(1e6 + 9_998) is None
    assert agenda.pop(1e6 + 9_999) == "x"
