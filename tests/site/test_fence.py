"""The time after which a gateway that could not renew its lease sends nothing."""

from __future__ import annotations

import time

from gatewayd.site.fence import FENCE, LEASE, RENEW_EVERY, Fence, boot_time


class Boot:
    """A clock that the test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_it_holds_from_the_sending_of_the_last_renewal() -> None:
    boot = Boot()
    fence = Fence(boot)
    assert not fence.holds()
    fence.renewed(sent=1000.0)
    boot.now += FENCE - 0.001
    assert fence.holds()
    assert 0 < fence.left() < 0.01
    boot.now += 0.001
    assert not fence.holds()
    assert fence.left() == 0


def test_an_answer_that_is_read_after_a_stop_does_not_make_it_hold() -> None:
    boot = Boot()
    fence = Fence(boot)
    sent, boot.now = boot.now, boot.now + 60
    fence.renewed(sent)
    assert not fence.holds()


def test_an_answer_that_comes_late_takes_nothing_back() -> None:
    fence = Fence(Boot())
    fence.renewed(1000.0)
    fence.renewed(999.0)
    assert fence.until == 1000.0 + FENCE


def test_a_lease_that_is_given_back_ends_it() -> None:
    fence = Fence(Boot())
    fence.renewed(1000.0)
    fence.end()
    assert not fence.holds()


def test_it_ends_before_etcd_deletes_anything_and_misses_two_renewals() -> None:
    assert FENCE + 5 <= LEASE
    assert 3 * RENEW_EVERY < FENCE


def test_the_boot_time_counts_what_the_steady_clock_does_not() -> None:
    assert boot_time() >= time.monotonic() - 1
