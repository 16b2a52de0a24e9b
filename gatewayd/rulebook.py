"""The rules in force: replaced as a whole by a reload, asked by everybody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from gatewayd.device.identity import DeviceId, Evidence
from gatewayd.discovery.discoverer import Interest
from gatewayd.policy.admission import Decision
from gatewayd.policy.census import Census
from gatewayd.policy.judge import decide, interest
from gatewayd.policy.rules import Rule


class RuleBook:
    """Holds the rules, and counts how often each has decided."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules
        self._hits: Counter[str] = Counter()

    def replace(self, rules: tuple[Rule, ...]) -> None:
        """Put other rules in force; the count begins anew."""
        self.rules = rules
        self._hits.clear()

    def judge(self, device: DeviceId, evidence: Evidence, census: Census) -> Decision:
        """Return policy's verdict on a device."""
        return decide(
            evidence,
            self.rules,
            device=device,
            taken=census.names.get,
            admitted=census.by_rule,
            window=census.window,
        )

    def count(self, rule: str) -> None:
        """Count a verdict that was acted upon."""
        if rule:
            self._hits[rule] += 1

    def interest(self, attributes: Mapping[str, str]) -> Interest:
        """Tell what could become of a name that is not resolved yet."""
        return Interest(interest(attributes, self.rules))

    def listed(self) -> tuple[tuple[str, str, str, int], ...]:
        """Return name, action, provider and hits of each rule, in order."""
        return tuple((r.name, r.action.value, r.provider, self._hits[r.name]) for r in self.rules)
