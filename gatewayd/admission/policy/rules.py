"""Rules: their tables in a file, what is made of them, and the decision that they lead to."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from gatewayd.admission.policy.commands import MAX_WORDS, CommandPattern, parse_command
from gatewayd.admission.policy.naming import (
    NAME_MARKS,
    Extraction,
    NameTemplate,
    is_name_text,
    parse_extraction,
    parse_template,
)
from gatewayd.admission.policy.patterns import Predicate, RuleError, parse_predicate
from gatewayd.device.identity import MAX_VALUE, Trust, mac
from gatewayd.device.message import Acceptance, AfterOutage, OnFull
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.settings import grammar
from gatewayd.settings.declare import REQUIRED, setting


class SessionHolder(StrEnum):
    """Who has the sessions of a rule's children."""

    GATEWAY = "gateway"  # gatewayd logs in, and stays so
    HOLDER = "holder"  # a program of the operator's, which gets the credential


class Action(StrEnum):
    """The action of a rule."""

    REGISTER = "register"  # admit it, without an operator
    ASK = "ask"  # leave it to an operator
    REJECT = "reject"  # keep it out, and remember that
    IGNORE = "ignore"  # keep it out, and do not show it


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision of policy, and why.

    rule: the name of the rule that matched; "" where none did.
    cloud: the child's name at the cloud; None where the rule gives none.
    trace: one line for each rule that was evaluated: its name, and the predicate that failed.
    trust: how well the identity is proven, with the list of the rule.
    by_window: the open join window admits it; otherwise the action would be to ask.
    proof: the table [proof.NAME] that the rule names for the device; "" for none.
    """

    action: Action
    rule: str
    reason: Reason
    cloud: CloudName | None
    trace: tuple[str, ...]
    trust: Trust = Trust.CLAIMED
    by_window: bool = False
    proof: str = ""


MAX_RULES = 1000
NEEDS_CLOUD = (Action.REGISTER, Action.ASK)
_WORDS = tuple(trust.word for trust in Trust)
BY_PROOF = frozenset({Trust.PINNED, Trust.PROVEN})
"""What a device has only by a proof that its rule names."""

Report: TypeAlias = Callable[[tuple[str, ...], str], None]
"""Reports a problem: the keys inside a rule, and a phrase."""


@dataclass(frozen=True, slots=True)
class RuleRequirements:
    """[rule.require]"""

    trust: str = setting(
        "", "how well the identity must be proven to register (default: listed)",
        choices=("", *_WORDS),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RuleLimits:
    """[rule.limits]"""

    devices: int = setting(256, "most children that the rule may admit", low=1, high=100_000)


@dataclass(frozen=True, slots=True)
class RuleMessages:
    """[rule.messages]"""

    share: int = setting(
        0,
        "what is kept of one child's messages, at least 65536; 0, as for all in this table, for "
        "what [messages.child] says",
        unit="bytes", low=0, high=100_000_000_000,
    )  # fmt: skip
    rate: float = setting(0.0, "messages of one child in a second", low=0, high=10_000)
    window: int = setting(0, "messages of one child under way to the cloud", low=0, high=100)
    on_full: str = setting("", "what is dropped where there is no room", choices=("", *OnFull))
    after_outage: str = setting("", "what leaves first after an outage", choices=("", *AfterOutage))
    accepted: str = setting("", "what counts as the cloud's receipt", choices=("", *Acceptance))


SMALLEST_SHARE = 65_536
"""Bytes that may be kept of a child, at least: as in [messages.child]."""


@dataclass(frozen=True, slots=True)
class RuleTable:
    """[[rule]]"""

    name: str = setting(REQUIRED, "unique name of the rule")
    match: Mapping[str, str | tuple[str, ...]] = setting(
        REQUIRED, "globs that must all match; a list matches if any of its globs does"
    )
    action: Action = setting(REQUIRED, "what to do with a device that matches")
    extract: Mapping[str, str] = setting({}, "fields of identity: key, key|key or key ~ regex")
    route: str = setting("", "one of the provider's ways to register (default: its first)")
    device_name: str = setting("", "the child's name at the cloud, as meter-{serial|lower}")
    provider: str = setting("", "the cloud, by the name of its table")
    product: str = setting("", "the product there")
    require: RuleRequirements = setting(
        RuleRequirements(), "requirements to register without asking"
    )
    list: str = setting(
        "",
        "a file of identities, one on each line, in the directory of the rule's file or below it, "
        "or an absolute path",
        grammar=grammar.path_inside,
    )
    limits: RuleLimits = setting(RuleLimits(), "limits of the rule")
    window: bool = setting(
        False, "with action ask: an open join window admits what `require` and `limits` allow"
    )
    session: SessionHolder = setting(
        SessionHolder.GATEWAY,
        "who has the sessions of the rule's children: gatewayd, or a program that gets their "
        "credentials by [credentials.NAME]",
        choices=tuple(SessionHolder),
    )
    commands: tuple[str, ...] = setting(
        (),
        "commands of the cloud that the rule's children may get: service, set, get, request or "
        "message for all of a kind, or one of them with a glob of names, as service:reboot or "
        "set:target_* (default: none)",
    )
    messages: RuleMessages = setting(RuleMessages(), "the messages of the rule's children")
    proof: str = setting(
        "", "how gatewayd has the device prove its key, by the name of a table [proof.NAME] of "
        "the configuration (default: it does not)",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that can be evaluated.

    template, provider, product: for register and ask; None or "" otherwise.
    listed: identities as `listed_values` returns them.  devices: how many it may admit.
    window: whether a join window can admit a device that the rule would ask about.
    commands: those that its children may get.
    held: whether programs, the holders, have the sessions of its children.
    messages: how those of its children are treated, where that is not the default.
    proof: how its devices prove their keys; "" where they do not.
    """

    name: str
    predicates: tuple[Predicate, ...]
    extractions: tuple[Extraction, ...]
    template: NameTemplate | None
    action: Action
    provider: str
    product: str
    trust: Trust
    listed: frozenset[str]
    devices: int
    route: str = ""
    window: bool = False
    commands: tuple[CommandPattern, ...] = ()
    held: bool = False
    messages: RuleMessages = RuleMessages()
    proof: str = ""


def make_rule(table: RuleTable, listed: frozenset[str], report: Report) -> Rule | None:
    """Make a rule; None if it has problems, which are all reported."""
    wrong: list[str] = []

    def note(at: tuple[str, ...], text: str) -> None:
        wrong.append(text)
        report(at, text)

    _check_words(table, note)
    _check_window(table, note)
    trust = _trust(table, note)
    predicates = _predicates(table, note)
    extractions = _extractions(table, note)
    named = _template(table, extractions, note)
    commands = _commands(table, note)
    _check_session(table, note)
    _check_messages(table, note)
    if table.proof and table.action not in NEEDS_CLOUD:
        note(("proof",), f"action {table.action} admits no child that would prove a key: remove it")
    if wrong:
        return None
    return Rule(
        table.name, predicates, extractions, named, table.action, table.provider, table.product,
        trust, listed, table.limits.devices, table.route, table.window,
        commands, table.session is SessionHolder.HOLDER, table.messages, table.proof,
    )  # fmt: skip


def listed_values(text: str) -> frozenset[str]:
    """Return the values of a field that one line of a list stands for: itself, and as a MAC.

    Case matters otherwise: two names may differ in case alone, and only one is listed.
    """
    return frozenset({text.strip(), mac(text.strip())} - {""})


def never_listed(entry: str, rule: Rule) -> str:
    """Return why no device of a rule can have an entry of its list; "" if one may.

    An entry is compared with the name that the rule makes, and with the fields in it.
    """
    if len(entry) > MAX_VALUE:
        return f"it has more than {MAX_VALUE} characters"
    if not entry.isprintable() or "\ufffd" in entry:
        return "it has characters that are never taken from the LAN"
    if not (rule.template and rule.template.accepts_any_field) and not is_name_text(entry):
        return f"a name has only letters, digits and {NAME_MARKS}: write one identity on each line"
    return ""


def _check_words(table: RuleTable, report: Report) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", table.name):
        report(("name",), "is at most 64 letters, digits and _ . -")
    words = {"provider": table.provider, "product": table.product, "route": table.route}
    for key, value in words.items():
        if not re.fullmatch(r"[A-Za-z0-9_.:@-]{0,128}", value):
            report((key,), "holds only letters, digits and _ . : @ -")
        if table.action in NEEDS_CLOUD and not value and key != "route":
            report((), f"action {table.action} needs '{key}': add it")


def _check_window(table: RuleTable, report: Report) -> None:
    if table.window and table.action is not Action.ASK:
        text = f"only applies to action ask: action {table.action} needs no join window"
        report(("window",), text)


def _check_session(table: RuleTable, report: Report) -> None:
    if table.session is not SessionHolder.HOLDER:
        return
    if table.action not in NEEDS_CLOUD:
        report(("session",), f"action {table.action} admits no child with a session: remove it")
    if table.commands:
        text = "the holder gets the commands of the cloud, past gatewayd: remove it"
        report(("commands",), text)


def _check_messages(table: RuleTable, report: Report) -> None:
    if table.messages == RuleMessages():
        return
    if table.action not in NEEDS_CLOUD:
        report(("messages",), f"action {table.action} admits no child that speaks: remove it")
    elif table.session is SessionHolder.HOLDER:
        report(("messages",), "children speak through their holder, past gatewayd: remove it")
    if 0 < table.messages.share < SMALLEST_SHARE:
        report(("messages", "share"), f"is less than {SMALLEST_SHARE} bytes")


def _trust(table: RuleTable, report: Report) -> Trust:
    if not table.require.trust:
        return Trust.LISTED
    trust = Trust[table.require.trust.upper()]
    if trust in BY_PROOF and not table.proof:
        report(
            ("require", "trust"), f"{trust.word} needs 'proof', the name of a [proof.NAME]: add it"
        )
    if table.action is Action.REGISTER and trust is Trust.CLAIMED:
        report(
            ("require", "trust"),
            "any host on the LAN could register devices: require more than claimed, or use ask",
        )
    return trust


def _predicates(table: RuleTable, report: Report) -> tuple[Predicate, ...]:
    if not table.match:
        report(("match",), "an empty match would match every device: name at least one key")
    made = []
    for key, value in table.match.items():
        try:
            made.append(parse_predicate(key, (value,) if isinstance(value, str) else value))
        except RuleError as fault:
            report(("match", key), str(fault))
    return tuple(made)


def _extractions(table: RuleTable, report: Report) -> tuple[Extraction, ...]:
    made = []
    for field, text in table.extract.items():
        try:
            made.append(parse_extraction(field, text))
        except RuleError as fault:
            report(("extract", field), str(fault))
    return tuple(made)


def _template(
    table: RuleTable, extractions: tuple[Extraction, ...], report: Report
) -> NameTemplate | None:
    if table.action not in NEEDS_CLOUD:
        return None
    if not table.device_name:
        report((), f"action {table.action} needs 'device_name': add it")
        return None
    try:
        return parse_template(table.device_name, [one.field for one in extractions])
    except RuleError as fault:
        if len(extractions) == len(table.extract):  # else the missing field is reported already
            report(("device_name",), str(fault))
        return None


def _commands(table: RuleTable, report: Report) -> tuple[CommandPattern, ...]:
    if table.commands and table.action not in NEEDS_CLOUD:
        report(("commands",), f"action {table.action} admits no child to command: remove it")
    if len(table.commands) > MAX_WORDS:
        report(("commands",), f"has more than {MAX_WORDS} words: write globs")
    made = []
    for word in table.commands[:MAX_WORDS]:
        try:
            made.append(parse_command(word))
        except RuleError as fault:
            report(("commands",), f"{word[:64]!a} {fault}")
    return tuple(made)
