"""Writes etc/gatewayd/gatewayd.toml from the declarations of the settings.

python -m tools.config_sample > etc/gatewayd/gatewayd.toml
"""

from __future__ import annotations

import json
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from gatewayd.config import SECTIONS
from gatewayd.plugins import CLOUDS, DISCOVERERS, SECRETSTORES, Plugins

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "etc/gatewayd/gatewayd.toml"
WIDTH = 96

HEAD = """\
The configuration of gatewayd.  Nothing is set here: each line shows a default.

Rather than to edit this file, write your settings into a file of your own, as
/etc/gatewayd/conf.d/50-site.toml.  Files conf.d/*.toml are read after this one, in lexical order
of their names, from /usr/lib/gatewayd, /run/gatewayd and /etc/gatewayd; one in a later directory
masks the one of the same name in an earlier, and an empty one only masks.  Tables are merged, all
else is replaced.  Check with: gatewayd --check-config

No secret belongs here.  Secrets are given as systemd credentials, or in files of their own.
"""

ABOUT: Mapping[str, str] = {
    "gateway": "This gateway.",
    "log": "The log.",
    "bus": "The D-Bus service org.gatewayd1.",
    "registration": "Registering children with a cloud.",
    "sessions": "The sessions of children that are registered.",
    "discovery": "What is seen on the LAN.  Only the discoverers that have a table are loaded.",
    "secretstore": "Where the secrets of the children are kept.",
    "cloud_requests": "What a cloud may ask of this gateway.  The default is: nothing.",
    "cloud": "The clouds.  Only those that have a table, [cloud.NAME], are loaded.",
}

PLUGINS = {"discovery": DISCOVERERS, "secretstore": SECRETSTORES, "cloud": CLOUDS}


def ours() -> Plugins:
    """The plug-ins that pyproject.toml declares."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    return Plugins(
        EntryPoint(name, value, group)
        for group, points in groups.items()
        for name, value in points.items()
    )


def sample(plugins: Plugins) -> str:
    """The whole file."""
    return "\n".join(_lines(plugins)) + "\n"


def _lines(plugins: Plugins) -> Iterator[str]:
    yield from (f"# {line}".rstrip() for line in HEAD.splitlines())
    for section, cls in SECTIONS.items():
        yield from ("", "", f"# {ABOUT[section]}")
        if cls is not None:
            yield from table(section, cls)
        group = PLUGINS.get(section, "")
        for name in plugins.names(group):
            yield from table(f"{section}.{name}", plugins.load(group, name).Settings, kind=name)


def table(name: str, cls: Any, kind: str = "", brackets: str = "[]") -> Iterator[str]:
    """The lines of one table, and of the tables inside it."""
    half = len(brackets) // 2
    yield from ("", f"#{brackets[:half]}{name}{brackets[half:]}")
    if kind:
        yield from ("", "# the plug-in; the name of the table if left out", f'#kind = "{kind}"')
    inside = []
    hints = get_type_hints(cls)
    for one in fields(cls):
        parts = [part for part in get_args(hints[one.name]) if is_dataclass(part)]
        if not parts:
            yield from _setting(one)
        elif str in get_args(hints[one.name]):
            inside.append((f"{name}.{one.name}.NAME", parts[0], "[]"))
        else:
            many = get_origin(hints[one.name]) is tuple
            inside.append((f"{name}.{one.name}", parts[0], "[[]]" if many else "[]"))
    for nested, part, around in inside:
        yield from table(nested, part, brackets=around)


def _setting(one: Field[Any]) -> Iterator[str]:
    meta = one.metadata
    limits = ""
    if meta["low"] is not None:
        limits = f"{meta['low']:.12g} to {meta['high']:.12g} {meta['unit']}".rstrip()
    choices = " or ".join(json.dumps(word) for word in meta["choices"] if word)
    needed = "required" if default(one) is MISSING else ""
    inside = ", ".join(part for part in (limits, choices, needed) if part)
    about = meta["help"] + (f" ({inside})" if inside else "")
    yield ""
    yield from (f"# {line}" for line in textwrap.wrap(about, WIDTH))
    yield f"#{one.name} = {toml(default(one))}".rstrip()


def default(one: Field[Any]) -> Any:
    """The default of a field; MISSING if it has none."""
    return one.default_factory() if one.default_factory is not MISSING else one.default


def toml(value: Any) -> str:
    """A value as TOML writes it; nothing where there is no value."""
    match value:
        case None:
            return ""
        case bool() | int() | float() | str():
            return json.dumps(value, ensure_ascii=False)
        case Path():
            return json.dumps(str(value))
        case tuple():
            return f"[{', '.join(map(toml, value))}]"
        case Mapping() if not value:
            return "{}"
    if value is MISSING:
        return ""
    raise TypeError(type(value).__name__)


if __name__ == "__main__":
    print(sample(ours()), end="")
