"""Runs gatewayctl as a process of its own, and validates what it prints for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from gatewayd.cli.output.fields import ERROR, JsonField, faults
from gatewayd.simulator.bus import PrivateBus
from tests.dbus.support import run
from tests.support.run_gatewayctl import START

GATEWAYCTL = START


async def ctl(bus: PrivateBus, *words: str) -> tuple[int, str]:
    """Return its exit status and its output, with the errors."""
    return await run(*GATEWAYCTL, "--bus", bus.address, *words)


def validate(printed: str, fields: Sequence[JsonField], status: int) -> None:
    """Assert that each line is an object of these fields, and the last an error where it failed."""
    *records, last = [json.loads(line) for line in printed.splitlines()]
    assert printed.isascii()
    if status:
        assert list(faults(last, ERROR)) == [], printed
    else:
        records.append(last)
    for record in records:
        assert list(faults(record, fields)) == [], record
