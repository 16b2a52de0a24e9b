"""What gatewayctl prints: tables, properties and sentences, safe for a terminal.  Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gatewayd.cli.output.fields import Record
from gatewayd.cli.output.terminal import Terminal
from gatewayd.runtime.text import escaped

DeviceRow = tuple[str, str, str, str, int, str]
"""id, state, provider, name, time of the last change in microseconds, object path."""

TIME_SUFFIX = "Timestamp"
"""The end of the name of each property that is a time."""

MAX_SHOWN_KEYS, MAX_SHOWN_VALUE = 16, 64
"""Of what one source shows of a device: keys, and characters of each value, in a sentence."""

PROTECTION_TEXTS: Mapping[str, str] = {
    "tpm2": "a thief of the disk lacks the TPM of this machine",
    "keyring": "a thief of the disk lacks what opens the keyring",
    "credential": "a thief of the disk lacks what systemd opens the key with: see systemd-creds(1)",
    "key-on-disk": "a thief of the disk lacks nothing: the key lies on the same disk",
    "none": "there is no key here: the secrets cannot be read",
}
"""What protects the secrets from a thief of the disk, by the word of org.gatewayd1.SecretStore."""


def safe(text: object) -> str:
    """Return a text with each unprintable character escaped, so that no terminal obeys it."""
    return escaped(str(text))


def when(microseconds: int) -> str:
    """Return a time in the local zone as "2026-11-22 10:00:00"; "-" for 0, which means never."""
    if not microseconds:
        return "-"
    moment = dt.datetime.fromtimestamp(microseconds / 1e6, tz=dt.UTC).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def devices(rows: Sequence[Record], terminal: Terminal) -> Iterator[str]:
    """Yield the lines of a list of devices; with the time of the next try where any waits."""
    waits = any(row["NextAttemptTimestamp"] for row in rows)
    head = ("ID", "STATE", "PROVIDER", "SINCE", *(["NEXT TRY"] if waits else []), "NAME")
    return terminal.columns(head, (_cells(row, waits=waits) for row in rows))


def _cells(row: Record, *, waits: bool) -> Sequence[object]:
    since, next_try = when(row["StateChangeTimestamp"]), when(row["NextAttemptTimestamp"])
    waiting = [next_try] if waits else []
    cloud = f"{row['Provider']} -> {row['MovingTo']}" if "MovingTo" in row else row["Provider"]
    return row["Id"], row["State"], cloud or "-", since, *waiting, row["Name"]


def change(row: Record, terminal: Terminal) -> str:
    """Return one line of `watch`.  row: as `watch --json` prints it."""
    device = safe(row["Id"])
    if row.get("Removed"):
        return f"{device} is gone"
    state = terminal.painted(f"{safe(row['State']):<11}", row["State"])
    since, cloud = when(row["StateChangeTimestamp"]), safe(row["Provider"] or "-")
    return "  ".join((since, device, state, cloud, safe(row["Name"])))


def properties(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield one line for each property that is not empty.

    facts: as DescribeDevice() returns them.
    """
    said = {
        f"{inside}{name}": value
        for inside in ("Messages", "Move", "Proof")
        for name, value in facts.get(inside, {}).items()
    }
    left_out = ("History", "Messages", "Move", "Proof", "Sightings")
    plain = {k: v for k, v in {**facts, **said}.items() if k not in left_out}
    shown = {k: _value(k, v) for k, v in plain.items() if v not in ("", 0, [])}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        first, *rest = value.split("\n")
        yield f"{name:>{width}}: {first}"
        yield from (f"{'':>{width}}  {line}" for line in rest)


def _value(name: str, value: object) -> str:
    if name.endswith(TIME_SUFFIX) and isinstance(value, int):
        return when(value)
    if isinstance(value, list):
        return ", ".join(map(safe, value))
    if str(value).startswith("-----BEGIN "):
        return "\n".join(map(safe, str(value).strip().splitlines()))
    return safe(value)


def explain(
    facts: Mapping[str, Any],
    rules: Mapping[str, Any],
    messages: Sequence[str],
    terminal: Terminal,
) -> Iterator[str]:
    """Yield why a device is in its state, and what to do.

    facts: as DescribeDevice() returns them.  rules: how they decide on it now: Action, Rule and
    Reasons.  messages: lines about what it says.
    """
    since = when(facts["StateChangeTimestamp"])
    doing = f" ({safe(facts['SubState'])})" if facts["SubState"] else ""
    state = terminal.painted(safe(facts["State"]), facts["State"])
    yield f"{safe(facts['Id'])} is {state}{doing} since {since}."
    why = safe(facts["Explanation"] or facts["Reason"])
    yield from [f"Why: {why}"] if why else []
    yield from [f"What to do: {safe(facts['Remedy'])}"] if facts["Remedy"] else []
    if facts["NextAttemptTimestamp"]:
        at = when(facts["NextAttemptTimestamp"])
        yield f"Next try: {at}; at once with: gatewayctl retry {safe(facts['Id'])}"
    yield ""
    yield from _evidence(facts)
    yield ""
    yield from _rules_now(facts, rules)
    yield ""
    if messages:
        yield from (terminal.bold("Messages:"), *(f"  {line}" for line in messages), "")
    yield terminal.bold("History:")
    yield from (_step(*step) for step in facts["History"])


def _rules_now(facts: Mapping[str, Any], rules: Mapping[str, Any]) -> Iterator[str]:
    """Yield how the rules decide on a device: nothing where it was not seen, so not judged."""
    if not facts["LastSeenTimestamp"]:
        yield "Rules: not evaluated, as it was not seen since gatewayd started."
        return
    by = f", by rule {safe(rules['Rule'])}" if rules["Rule"] else ""
    yield f"Rules decide now: {safe(rules['Action'])}{by}"
    yield from (f"  {safe(reason)}" for reason in rules["Reasons"])


def _evidence(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"Identity: {safe(facts['Identity'] or 'none')} ({safe(facts['Trust'])})"
    yield from _proof(facts.get("Proof", {}))
    yield from _conflict(facts)
    where = ", ".join(map(safe, facts["Addresses"])) or "no address"
    last = when(facts["LastSeenTimestamp"])
    yield f"Seen: by {safe(facts['Protocol'] or '-')} at {where}, last {last}"
    yield from (f"  {_sighting(one)}" for one in facts.get("Sightings", ()))
    rule = f" {safe(facts['Rule'])}" if facts["Rule"] else ""
    yield f"Admitted by: {safe(facts['Admission'])}{rule}"
    cloud = f"{safe(facts['CloudId'])} at {safe(facts['Provider'])}" if facts["CloudId"] else "-"
    yield f"At the cloud: {cloud}, secret {safe(facts['SecretState'])}"
    yield from _move(facts.get("Move", {}), safe(facts["Id"]))


def _move(move: Mapping[str, Any], device: str) -> Iterator[str]:
    """Yield where a device moves, why it does not go on, and where it is dormant."""
    if "To" in move:
        at = f"{safe(move['ToCloudId'])} at {safe(move['To'])}"
        yield f"Moving to: {at}, asked for {when(move['AskedTimestamp'])}; {safe(move['Step'])}"
        why = " ".join(filter(None, (move.get("Explanation"), move.get("Remedy"))))
        yield from [f"  {safe(why or move['Reason'])}"] if why or move.get("Reason") else []
        if move.get("NextAttemptTimestamp"):
            yield f"  Next try: {when(move['NextAttemptTimestamp'])}"
        yield f"  To go on at once: gatewayctl retry {device}"
        yield f"  To stay where it is: gatewayctl move {device} --cancel"
    if move.get("MovedTimestamp"):
        yield f"Moved here: {when(move['MovedTimestamp'])}, by an operator; no rule undoes that"
    for one in move.get("Dormant", ()):
        cloud, _, name = safe(one).partition(" ")
        yield f"Dormant at {cloud}: {name}; to move back: gatewayctl move {device} --to {cloud}"


def _sighting(said: Mapping[str, str]) -> str:
    """Return what one source shows of a device, cut to what a line has room for."""
    where = f" on {said['interface']}" if "interface" in said else ""
    others = sorted(said.keys() - {"source", "interface", "trust"})
    shown = [f"{key}={said[key][:MAX_SHOWN_VALUE]}" for key in others[:MAX_SHOWN_KEYS]]
    more = f", and {len(others) - len(shown)} more" if len(others) > len(shown) else ""
    text = f"{said.get('source', '-')}{where} ({said.get('trust', '-')}): {', '.join(shown)}{more}"
    return safe(text)


def _proof(proof: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a device has proven with a key of its own, and what is pinned to it."""
    if not proof:
        return
    said = {name: safe(value) for name, value in proof.items()}
    if "Timestamp" in proof:
        where = f", at {said['Address']}" if "Address" in said else ""
        result = said.get("Explanation") or "it has proven its key."
        yield f"Proof {said['Name']}: {result} Asked {when(proof['Timestamp'])}{where}."
    if "Identity" in said:
        yield f"  Its vendor's certificate is of: {said['Identity']}"
    if "Signer" in said:
        yield f"  Signed by: {said['Signer']}, serial number {said.get('SerialNumber', '-')}"
    if "Key" in said:
        yield f"  Key: {said['Key']}"
    if "PinnedKey" in said:
        yield f"  Pinned: {said['PinnedKey']}, since {when(proof['PinnedTimestamp'])}"
    if "RefusedKey" in said:
        yield f"  Refused: {said['RefusedKey']}"


CONFLICT_TEXTS: Mapping[str, str] = {
    "identity-conflict": "another device shows what identifies this one",
    "moved-or-cloned": "it was seen behind another MAC",
    "two-claimants": "it answers at two places at once",
    "proof-of-another": "it has proven the key or the certificate of another child",
    "name-contested": "another device has its name; a name identifies none",
}
"""Why it is in question who a device is, by the word of the property Conflict."""


def _conflict(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield what conflict there is about who a device is, and how to settle it."""
    conflict, own = facts.get("Conflict", ""), safe(facts["Id"])
    if not conflict:
        return
    rivals = [safe(one) for one in facts["ConflictWith"]]
    others = f": see {', '.join(rivals)}" if rivals else ""
    yield f"In conflict: {CONFLICT_TEXTS.get(conflict, safe(conflict))}{others}."
    if conflict not in ("name-contested", "proof-of-another"):
        named = f"{own} {rivals[0]}" if rivals else own
        yield f"  If they are one device: gatewayctl merge {named}"
        yield f"  If they are two: gatewayctl split {named}"


def _step(at: int, event: str, state: str, text: str) -> str:
    return f"  {when(at)}  {safe(event)} -> {safe(state)}" + (f": {safe(text)}" if text else "")


def rules(listed: Iterable[Record], terminal: Terminal) -> Iterator[str]:
    """Yield the lines of a list of rules."""
    return terminal.columns(
        ("RULE", "ACTION", "PROVIDER", "HITS"),
        ((r["Rule"], r["Action"], r["Provider"] or "-", r["Hits"]) for r in listed),
    )


def clouds(listed: Iterable[Mapping[str, Any]], terminal: Terminal) -> Iterator[str]:
    """Yield the lines of a list of clouds."""
    return terminal.columns(
        ("CLOUD", "STATE", "REASON", "DEVICES", "QUEUED", "CERTIFICATE UNTIL"),
        (
            (c["Id"], c["State"], c["Reason"] or "-", c["NDevices"], c["NQueued"], _until(c))
            for c in listed
        ),
    )


def _until(cloud: Mapping[str, Any]) -> str:
    return when(cloud["CertificateExpiryTimestamp"])


def decisions(listed: Iterable[Record], terminal: Terminal) -> Iterator[str]:
    """Yield the lines of the log of decisions."""
    return terminal.columns(
        ("WHEN", "WHAT", "DEVICE", "BY", "FROM", "NOTE"),
        (
            (
                when(d["Timestamp"]),
                d["Kind"],
                d["Device"] or "-",
                d["By"],
                d["From"] or "-",
                d["Note"],
            )
            for d in listed
        ),
    )


def store(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield how the secrets are stored and protected."""
    protection = str(facts["Protection"])
    yield f"State: {safe(facts['State'])}"
    yield from [f"Why: {safe(facts['Explanation'])}"] if facts["Explanation"] else []
    yield f"Secrets: {facts['NSecrets']}, in the store {safe(facts['Backend'])}"
    yield f"Protected: {PROTECTION_TEXTS.get(protection, safe(protection))}"
    if facts["KeyId"]:
        created = when(facts["KeyCreatedTimestamp"])
        yield f"Data key: number {facts['KeyId']}, created {created}"
    yield f"Recovery keys: {facts['RecoverySlots'] or 'none'}"
