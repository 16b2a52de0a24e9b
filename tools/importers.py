"""Which test files import a library that another virtual environment has in a newer release.

script/test runs these, and no others, with the newest libraries, too.

    .venv-newest/bin/python -m tools.importers .venv tests/cloud tests/ca/test_keys.py

prints those of the files, or in these folders, that import something which this environment has of
its own and .venv takes from Debian: by themselves, or by what they import in turn.  The text is
searched for import statements, wherever they stand: to compile 1,400 files would take ten times as
long, and what is found too much, as in a string, costs the run of a file and misses nothing.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

FOLDERS = ("gatewayd", "tests", "script", "tools")
"""What tests import of the project itself."""

_STATEMENT = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|.*)|import[ \t]+(.*))", re.MULTILINE
)
_IN_TEXT = re.compile(r"[\"']([\w.]+)[\"':]")
"""A module that is named in a string: for importorskip, and for `python -m` in a process."""


def importers(top: Path, libraries: AbstractSet[str], files: Iterable[Path]) -> list[Path]:
    """Return those of the files below `top` that import one of the libraries, in order.

    What pyproject.toml names as an entry point is imported by what calls entry_points().
    """
    paths = [path for folder in FOLDERS for path in top.glob(f"{folder}/**/*.py")]
    modules = {_name(path.relative_to(top)): path for path in paths}
    plugins = set(_IN_TEXT.findall((top / "pyproject.toml").read_text()))
    edges = {name: _imported(path, plugins) for name, path in modules.items()}
    return sorted(one for one in files if _reaches(_name(one.relative_to(top)), edges, libraries))


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(path: Path, plugins: AbstractSet[str]) -> set[str]:
    """Return the names that a file imports, and those which may be modules of a package."""
    text = path.read_text()
    found = {name for name in _IN_TEXT.findall(text) if "." in name or "importorskip" in text}
    for package, names, plain in _STATEMENT.findall(text):
        if package:
            found |= {package, *(f"{package}.{name}" for name in re.findall(r"\w+", names))}
        else:
            found |= set(re.findall(r"[\w.]+", plain))
    return found | plugins if "entry_points(" in text else found


def _reaches(
    start: str, edges: Mapping[str, AbstractSet[str]], libraries: AbstractSet[str]
) -> bool:
    """Return whether a test, its conftest.py files, or what they import, imports a library.

    tests/conftest.py is left out: what it loads for each test is not what the test is about.
    """
    seen: set[str] = set()
    waiting = [start, *(f"{one}.conftest" for one in _with_packages(start) if "." in one)]
    while waiting:
        name = waiting.pop()
        if name.partition(".")[0] in libraries:
            return True
        if name in edges and name not in seen:
            seen.add(name)
            waiting += (one for imported in edges[name] for one in _with_packages(imported))
    return False


def _with_packages(name: str) -> Iterator[str]:
    """Yield a dotted name, and the packages that are imported with it."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def _own(environment: Path) -> set[str]:
    """Return the modules and packages that are installed in an environment itself."""
    folder = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    return {path.name.partition(".")[0] for path in folder.iterdir() if path.suffix != ".dist-info"}


def main(other: str, *names: str) -> None:
    """Print the files, one a line."""
    top = Path.cwd()
    files = {file for name in names for file in _files(top / name)}
    for path in importers(top, _own(Path(sys.prefix)) - _own(top / other), files):
        print(path.relative_to(top))


def _files(path: Path) -> Iterator[Path]:
    return path.rglob("test_*.py") if path.is_dir() else iter((path,))


if __name__ == "__main__":
    main(*sys.argv[1:])
