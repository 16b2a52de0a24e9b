"""The rule that would admit a device and its like, or ignore them, as text for a file of rules.

What a rule would do is not guessed: it is made as from a file, and judged on the device.  The text
is TOML; values of the LAN stand in it quoted, and match nothing but themselves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from gatewayd.admission.policy.engine import PolicyContext, View, decide, identity_of
from gatewayd.admission.policy.naming import is_name_text
from gatewayd.admission.policy.patterns import is_free_key
from gatewayd.admission.policy.rules import (
    Action,
    Rule,
    RuleRequirements,
    RuleTable,
    listed_values,
    make_rule,
)
from gatewayd.device.identity import VENDOR_KEYS, Claim, DeviceId, Evidence, Trust, mac, strength


class RulePurpose(StrEnum):
    """What a suggested rule is for."""

    ADMIT = "admit"
    IGNORE_SERVICE = "ignore-service"
    IGNORE_VENDOR = "ignore-vendor"


class CannotSuggest(ValueError):
    """No rule can be made of what is known of a device; the text is a sentence with the remedy."""


@dataclass(frozen=True, slots=True)
class CloudChoice:
    """Where children go.  route: "" for the first of the provider."""

    provider: str
    product: str
    route: str = ""


@dataclass(frozen=True, slots=True)
class RuleSuggestion:
    """A rule, as a table, and what to know about it.

    listed: the identity to write into the rule's list; "" where it has none.
    before: the rule that decides on the device now, and that this one must precede; "" for none.
    """

    table: RuleTable
    listed: str
    before: str

    def text(self) -> str:
        """Return the text for a file of rules."""
        return "\n".join((*self._remarks(), *_lines(self.table), ""))

    def _remarks(self) -> Iterator[str]:
        name = self.table.name
        if self.before:
            yield f"# Rule {self.before} decides on this device now: put this rule before it."
        if self.listed:
            yield f"# Write into the file {self.table.list}, beside this one, a line for each"
            yield f"# device; for this one: {self.listed}"
        elif self.table.action is Action.REGISTER:
            yield "# It registers devices whose identity a host on the same LAN can imitate."
        if self.table.action is Action.IGNORE:
            yield f"# Devices that {name} matches are not shown any more; to see them, remove it."


_IDENTITY_KEYS = (
    "serial", "uuid", "txt.serial", "txt.sn", "txt.serialnumber", "txt.uuid", "txt.id",
    "txt.deviceid", "mac", "txt.mac", "txt.macaddress",
)  # fmt: skip
"""Where identities usually are, the best first."""
_KIND_KEYS = ("model", "txt.model", "txt.md", "vendor", "txt.vendor", "txt.manufacturer", "txt.gen")
"""What devices of one kind have in common."""
_OF_MANY_KINDS = ("mdns", "static")
"""Sources by which devices of every kind are found."""
_MAC_IN_NAME = r".*[-_]([0-9a-fA-F]{12})"
_FORBIDDEN = re.compile(r"[*?\[]")
_OUI_DIGITS = 6


def suggest(
    evidence: Evidence,
    device: DeviceId,
    purpose: RulePurpose,
    rules: Sequence[Rule],
    cloud: CloudChoice,
) -> RuleSuggestion:
    """Return a rule for a device that the rules hold.  Raises CannotSuggest.

    cloud: where it is to be registered; for a rule that ignores it does not count.
    """
    if not evidence.views:
        raise CannotSuggest("It is not on the LAN now: switch it on, and wait until it is seen")
    before = decide(evidence, rules, device, PolicyContext()).rule
    if purpose is RulePurpose.ADMIT:
        table, listed = _admitting(evidence, device, rules, cloud)
    else:
        table, listed = _ignoring(evidence, purpose, rules), ""
    return RuleSuggestion(table, listed, before)


def _admitting(
    evidence: Evidence, device: DeviceId, rules: Sequence[Rule], cloud: CloudChoice
) -> tuple[RuleTable, str]:
    """Return a rule that registers the device, and the identity to list, if any."""
    for view, (field, where) in _identities(evidence):
        match = _like(view)
        if not match:
            continue
        table = RuleTable(
            name=_name(match, rules, "like"),
            match=match,
            action=Action.REGISTER,
            extract={field: where},
            device_name=f"{{{field}}}",
            provider=cloud.provider,
            product=cloud.product,
            route=cloud.route,
        )
        for candidate, listed in _ways_to_trust(table, view, evidence):
            if _registers(candidate, listed, evidence, device):
                return candidate, listed
    raise CannotSuggest(
        "It shows no serial number, UUID or MAC of its own to name it by: approve it by hand"
    )


def _identities(evidence: Evidence) -> Iterator[tuple[View, tuple[str, str]]]:
    """Yield views, each with a field and from where it is extracted, the strongest claim first."""
    ranked = sorted(
        (one for one in evidence.claims if strength(one)), key=lambda c: (-strength(c), c)
    )
    for claimed in ranked:
        for view in evidence.views:
            yield from ((view, found) for found in _places(claimed, view))


def _places(claimed: Claim, view: View) -> Iterator[tuple[str, str]]:
    """Yield where a view has a claim: the field, and how it is extracted."""
    field = claimed.kind if claimed.kind in ("serial", "uuid", "mac") else "id"
    others = sorted(key for key in view if is_free_key(key) and key not in _IDENTITY_KEYS)
    for key in (*_IDENTITY_KEYS, *others):
        value = view.get(key, "")
        if value and _same(claimed, value):
            yield field, key
    if claimed.kind == "mac" and mac(view.get("instance", "")[-12:]) == claimed.value:
        yield "mac", f"instance ~ {_MAC_IN_NAME}"


def _same(claimed: Claim, value: str) -> bool:
    if claimed.kind == "mac":
        return mac(value) == claimed.value
    return value.strip().lower().removeprefix("urn:").removeprefix("uuid:") == claimed.value


def _ways_to_trust(
    table: RuleTable, view: View, evidence: Evidence
) -> Iterator[tuple[RuleTable, str]]:
    """Yield the rule with what it requires, the strictest first that this device meets."""
    value = identity_of(_made(table, frozenset()), view).get(next(iter(table.extract)), "")
    if not is_name_text(value):
        table = replace(table, device_name=f"{{{next(iter(table.extract))}|hash12}}")
    if evidence.trust is Trust.AUTHENTICATED:
        yield replace(table, require=RuleRequirements("authenticated")), ""
    if evidence.trust is Trust.CORROBORATED:
        yield replace(table, require=RuleRequirements("corroborated")), ""
    if value.isprintable() and "#" not in value:
        yield replace(table, list=f"{table.name}.list"), value


def _registers(table: RuleTable, listed: str, evidence: Evidence, device: DeviceId) -> bool:
    """Whether the rule, alone, would register the device."""
    try:
        rule = _made(table, listed_values(listed) if listed else frozenset())
    except CannotSuggest:
        return False
    unopposed = replace(evidence, conflict="")
    return decide(unopposed, [rule], device, PolicyContext()).action is Action.REGISTER


def _ignoring(evidence: Evidence, purpose: RulePurpose, rules: Sequence[Rule]) -> RuleTable:
    match = _of_service(evidence) if purpose is RulePurpose.IGNORE_SERVICE else _of_vendor(evidence)
    table = RuleTable(name=_name(match, rules, "ignore"), match=match, action=Action.IGNORE)
    _made(table, frozenset())
    return table


def _of_service(evidence: Evidence) -> Mapping[str, str]:
    services = sorted({v["service"] for v in evidence.views if v.get("service")})
    if not services:
        raise CannotSuggest("It announces no service: ignore its vendor instead")
    return {"service": _literal(services[0])}


def _of_vendor(evidence: Evidence) -> Mapping[str, str]:
    for view in evidence.views:
        for key in VENDOR_KEYS:
            if view.get(key):
                return {key: _literal(view[key])}
    for view in evidence.views:
        if digits := mac(view.get("mac", "")):
            return {"oui": ":".join(re.findall("..", digits[:_OUI_DIGITS]))}
    raise CannotSuggest("It shows neither its vendor nor its MAC: ignore its service instead")


def _like(view: View) -> Mapping[str, str]:
    """Return what a device and its like have in common: service and kind, or kind and vendor.

    Where it shows none of these, it is the source, if that has one protocol alone.
    """
    keys = ("service", *_KIND_KEYS)
    found = {
        key: _literal(view[key])
        for key in keys
        if view.get(key, "").isprintable() and view.get(key)
    }
    source = view.get("source", "").partition("/")[0]
    return found or ({"source": source} if source not in ("", *_OF_MANY_KINDS) else {})


def _literal(value: str) -> str:
    """Return a pattern that matches this value alone."""
    return _FORBIDDEN.sub(lambda mark: f"[{mark[0]}]", value)


def _name(match: Mapping[str, str], rules: Sequence[Rule], prefix: str) -> str:
    """Return a name that no rule has, made of what the rule matches."""
    words = "-".join(re.findall(r"[A-Za-z0-9]+", " ".join(match.values())))[:40].lower()
    taken, name = {rule.name for rule in rules}, f"{prefix}-{words}".strip("-")
    numbers = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return next(one for one in (name, *numbers) if one not in taken)


def _made(table: RuleTable, listed: frozenset[str]) -> Rule:
    wrong: list[str] = []
    rule = make_rule(table, listed, lambda keys, text: wrong.append(f"{'.'.join(keys)} {text}"))
    if rule is None:
        raise CannotSuggest(f"No rule can be made of what it shows: {wrong[0]}")
    return rule


def _lines(table: RuleTable) -> Iterator[str]:
    yield "[[rule]]"
    yield f"name = {_quoted(table.name)}"
    yield f"match = {_table(table.match)}"
    if table.extract:
        yield f"extract = {_table(table.extract)}"
        yield f"device_name = {_quoted(table.device_name)}"
    yield f"action = {_quoted(table.action)}"
    for key in ("provider", "product", "route", "list"):
        if value := getattr(table, key):
            yield f"{key} = {_quoted(value)}"
    if table.require.trust:
        yield f"require = {{ trust = {_quoted(table.require.trust)} }}"


def _table(texts: Mapping[str, object]) -> str:
    inside = ", ".join(f"{_key(key)} = {_quoted(str(value))}" for key, value in texts.items())
    return f"{{ {inside} }}"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _quoted(key)


def _quoted(text: str) -> str:
    """Return a basic string of TOML: JSON's, but for the pairs in which that writes characters."""
    escaped = json.dumps(text, ensure_ascii=False)
    return escaped.replace("\x7f", "\\u007f")
