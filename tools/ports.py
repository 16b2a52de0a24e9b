"""python -m tools.ports > tests/ports.txt: what plug-ins were written for, by version of each port.

Where a line there no longer holds, or where what each plug-in has to implement has got a further
member, plug-ins of before do not work: the first number of the port has to grow, in
gatewayd/plugins.py.  Anything else that is new is an addition, for which the second one does.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import ModuleType

from gatewayd.cloud import provider
from gatewayd.discovery import discoverer
from gatewayd.plugins import CLOUDS, DISCOVERERS, PORTS, SECRETSTORES
from gatewayd.secretstore import store

PAGES: Mapping[str, ModuleType] = {CLOUDS: provider, DISCOVERERS: discoverer, SECRETSTORES: store}
IMPLEMENTED = {"CloudProvider", "Session", "Discoverer", "SecretStore"}
"""The protocols that each plug-in has to implement as a whole."""


def lines() -> Iterator[str]:
    """Yield each member of each public class of the ports, after the port and its first number."""
    for group, page in PAGES.items():
        for name, kind in sorted(vars(page).items()):
            if isinstance(kind, type) and kind.__module__ == page.__name__:
                for member in sorted(_members(kind, page)):
                    yield f"{group} {PORTS[group].major}: {name}.{member}"


def _members(kind: type, page: ModuleType) -> Iterator[str]:
    if is_dataclass(kind):
        yield from (f"{one.name}: {one.type}" for one in fields(kind))
        return
    yield from (f"{name}: {of}" for name, of in inspect.get_annotations(kind).items())
    for name, member in vars(kind).items():
        function = getattr(member, "__func__", member)  # of a class method
        if isinstance(member, property):
            yield f"{name} is a property"
        elif inspect.isfunction(function) and function.__module__ == page.__name__:
            waits = " async" if inspect.iscoroutinefunction(function) else ""
            yield f"{name}{inspect.signature(function)}{waits}"


if __name__ == "__main__":
    sys.stdout.write("".join(f"{line}\n" for line in lines()))
