"""The ledgers of gateways: what happened between them and the simulated Alibaba cloud."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from gatewayd.simulator.alibaba.devices import Name, by_code


@dataclass(slots=True)
class AlibabaGatewayLedger:
    """The counts of one gateway.

    calls: request → code → how often.  faults: by name, how often one struck.
    unreadable: requests without an id.  stray: messages on topics that are not the gateway's.
    pushed, undelivered, acknowledged: by request; replies and errors are among the first two.
    refused_topics: how many filters were answered 0x80.
    """

    calls: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    faults: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0
    stray: int = 0
    pushed: Counter[str] = field(default_factory=Counter)
    undelivered: Counter[str] = field(default_factory=Counter)
    acknowledged: Counter[str] = field(default_factory=Counter)
    refused_topics: int = 0

    def truth(self) -> dict[str, object]:
        """Return the counts, for JSON."""
        return {
            "calls": {method: by_code(codes) for method, codes in self.calls.items()},
            "faults": dict(self.faults),
            "unreadable": self.unreadable,
            "stray": self.stray,
            "pushed": dict(self.pushed),
            "undelivered": dict(self.undelivered),
            "acknowledged": dict(self.acknowledged),
            "refused_topics": self.refused_topics,
        }


class AlibabaGatewayLedgers:
    """The ledgers of all gateways."""

    def __init__(self) -> None:
        self._ledgers: dict[Name, AlibabaGatewayLedger] = {}

    def of(self, gateway: Name) -> AlibabaGatewayLedger:
        """Return a gateway's ledger."""
        return self._ledgers.setdefault(gateway, AlibabaGatewayLedger())

    def forget(self, gateway: Name) -> None:
        """Remove a gateway's ledger."""
        self._ledgers.pop(gateway, None)
