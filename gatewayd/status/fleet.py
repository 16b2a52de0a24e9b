"""What is shown of all children: views by id, ordered, counted, and given out in pages."""

from __future__ import annotations

import fnmatch
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from gatewayd.device.identity import DeviceId
from gatewayd.errors import InvalidArgs
from gatewayd.status.snapshot import DeviceView

PAGE, MAX_PAGE = 500, 1000  # rows
MAX_PATTERN = 64  # characters of a glob
FIELDS = ("state", "provider", "rule", "proof", "protocol")

Wanted = Callable[[DeviceView], bool]


class Fleet:
    """The views, by id."""

    def __init__(self) -> None:
        self._views: dict[DeviceId, DeviceView] = {}
        self._ordered: list[DeviceId] | None = []
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._views)

    def __iter__(self) -> Iterator[DeviceView]:
        """Yield the views, ordered by id."""
        return (self._views[device] for device in self._order())

    def get(self, device: str) -> DeviceView | None:
        """Return the view of this very id."""
        return self._views.get(DeviceId(device))

    def put(self, view: DeviceView) -> DeviceView | None:
        """Take a new view; return the one before."""
        before = self._views.get(view.id)
        if before is None:
            self._ordered = None
        else:
            self._counts[before.state] -= 1
        self._views[view.id] = view
        self._counts[view.state] += 1
        return before

    def drop(self, device: DeviceId) -> DeviceView | None:
        """Show it no more; return the view that was shown."""
        view = self._views.pop(device, None)
        if view is not None:
            self._ordered = None
            self._counts[view.state] -= 1
        return view

    def counts(self) -> dict[str, int]:
        """How many children are in each state that has any."""
        return {state: n for state, n in sorted(self._counts.items()) if n}

    def page(self, wanted: Wanted, after: str, limit: int) -> tuple[list[DeviceView], str]:
        """Return up to `limit` views that come after this id, and where to go on; "" at the end."""
        size = min(limit or PAGE, MAX_PAGE)
        ids = self._order()
        start = bisect_right(ids, DeviceId(after)) if after else 0
        views = (self._views[device] for device in islice(ids, start, None))
        found = list(islice(filter(wanted, views), size + 1))
        return found[:size], found[size - 1].id if len(found) > size else ""

    def _order(self) -> list[DeviceId]:
        if self._ordered is None:
            self._ordered = sorted(self._views)
        return self._ordered


def wanted(filters: Mapping[str, object]) -> Wanted:
    """Turn the filters of ListDevicesFiltered into one test.  Raises InvalidArgs."""
    for key, value in filters.items():
        if key not in (*FIELDS, "glob"):
            raise InvalidArgs(f"A filter is one of {', '.join(FIELDS)} and glob")
        if not isinstance(value, str):
            raise InvalidArgs(f"The filter {key} takes a string")
    texts = {key: str(value) for key, value in filters.items()}
    glob = _pattern(texts.pop("glob")) if "glob" in texts else None

    def fits(view: DeviceView) -> bool:
        if any(getattr(view, key) != value for key, value in texts.items()):
            return False
        return glob is None or any(glob.match(text) for text in (view.id, view.name))

    return fits


def _pattern(glob: str) -> re.Pattern[str]:
    if len(glob) > MAX_PATTERN:
        raise InvalidArgs(f"A glob has at most {MAX_PATTERN} characters")
    return re.compile(fnmatch.translate(glob))
