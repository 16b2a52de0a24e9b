"""What is said of the gateway as a whole: on D-Bus, and in systemd's status line."""

from __future__ import annotations

from dataclasses import dataclass

from gatewayd import __version__
from gatewayd.assembly import Assembly
from gatewayd.config import Config
from gatewayd.device.lifecycle import State
from gatewayd.status.snapshot import ManagerView
from gatewayd.storage import Storage


@dataclass(frozen=True, slots=True)
class Overview:
    """Looks at the parts of a running gateway.  started: microseconds since the epoch."""

    config: Config
    storage: Storage
    parts: Assembly
    started: int

    def state(self) -> str:
        """Return the state of a gateway that is neither starting nor stopping."""
        if self.storage.sealed:
            return "sealed"
        return "degraded" if self.storage.degraded or self.parts.supervisor.faults else "running"

    def line(self) -> str:
        """Return one line for `systemctl status`."""
        states = [child.state for child in self.parts.flow.gateway.children.values()]
        words = [
            f"{len(states)} devices",
            f"{states.count(State.ONLINE)} online",
            f"{states.count(State.PENDING)} pending",
            f"{states.count(State.FAILED)} failed",
        ]
        if self.storage.store.why:
            words.append(f"store {self.storage.store.state}: {self.storage.store.why}")
        return ", ".join([*words, *self.parts.supervisor.faults.values()])

    def view(self, state: str) -> ManagerView:
        """Return what D-Bus shows."""
        counters = self.parts.supervisor.counters() | self.parts.inventory.counters()
        until = self.parts.flow.window.until
        return first_view(self.config, self.storage, self.started, state, counters, until)


def first_view(
    config: Config,
    storage: Storage,
    started: int,
    state: str = "starting",
    counters: dict[str, int] | None = None,
    join_until: int = 0,
) -> ManagerView:
    """Return what D-Bus shows before there is anything to look at."""
    return ManagerView(
        version=__version__,
        state=state,
        protection=storage.store.protection.value,
        providers=tuple(one.name for one in config.clouds),
        started=started,
        counters=counters or {},
        join_until=join_until,
    )
