"""Commands about the gateways that share the children of a site, and the preflight of its etcd."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from gatewayd.cli.command import (
    Client,
    Command,
    Connect,
    action,
    add_id,
    add_yes,
    argument,
    arguments,
    call,
    confirm,
    no_arguments,
)
from gatewayd.cli.output import safe, when
from gatewayd.cli.output.fields import Record, flag, maybe, of_interface, text
from gatewayd.cli.output.fields import number as number_field
from gatewayd.cli.output.terminal import Terminal
from gatewayd.cloud.preflight import Check, CheckResult, PreflightContext
from gatewayd.dbus.names import OWN_SITE, SITE
from gatewayd.errors import SiteError
from gatewayd.site.etcd import LOGIN, EtcdClient
from gatewayd.site.reading import SiteKeys
from gatewayd.site.settings import SiteSettings

HEAD = ("GATEWAY", "STATE", "SHARDS", "VERSION", "FINGERPRINT")


def _facts(connect: Connect, _arguments: Namespace) -> Iterable[Record]:
    return [connect().properties(OWN_SITE)]


def _status(connect: Connect, wanted: Namespace) -> Iterable[str]:
    return status_lines(connect().properties(OWN_SITE), wanted.terminal, shards=wanted.shards)


def status_lines(facts: Record, terminal: Terminal, *, shards: bool = False) -> Iterator[str]:
    """Yield how the site is.  facts: the properties of org.gatewayd1.Site.  Pure.

    shards: whether each shard has a line.
    """
    match facts["Mode"]:
        case "alone":
            yield "This gateway has its site for itself."
        case "share":
            yield f"This gateway has share {safe(facts['Share'])} of the children of its site."
        case _:
            yield from _on_etcd(facts, terminal)
    yield from _contests(facts)
    if shards:
        yield ""
        rows = ((number, owner or "-", token or "-") for number, owner, token in facts["Shards"])
        yield from terminal.columns(("SHARD", "GATEWAY", "TOKEN"), rows)


def _on_etcd(facts: Record, terminal: Terminal) -> Iterator[str]:
    state = terminal.painted(safe(facts["State"]), facts["State"])
    yield f"Site {safe(facts['Name'])}: {state}"
    if facts["Explanation"]:
        yield f"Why: {safe(facts['Explanation'])}"
    if facts["Remedy"]:
        yield f"What to do: {safe(facts['Remedy'])}"
    key = safe(facts["Fingerprint"] or "none yet")
    yield f"This gateway: {safe(facts['Gateway'])}, fingerprint {key}"
    epoch = f", key {facts['Epoch']}" if facts["Epoch"] else ""
    yield f"Fingerprint of the site: {safe(facts['SiteFingerprint'] or 'none yet')}{epoch}"
    yield _quorum(facts)
    yield f"Shards: {facts['NOwned']} here{_also(facts['NChanging'], 'change hands')}" + _also(
        facts["NTakenOver"], "taken over from gateways that were gone"
    )
    yield f"Children in etcd, of those known here: {facts['NReplicated']}" + _also(
        facts["NUnwritten"], "changes wait"
    )
    if facts["ReplicationFault"]:
        yield f"  {safe(facts['ReplicationFault'])}"
    yield "The gateways, as they were then:" if facts["QuorumLostTimestamp"] else ""
    rows = [_row(*gateway) for gateway in facts["Gateways"]]
    yield from terminal.columns(HEAD, rows)


def _row(name: str, state: str, version: str, fingerprint: str, shards: int) -> Sequence[object]:
    return name, state, shards, version or "-", fingerprint or "-"


def _also(number: int, what: str) -> str:
    return f", {number} {what}" if number else ""


def _quorum(facts: Record) -> str:
    left = facts["SecondsLeft"]
    if not facts["QuorumLostTimestamp"]:
        if not left:
            return "etcd has not answered yet"
        return f"etcd answers; without it this gateway would go on for {left} s"
    rest = f"goes on for {left} s" if left else "sends nothing for its children"
    since = when(facts["QuorumLostTimestamp"])
    return f"etcd does not answer since {since}; this gateway {rest}"


def _contests(facts: Record) -> Iterator[str]:
    if contested := facts["NContested"]:
        children = "1 child seems" if contested == 1 else f"{contested} children seem"
        yield (
            f"{children} to be logged in elsewhere, too{_also(facts['NYielded'], 'left to it')}: "
            "see gatewayctl explain of each"
        )


async def etcd_checks(
    settings: SiteSettings, context: PreflightContext
) -> AsyncGenerator[Check, None]:
    """Yield what is found of each member of etcd that the settings name; nothing is written."""
    clusters = set[str]()
    for endpoint in settings.endpoints:
        alone = replace(settings, endpoints=(endpoint,))
        client = EtcdClient.of(alone, context.read_secret, LOGIN)
        try:
            await client.range(SiteKeys(settings.name).prefix, 1)
        except SiteError as error:
            named = settings.password_credential or settings.private_key_credential
            hidden = named and not context.credentials
            verdict = CheckResult.UNSURE if hidden else CheckResult.FAILED
            yield Check("etcd", verdict, f"{endpoint}: {error}")
        else:
            clusters.add(client.cluster)
            yield Check("etcd", CheckResult.OK, f"{endpoint} lets this gateway read its site.")
        finally:
            client.close()
    if len(clusters) > 1:
        yield Check(
            "etcd", CheckResult.FAILED,
            f"The endpoints are members of {len(clusters)} etcds: each gateway would have all "
            "children by the one that it speaks to.",
            "Begin again with members of one etcd: see several-gateways.md.",
        )  # fmt: skip


def _owner(client: Client, wanted: Namespace) -> dict[str, Any]:
    found: dict[str, Any] = client.call("GetOwner", wanted.id, at=OWN_SITE)
    return found


def _whose(connect: Connect, wanted: Namespace) -> Iterator[str]:
    facts = _owner(connect(), wanted)
    who = "this gateway" if facts["Here"] else safe(facts.get("Gateway") or "another gateway")
    yield f"{safe(facts['Id'])} ({safe(facts['CloudId'])}) is owned by {who}."
    yield f"Why: {safe(facts['Explanation'])}"
    if facts["Remedy"]:
        yield f"What to do: {safe(facts['Remedy'])}"
    if "Shard" in facts:
        yield f"Shard: {facts['Shard']}, token {facts['Token'] or 'none'}"


def _found(connect: Connect, _arguments: Namespace) -> Iterator[str]:
    yield f"Fingerprint of the site: {safe(connect().call('Found', at=OWN_SITE))}"


def _founded(connect: Connect, _arguments: Namespace) -> Iterable[Record]:
    return [{"Fingerprint": connect().call("Found", at=OWN_SITE)}]


def _remove(connect: Connect, wanted: Namespace) -> Iterable[str]:
    consequence = (
        f"Gateway {wanted.gateway} gets no children any more, and cannot read what etcd holds of "
        "them from now on; what it has read it keeps."
    )
    confirm(wanted, (consequence,), "Remove it?")
    connect().call("Remove", wanted.gateway, at=OWN_SITE)
    return ()


def _drain(connect: Connect, wanted: Namespace) -> Iterable[str]:
    client = connect()
    consequences = client.call("Consequences", "Drain", at=OWN_SITE)
    confirm(wanted, consequences, "Drain it all the same?")
    offline = client.variant(wanted.yes or bool(consequences))
    client.call("Drain", {"offline": offline}, at=OWN_SITE)
    return ()


def _add_gateway(parser: ArgumentParser) -> None:
    parser.add_argument("gateway", metavar="GATEWAY", help="its name in the site")


_FINGERPRINT = argument(
    "fingerprint", metavar="FINGERPRINT", help="as gatewayctl site status shows it there"
)

# fmt: off
COMMANDS: tuple[Command, ...] = (
    Command("site status", "show the gateways of the site, and what this one has of it",
            argument("--shards", action="store_true", help="show who has each shard"),
            _status, _facts, of_interface(SITE)),
    Command("site owner", "show which gateway of the site has a device, and why", add_id, _whose,
            lambda connect, wanted: [_owner(connect(), wanted)],
            (text("Id", "id of the device"),
             text("CloudId", '"product/name" at its cloud'),
             flag("Here", "whether this gateway has it"),
             text("Reason", 'the code of why it has not, or ""'),
             text("Explanation", "why it has, or has not"),
             text("Remedy", 'what to do; may be ""'),
             *maybe(number_field("Shard", "with etcd: the shard it is in"),
                    text("Gateway", 'with etcd: which has that shard; "" for none'),
                    number_field("Token", "with etcd: of that gateway; 0 for none")))),
    Command("site found", "make the site, with this gateway as its first member", no_arguments,
            _found, _founded, (text("Fingerprint", "of the site"),),
            "The site was made: see gatewayctl site status"),
    action("site join", "ask to be a member of the site", _FINGERPRINT,
           call("Join", "fingerprint", at=OWN_SITE)),
    action("site accept", "let another gateway into the site",
           arguments(_add_gateway, _FINGERPRINT),
           call("Accept", "gateway", "fingerprint", at=OWN_SITE)),
    action("site remove", "remove another gateway from the site, and replace the site's key",
           arguments(_add_gateway, add_yes), _remove),
    action("site drain", "give all devices of this gateway to the others", add_yes, _drain),
    action("site resume", "let this gateway have devices again", no_arguments,
           call("Resume", at=OWN_SITE)),
)
# fmt: on
