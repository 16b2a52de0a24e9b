"""What would be sent to the LAN, from the configuration alone: discover --dry-run.

The configured discoverers say what they send; what proves the keys of devices is gatewayd's own.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import TypeAlias, cast

from gatewayd.cli.output import safe
from gatewayd.cli.output.fields import JsonField, Record, maybe, number, text
from gatewayd.config import ConfiguredPlugin, load
from gatewayd.discovery.probing.protocol import Transmission
from gatewayd.plugins import Plugins
from gatewayd.proofs.settings import KeyKind
from gatewayd.settings.files import ConfigPaths

Transmissions: TypeAlias = Callable[[], Iterable[Transmission]]

FIELDS: tuple[JsonField, ...] = maybe(
    text("To", "with --dry-run: to whom"),
    number("Every", "seconds between two; 0 for once, at the start and at a search"),
    text("Occasion", 'when it is sent, if not regularly; "" else'),
    number("Bytes", "of its payload, at least; 0 where that depends on the device"),
    text("Purpose", "what it asks; of a discoverer that does not say what it sends, that"),
)
UNSAID = "this discoverer does not say what it sends"
PROVING: Mapping[KeyKind, str] = {
    KeyKind.TLS: "a handshake of TLS that proves its key",
    KeyKind.SSH: "a key exchange of SSH that proves its key",
    KeyKind.OPC_UA: "GetEndpoints, and a secure channel of OPC UA that proves its key",
}
PROVED = "before a rule admits a device by this proof, at its returns, and at another address"
"""When a connection for a proof is made."""


def planned(arguments: Namespace) -> Iterator[Record]:
    """Yield what each discoverer would send, of one that sends nothing, nothing; and each proof.

    arguments: `config` is the main configuration file.  Each discoverer is made as in the helper,
    but does not run: neither a secret nor the daemon is needed.
    Raises ConfigError, PluginError.
    """
    config = load(ConfigPaths.of(arguments.config), Plugins.installed())
    for plugin in config.discoverers:
        for one in sent_by(plugin):
            yield {
                "Discoverer": plugin.name, "Interface": one.interface, "To": one.to,
                "Every": one.every, "Occasion": one.occasion, "Bytes": one.size,
                "Purpose": one.purpose,
            }  # fmt: skip
    for name, proof in config.proofs.items():
        yield {
            "Discoverer": f"proof {name}", "Interface": "",
            "To": f"port {proof.port} of the device, by TCP", "Every": 0.0, "Occasion": PROVED,
            "Bytes": 0, "Purpose": PROVING[proof.kind],
        }  # fmt: skip


def sent_by(plugin: ConfiguredPlugin) -> Iterable[Transmission]:
    """Return what one discoverer would send; of one that does not say so, that."""
    discoverer = plugin.plugin(plugin.name, plugin.settings)
    transmissions = cast(Transmissions | None, getattr(discoverer, "transmissions", None))
    if transmissions is None:
        return (Transmission("", "", 0.0, 0, UNSAID),)
    return transmissions()


def plan_lines(arguments: Namespace) -> Iterator[str]:
    """Yield the lines that show this to people: for each discoverer and interface a heading, and
    below it what is sent; what is sent several times in a row is one line.

    Raises ConfigError, PluginError.
    """
    headings: dict[str, list[str]] = {}
    for row, same in groupby(planned(arguments)):
        place = f" on {row['Interface']}" if row["Interface"] else ""
        times = len(list(same))
        line = f"{_line(row)}{f' ({times} times)' if times > 1 else ''}"
        headings.setdefault(f"{row['Discoverer']}{place}:", []).append(line)
    for heading, lines in headings.items():
        yield safe(heading)
        yield from (f"  {safe(line)}" for line in lines)
    if headings:
        yield "Nothing was sent. What is sent regularly is also sent at the start and at a search."
    else:
        yield "The configured discoverers send nothing by themselves, if there are any."


def _line(row: Record) -> str:
    if not row["To"]:
        return str(row["Purpose"])
    when = row["Occasion"] or (f"every {row['Every']:g} s" if row["Every"] else "once")
    size = f"{row['Bytes']} bytes " if row["Bytes"] else ""
    return f"{when}: {size}to {row['To']}: {row['Purpose']}"
