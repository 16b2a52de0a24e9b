"""Writes the manual page of the D-Bus API from the interfaces' own files.

python -m tools.dbus_manual > packaging/man/org.gatewayd1.5
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from gatewayd.dbus.glib import Gio
from gatewayd.dbus.interfaces import SERVED, read_xml
from gatewayd.dbus.invocation import NAMES, OURS
from gatewayd.dbus.methods import EVERYBODY, METHOD_TABLES
from gatewayd.dbus.names import OBJECT_MANAGER

PAGE = Path(__file__).parent.parent / "packaging/man/org.gatewayd1.5"

HEAD = r""".\" Made by python -m tools.dbus_manual from the XML files of the interfaces.
.TH ORG.GATEWAYD1 5 "" gatewayd "D-Bus API"
.SH NAME
org.gatewayd1 \- the D-Bus API of gatewayd
.SH DESCRIPTION
The daemon owns the name
.B org.gatewayd1
on the system bus.
.BR busctl (1)
can read every object:
.PP
.RS 4
.EX
busctl call org.gatewayd1 /org/gatewayd1 org.gatewayd1.Manager ListDevices
busctl introspect org.gatewayd1 /org/gatewayd1/provider/alibaba
.EE
.RE
.PP
Names, signatures and meanings do not change; methods, properties, states, reasons and keys may be
added.
/org/gatewayd1/device has an
.B org.freedesktop.DBus.ObjectManager
with all children.
"""

ACCESS = r""".SH ACCESS
Every user may read.
Each change needs an authorization by
.BR polkit (8),
which gets the caller as the subject, and the details
.I device
and
.IR provider .
Root needs none; without polkit, no other user may change anything.
Members of the group
.I gatewayd-operator
need no password for approve-device, manage-devices and permit-join.
"""

FOOT = r""".SH SEE ALSO
.BR gatewayd (8),
.BR gatewayctl (1),
.BR busctl (1),
.BR polkit (8)
"""


def page() -> str:
    """Return the page."""
    parts = [HEAD, *(part for name in SERVED for part in interface(name)), ACCESS, *actions()]
    return "".join([*parts, *errors(), FOOT])


def interface(name: str) -> Iterator[str]:
    """Yield the section of an interface."""
    if name == OBJECT_MANAGER:  # the specification's
        return
    xml = read_xml(name)
    (info,) = Gio.DBusNodeInfo.new_for_xml(xml).interfaces
    texts = dict(map(comment, re.findall(r"<!--(.*?)-->", xml, re.DOTALL)))
    short, _, about = texts[name].partition("\n\n")
    yield f".SH INTERFACE {name}\n{prose(short.removeprefix('@short_description:'))}"
    yield "".join(f".PP\n{prose(p)}" for p in about.split("\n\n"))
    for kind, members in (
        ("Methods", [method(m) for m in info.methods]),
        ("Signals", [signal(s) for s in info.signals]),
        ("Properties", [prop(p) for p in info.properties]),
    ):
        if members:
            yield f".SS {kind}\n"
            yield from (f".TP\n{head}\n{body(texts[name])}" for name, head in members)


def comment(text: str) -> tuple[str, str]:
    """Return the name that a comment is about, and the rest, without indentation."""
    name, _, rest = text.strip().partition(":")
    lines = [line.strip() for line in rest.strip().splitlines()]
    return name, "\n".join(lines)


def method(info: Gio.DBusMethodInfo) -> tuple[str, str]:
    """Return name and headline of a method."""
    given = f" -> {arguments(info.out_args)}" if info.out_args else ""
    return info.name, headline(info.name, f"({arguments(info.in_args)}){given}")


def signal(info: Gio.DBusSignalInfo) -> tuple[str, str]:
    """Return name and headline of a signal."""
    return info.name, headline(info.name, f"({arguments(info.args)})")


def prop(info: Gio.DBusPropertyInfo) -> tuple[str, str]:
    """Return name and headline of a property."""
    writable = ", writable" if info.flags & Gio.DBusPropertyInfoFlags.WRITABLE else ""
    return info.name, headline(info.name, f" {info.signature}{writable}")


def arguments(infos: Iterable[Gio.DBusArgInfo]) -> str:
    """Return a list of arguments, each with its type."""
    return ", ".join(f"{one.signature} {one.name}" for one in infos)


def headline(name: str, rest: str) -> str:
    """Return the first line of a member."""
    return f"\\fB{name}\\fR{escaped(rest)}"


def body(text: str) -> str:
    """Return the description of a member: arguments first, then paragraphs."""
    blocks = re.split(r"\n\n|\n(?=@)", text)
    listed = "".join(".br\n" + argument(block) for block in blocks if block.startswith("@"))
    rest = [block for block in blocks if not block.startswith("@")]
    parts = [prose(p) for p in rest if p.strip()]
    return (
        listed.removeprefix(".br\n") + (".IP\n" if listed and parts else "") + ".IP\n".join(parts)
    )


def argument(text: str) -> str:
    """Return one line of an argument."""
    name, _, rest = text.removeprefix("@").partition(":")
    return f".IR {name} :\n{prose(rest)}"


def actions() -> Iterator[str]:
    """Yield the methods that each action of polkit allows."""
    methods: dict[str, dict[str, None]] = {}
    for method in (method for table in METHOD_TABLES for method in table):
        if method.permission is not EVERYBODY:
            methods.setdefault(method.permission.action, {})[method.name] = None
            if gateway := method.permission.gateway:
                methods.setdefault(gateway, {})[f"{method.name} of the gateway itself"] = None
    for action, names in methods.items():
        yield f".TP\n.B {action or 'only root'}\n{prose(', '.join(names))}"


def errors() -> Iterator[str]:
    """Yield the names of errors."""
    yield f".SH ERRORS\nErrors are of {OURS}, or those of D-Bus itself.\n"
    yield "Each has a sentence that explains it.\n"
    for kind, name in NAMES.items():
        if name.startswith(OURS):
            yield f".TP\n.B {name.removeprefix(f'{OURS}.')}\n{prose((kind.__doc__ or '').strip())}"


def prose(text: str) -> str:
    """Return a paragraph, one sentence on each line."""
    flat = " ".join(text.split())
    return "".join(f"{escaped(s)}\n" for s in re.split(r"(?<=[.!?])  ?(?=[A-Z])", flat))


def escaped(text: str) -> str:
    """Return a text that troff prints as it is."""
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain


if __name__ == "__main__":
    print(page(), end="")
