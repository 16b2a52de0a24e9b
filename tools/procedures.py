"""Write the pages of docs/procedures/ from the tables beside them.

python -m tools.procedures

Each table has a vendor's procedure, statement by statement: the vendor's page, what gatewayd does,
the line that does it, how that line is broken, and the test that fails then.  tools/broken_lines.py
tries that.  What gatewayd does not do has a reason of the vendor's in place of a line.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs/procedures"
NAMES = ("alibaba", "huawei")
CONTRACTS = "gatewayd/testing/contracts"
"""Where tests are that several test classes have in common."""
_KEYS = frozenset({"id", "section", "says", "page", "does"})
_BROKEN = frozenset({"module", "line", "broken", "test"})


@dataclass(frozen=True, slots=True)
class ProcedureRow:
    """One statement of a procedure.

    says: the vendor's statement, in other words.  page: keys of the vendor's pages.
    module: file below the top.  line: exact text in it, there once; broken: what replaces it.
    test: node id of the test that fails then, without parameters.
    none: why gatewayd has no such line; "" where it has one.
    """

    procedure: str
    id: str
    section: str
    says: str
    page: tuple[str, ...]
    does: str
    module: str = ""
    line: str = ""
    broken: str = ""
    test: str = ""
    none: str = ""

    @property
    def name(self) -> str:
        """What the row is called: unlike that of any other row."""
        return f"{self.procedure}.{self.id}"

    def break_line(self, source: str) -> str:
        """Return the module's text with the line broken.

        Raises ValueError where the text is not there exactly once, SyntaxError where what results
        is no Python.
        """
        if (count := source.count(self.line)) != 1:
            raise ValueError(f"{self.module} has the line of {self.name} {count} times, not once")
        made = source.replace(self.line, self.broken)
        ast.parse(made)
        if self.line.split() == self.broken.split():
            raise ValueError(f"{self.name} breaks nothing")
        return made


@dataclass(frozen=True, slots=True)
class Procedure:
    """A vendor's procedure.  pages: title and address of each page of the vendor, by its key."""

    name: str
    title: str
    about: str
    pages: Mapping[str, tuple[str, str]]
    rows: tuple[ProcedureRow, ...]


def load(name: str) -> Procedure:
    """Return a procedure.  name: one of NAMES.  Raises ValueError, with what is wrong."""
    table = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    pages = {key: (title, address) for key, (title, address) in table["pages"].items()}
    rows = tuple(_row(name, raw, pages) for raw in table["row"])
    ids = [row.id for row in rows]
    if twice := {one for one in ids if ids.count(one) > 1}:
        raise ValueError(f"{name}: {twice} is there twice")
    return Procedure(name, table["title"], table["about"], pages, rows)


def _row(name: str, raw: dict[str, object], pages: Mapping[str, object]) -> ProcedureRow:
    """Return a row: it has a line that is broken, or a reason."""
    further = raw.keys() - _KEYS
    if _KEYS - raw.keys() or further not in (_BROKEN, {"none"}):
        raise ValueError(
            f"{raw.get('id')}: a row has {sorted(_KEYS)}, and {sorted(_BROKEN)} or none"
        )
    named = raw.pop("page")
    assert isinstance(named, list), "a row names a list of pages"
    if not named or set(named) - pages.keys():
        raise ValueError(f"{raw['id']}: unknown pages in {named}")
    words = {key: str(value) for key, value in raw.items()}
    if not all(value.strip() for key, value in words.items() if key != "broken"):
        raise ValueError(f"{raw['id']}: something is empty")
    return ProcedureRow(name, page=tuple(named), **words)


def all_rows() -> Iterator[ProcedureRow]:
    """Yield the rows of all procedures."""
    for name in NAMES:
        yield from load(name).rows


def named_tests(node_id: str) -> int:
    """Return how many tests a node id names: 1 where it is right.

    A test of a class may be one that it has from a contract.
    """
    path, *names = node_id.split("::")
    if not (ROOT / path).is_file():
        return 0
    *classes, function = names
    if not classes:
        return _functions(ROOT / path, "").count(function)
    own = _functions(ROOT / path, classes[0]).count(function)
    shared = sorted((ROOT / CONTRACTS).glob("*.py")) if classes[0] in _classes(ROOT / path) else []
    return own or sum(_functions(one, None).count(function) for one in shared)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _classes(path: Path) -> Sequence[str]:
    return [one.name for one in _tree(path).body if isinstance(one, ast.ClassDef)]


def _functions(path: Path, owner: str | None) -> Sequence[str]:
    """Return the functions of a class of a module, "" for its own, None for those of any class."""
    bodies = [one for one in _tree(path).body if isinstance(one, ast.ClassDef)]
    nodes: list[ast.stmt] = list(_tree(path).body) if owner == "" else []
    for one in bodies:
        nodes += one.body if owner in (one.name, None) else []
    return [n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


HEAD = """\
<!-- Made by tools/procedures.py. -->
# {title}

{about}  Each statement of the vendor's pages is a row, in our words, with what gatewayd does, the
module that does it, and the test that shows it.  `python -m tools.broken_lines` breaks the line of
each row in a copy of the tree, and sees that its test fails.

"""


def page(procedure: Procedure) -> str:
    """Return the page of a procedure."""
    parts = [HEAD.format(title=procedure.title, about=procedure.about)]
    numbers = {key: number for number, key in enumerate(procedure.pages, start=1)}
    for section, rows in groupby(_in_order(procedure), key=lambda row: row.section):
        parts.append(f"## {section}\n\n")
        parts.append("| row | the vendor says | gatewayd | shown by |\n|---|---|---|---|\n")
        for row in rows:
            cited = ", ".join(f"[{numbers[key]}]({procedure.pages[key][1]})" for key in row.page)
            cells = (f"`{row.id}`", f"{row.says} {cited}", row.does, _shown_by(row))
            parts.append("| " + " | ".join(cell.replace("|", "&#124;") for cell in cells) + " |\n")
        parts.append("\n")
    parts.append("## Pages of the vendor\n\n")
    parts += [
        f"{numbers[key]}. [{title}]({address})\n"
        for key, (title, address) in procedure.pages.items()
    ]
    return "".join(parts)


def _in_order(procedure: Procedure) -> Sequence[ProcedureRow]:
    """Return the rows, those of a section together."""
    sections = list(dict.fromkeys(row.section for row in procedure.rows))
    return sorted(procedure.rows, key=lambda row: sections.index(row.section))


def _shown_by(row: ProcedureRow) -> str:
    if row.none:
        return row.none
    test = row.test.rpartition("::")[2].removeprefix("test_").replace("_", " ")
    return f"{test} (`{row.module}`, `{row.test.partition('::')[0]}`)"


def main() -> None:
    """Write the pages."""
    for name in NAMES:
        (FOLDER / f"{name}.md").write_text(page(load(name)))


if __name__ == "__main__":
    main()
