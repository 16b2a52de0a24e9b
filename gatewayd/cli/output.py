"""What gatewayctl prints: tables, properties and sentences, safe for a terminal.  Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gatewayd.runtime.text import escaped

DeviceRow = tuple[str, str, str, str, int, str]
"""id, state, provider, name, time of the last change in microseconds, object path."""

TIME_SUFFIX = "Timestamp"
"""The end of the name of each property that is a time."""

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


def columns(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield the lines of an aligned table."""
    cells = [tuple(head), *(tuple(safe(cell) for cell in row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()


def devices(rows: Iterable[DeviceRow]) -> Iterator[str]:
    """Yield the lines of a list of devices."""
    shown = ((i, state, cloud or "-", when(at), name) for i, state, cloud, name, at, _ in rows)
    return columns(("ID", "STATE", "PROVIDER", "SINCE", "NAME"), shown)


def change(row: DeviceRow) -> str:
    """Return one line of `watch`."""
    device, state, provider, name, at, _ = row
    return "  ".join(
        (when(at), safe(device), f"{safe(state):<11}", safe(provider or "-"), safe(name))
    )


def properties(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield one line for each property that is not empty.

    facts: as DescribeDevice() returns them.
    """
    said = {f"Messages{name}": value for name, value in facts.get("Messages", {}).items()}
    plain = {k: v for k, v in {**facts, **said}.items() if k not in ("History", "Messages")}
    shown = {k: _value(k, v) for k, v in plain.items() if v not in ("", 0, [])}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        yield f"{name:>{width}}: {value}"


def _value(name: str, value: object) -> str:
    if name.endswith(TIME_SUFFIX) and isinstance(value, int):
        return when(value)
    return ", ".join(map(safe, value)) if isinstance(value, list) else safe(value)


def explain(
    facts: Mapping[str, Any],
    admission: tuple[str, str, Sequence[str]],
    messages: Sequence[str] = (),
) -> Iterator[str]:
    """Yield why a device is in its state, and what to do.

    admission: how the rules decide on it now: action, rule, reasons.
    messages: lines about what it says.
    """
    since = when(facts["StateChangeTimestamp"])
    doing = f" ({safe(facts['SubState'])})" if facts["SubState"] else ""
    yield f"{safe(facts['Id'])} is {safe(facts['State'])}{doing} since {since}."
    why = safe(facts["Explanation"] or facts["Reason"])
    yield from [f"Why: {why}"] if why else []
    yield from [f"What to do: {safe(facts['Remedy'])}"] if facts["Remedy"] else []
    yield ""
    yield from _evidence(facts)
    yield ""
    action, rule, reasons = admission
    yield f"Rules decide now: {safe(action)}" + (f", by rule {safe(rule)}" if rule else "")
    yield from (f"  {safe(reason)}" for reason in reasons)
    yield ""
    if messages:
        yield from ("Messages:", *(f"  {line}" for line in messages), "")
    yield "History:"
    yield from (_step(*step) for step in facts["History"])


def _evidence(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"Identity: {safe(facts['Identity'] or 'none')} ({safe(facts['Trust'])})"
    where = ", ".join(map(safe, facts["Addresses"])) or "no address"
    last = when(facts["LastSeenTimestamp"])
    yield f"Seen: by {safe(facts['Protocol'] or '-')} at {where}, last {last}"
    rule = f" {safe(facts['Rule'])}" if facts["Rule"] else ""
    yield f"Admitted by: {safe(facts['Admission'])}{rule}"
    cloud = f"{safe(facts['CloudId'])} at {safe(facts['Provider'])}" if facts["CloudId"] else "-"
    yield f"At the cloud: {cloud}, secret {safe(facts['SecretState'])}"


def _step(at: int, event: str, state: str, text: str) -> str:
    return f"  {when(at)}  {safe(event)} -> {safe(state)}" + (f": {safe(text)}" if text else "")


def rules(listed: Iterable[tuple[str, str, str, int]]) -> Iterator[str]:
    """Yield the lines of a list of rules."""
    return columns(
        ("RULE", "ACTION", "PROVIDER", "HITS"), ((n, a, p or "-", h) for n, a, p, h in listed)
    )


def clouds(listed: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of a list of clouds."""
    return columns(
        ("CLOUD", "STATE", "REASON", "DEVICES", "QUEUED", "CERTIFICATE UNTIL"),
        (
            (c["Id"], c["State"], c["Reason"] or "-", c["NDevices"], c["NQueued"], _until(c))
            for c in listed
        ),
    )


def _until(cloud: Mapping[str, Any]) -> str:
    return when(cloud["CertificateExpiryTimestamp"])


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
