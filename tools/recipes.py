"""Write docs/recipes.md from the rules in docs/recipes.

python -m tools.recipes > docs/recipes.md

A recipe is a rule with comments before it: what it is for, what such a device announces, what its
owner may rename it to, what it becomes at the cloud, and the source of all that.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE, RULES = ROOT / "docs/recipes.md", ROOT / "docs/recipes"
TABLE = "| devices | service | what identifies them |\n|---|---|---|\n"
_RECIPE = re.compile(r"(?P<comments>(?:#.*\n)+)(?P<rule>\[\[rule\]\]\n(?:[^#\n].*\n?)+)")
_WORD = re.compile(r"(announced|renamed|becomes|source): (.*)")

HEAD = """\
# Recipes: rules for real devices

Each rule names what identifies a kind of device for good, in `extract`: a serial number, a UUID
or a MAC. So a child stays the same whatever it is called, wherever it is plugged in, and after a
restart. Copy the rules that you need to a file of `/etc/gatewayd/rules.d`, set `provider` and
`product`, and add their services to `types` under `[discovery.mdns]`; then run
`gatewayctl rules check`. Rules are tried in order, so those for one service stay as they are
ordered here. The package has them in `/usr/share/doc/gatewayd/examples/recipes`.

They ask an operator, since whatever is on the LAN can announce anything: `list` with `register`
lets known devices in, and `gatewayctl rules suggest` writes a rule for a device that is not here.
What a device announces is in the comments, as it was captured or documented, with other digits
where it would show whose it is.
"""


@dataclass(frozen=True)
class Recipe:
    """One rule, and what is known of the devices that it is for.

    kind: of devices.  announced: a service instance.  renamed: another name that it may be given;
    "" where a vendor lets none be set.  becomes: the child's name at the cloud.
    rule: its text.
    """

    kind: str
    instance: str
    service: str
    port: int
    host: str
    text: tuple[str, ...]
    renamed: str
    becomes: str
    source: str
    rule: str

    @property
    def name(self) -> str:
        """The name of the rule."""
        return self._key("name")

    @property
    def identity(self) -> str:
        """How its identity is extracted: field and expression."""
        return self._key("extract")

    def _key(self, key: str) -> str:
        (value,) = re.findall(rf"^{key} = (.*)$", self.rule, re.MULTILINE)
        return str(value).strip('"{ }')


def files() -> list[Path]:
    """Return the files of rules, in the order of the page."""
    return sorted(RULES.glob("*.toml"))


def recipes(path: Path) -> Iterator[Recipe]:
    """Yield the recipes of a file."""
    for found in _RECIPE.finditer(path.read_text()):
        yield _recipe(found["comments"], found["rule"])


def _recipe(comments: str, rule: str) -> Recipe:
    joined = re.sub(r"\n#   +", " ", comments)
    lines = [line.removeprefix("# ") for line in joined.splitlines()]
    words = {one[1]: one[2] for line in lines if (one := _WORD.fullmatch(line))}
    instance, service, port, host, *text = shlex.split(words["announced"])
    return Recipe(
        lines[0].removesuffix("."), instance, service, int(port), host, tuple(text),
        words.get("renamed", ""), words["becomes"], words["source"], rule,
    )  # fmt: skip


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for path in files():
        title = path.stem.replace("-", " ").capitalize()
        parts.append(f"\n## {title}\n\n{TABLE}")
        for recipe in recipes(path):
            field = recipe.identity.partition(" = ")
            key = re.split(r" ~ ", field[2].strip("'\""))[0].replace("|", "` or `")
            parts.append(f"| {recipe.kind} | `{recipe.service}` | {field[0]}, of `{key}` |\n")
        parts.append(f"\n[recipes/{path.name}](recipes/{path.name}):\n\n")
        parts.append(f"```toml\n{path.read_text()}```\n")
    return "".join(parts)


if __name__ == "__main__":
    print(page(), end="")
