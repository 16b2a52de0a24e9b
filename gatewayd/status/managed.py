"""GetManagedObjects: all children in one answer, made some at a time."""

from __future__ import annotations

from functools import cache
from itertools import islice

from gatewayd.errors import Busy, CallerError
from gatewayd.glib import BusThread, Variant
from gatewayd.status.call import Call
from gatewayd.status.fleet import Fleet
from gatewayd.status.variants import DeviceVariants

MAX_ANSWER = 16 << 20  # bytes; the system bus takes no message above 32 MiB
AT_ONCE = 200  # entries that are made before others are served
MAX_WAITING = 64  # calls


class ManagedObjects:
    """Answers all who wait together.  Used on the D-Bus thread."""

    def __init__(self, thread: BusThread, fleet: Fleet, variants: DeviceVariants) -> None:
        self._thread, self._fleet, self._variants = thread, fleet, variants
        self._waiting: list[Call] = []

    def answer(self, call: Call) -> None:
        """Answer a call when the entries are made.  Raises Busy."""
        if len(self._waiting) >= MAX_WAITING:
            raise Busy("Too many ask for all objects, try again")
        if not self._waiting:
            self._thread.post(self._make)
        self._waiting.append(call)

    def _make(self) -> None:
        more = False
        try:
            more = self._make_some()
        finally:
            if more:
                self._thread.post(self._make)
            else:
                waiting, self._waiting = self._waiting, []
                objects = cache(self._objects)
                for call in waiting:
                    call.attempt(objects)

    def _make_some(self) -> bool:
        missing = (v for v in self._fleet if not self._variants.has_entry(v.id))
        for view in islice(missing, AT_ONCE):
            self._variants.entry(view)
        return next(missing, None) is not None

    def _objects(self) -> Variant:
        return bounded(Variant.new_tuple(self._variants.entries(self._fleet)))


def bounded(answer: Variant) -> Variant:
    """Return it, unless the bus would close our connection for its size."""
    if answer.get_size() > MAX_ANSWER:
        raise CallerError("Too many devices for one answer: use ListDevicesFiltered")
    return answer
