"""Configuration files: TOML with drop-ins that mask one another, and the line of each value.

TOML parsers do not report lines, so `lines` finds them.  The meaning of the keys is not known here:
build.py builds typed settings from the tables.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import tomli

from gatewayd.errors import ConfigError

KeyPath: TypeAlias = tuple[str | int, ...]
"""Where a value is: keys of tables, and indices of arrays."""

STANDARD = Path("/etc/gatewayd/gatewayd.toml")
DIRECTORIES = (Path("/usr/lib/gatewayd"), Path("/run/gatewayd"), Path("/etc/gatewayd"))
MAX_BYTES = 8 << 20
MAX_PASSED_OVER = 20
"""Files of one directory that are named in warnings as passed over."""
_NULL = Path(os.devnull)
_UNQUOTED = "Invalid value"
"""tomli's words for a value of no type: mostly a text without quotes."""
_QUIET = re.compile(r"README|(?!.*\.toml)\.", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem with a file: a sentence with the key and the remedy.

    line: from 1; 0 where it concerns the file as a whole.  fatal: False for a warning.
    """

    file: Path
    line: int
    text: str
    fatal: bool = True

    def __str__(self) -> str:
        name = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(self.file))
        place = f"{name}:{self.line}" if self.line else name
        return f"{place}: {'' if self.fatal else 'warning: '}{self.text}"


@dataclass(slots=True)
class Problems:
    """All problems of a configuration, to be reported together."""

    found: list[Problem] = field(default_factory=list)

    def add(self, place: tuple[Path, int], text: str, *, fatal: bool = True) -> None:
        """Note one problem."""
        self.found.append(Problem(*place, text, fatal))

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The problems that are no more than warnings."""
        return tuple(problem for problem in self.found if not problem.fatal)

    @property
    def errors(self) -> int:
        """How many problems are more than warnings."""
        return sum(problem.fatal for problem in self.found)

    @property
    def fatal(self) -> bool:
        """Whether any problem is more than a warning."""
        return self.errors > 0

    def check(self) -> None:
        """Raise ConfigError, one line for each problem, if any is fatal."""
        if self.fatal:
            raise ConfigError("\n".join(str(problem) for problem in self.found if problem.fatal))


@dataclass(frozen=True, slots=True)
class ConfigPaths:
    """The files and directories of the configuration.

    main: the file that is read first.  directories: their conf.d and rules.d are read, the weakest
    first.  required: whether it is an error if `main` does not exist.
    """

    main: Path = STANDARD
    directories: tuple[Path, ...] = DIRECTORIES
    required: bool = False

    @classmethod
    def of(cls, main: Path) -> ConfigPaths:
        """Return the paths for `--config main`.

        The system's directories belong to the standard file alone.  With any other file, only
        the conf.d and rules.d beside that file are read, and the file must exist.
        """
        return cls() if main == STANDARD else cls(main, (main.parent,), required=True)

    @classmethod
    def under(cls, root: Path) -> ConfigPaths:
        """Return the standard paths in another root directory."""

        def inside(path: Path) -> Path:
            return root / path.relative_to("/")

        return cls(inside(STANDARD), tuple(inside(directory) for directory in DIRECTORIES))


class SettingsSource(Protocol):
    """A source of settings that knows where each value was set."""

    def where(self, at: KeyPath) -> tuple[Path, int]:
        """Return file and line of a value, or of the nearest table that holds it."""


@dataclass(frozen=True, slots=True)
class Document:
    """The content of one file."""

    path: Path
    table: Mapping[str, Any]
    lines: Mapping[KeyPath, int]

    def where(self, at: KeyPath) -> tuple[Path, int]:
        """Return the file and the line at which the value, or what holds it, begins.

        A table that has no header of its own begins with the first thing that it holds.
        """
        known = (self.lines[at[:n]] for n in range(len(at), 0, -1) if at[:n] in self.lines)
        held = (line for key, line in self.lines.items() if at and key[: len(at)] == at)
        return self.path, next(known, 0) or min(held, default=0)


@dataclass(frozen=True, slots=True)
class LayeredDocuments:
    """Several documents as one: tables are merged, any other value is replaced by a later one."""

    table: Mapping[str, Any]
    origin: Mapping[KeyPath, Document]
    main: Path

    def where(self, at: KeyPath) -> tuple[Path, int]:
        """Return file and line of the last document that set the value."""
        known = (self.origin[at[:n]] for n in range(len(at), 0, -1) if at[:n] in self.origin)
        document = next(known, None)
        return document.where(at) if document else (self.main, 0)


def read_layers(paths: ConfigPaths, problems: Problems) -> LayeredDocuments:
    """Read the main file and its drop-ins: the main file first, then conf.d by file name."""
    files = [paths.main] if paths.required or paths.main.exists() else []
    files += drop_ins([directory / "conf.d" for directory in paths.directories], problems)
    passed_over([directory / "conf.d" for directory in paths.directories], (), problems)
    documents = (read(path, problems) for path in files)
    table: dict[str, Any] = {}
    origin: dict[KeyPath, Document] = {}
    for document in documents:
        if document:
            _merge(table, document.table, (), document, origin)
    return LayeredDocuments(table, origin, paths.main)


def drop_ins(directories: Iterable[Path], problems: Problems) -> list[Path]:
    """Return the *.toml files of several directories, in lexical order of their names.

    A file masks one of the same name in an earlier directory.  An empty file, or a symbolic link
    to /dev/null, only masks.  A directory that does not exist holds nothing.
    """
    chosen: dict[str, Path] = {}
    for directory in directories:
        for path in _entries(directory, problems):
            if _is_drop_in(path.name):
                chosen[path.name] = path
    return [chosen[name] for name in sorted(chosen) if not _masks(chosen[name])]


def passed_over(directories: Iterable[Path], used: Collection[Path], problems: Problems) -> None:
    """Warn of what lies in these directories and is not read, as its name does not end in .toml.

    used: files that are read for another reason, as the lists of rules.  Hidden files that are no
    copies of a drop-in, and what a README is called, are meant to be passed over.
    """
    for directory in directories:
        found = [path for path in _entries(directory, Problems()) if not _is_drop_in(path.name)]
        idle = [path for path in found if not _QUIET.match(path.name) and not _serves(path, used)]
        for path in idle[:MAX_PASSED_OVER]:
            problems.add((path, 0), "is not read: rename it to *.toml, or remove it", fatal=False)
        if more := idle[MAX_PASSED_OVER:]:
            problems.add((directory, 0), f"{len(more)} more files are not read", fatal=False)


def _entries(directory: Path, problems: Problems) -> list[Path]:
    """Return what a directory holds, by name; where it cannot be read, the problem is noted."""
    try:
        return sorted(directory.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.add((directory, 0), f"cannot be read: {error.strerror}")
        return []


def _is_drop_in(name: str) -> bool:
    return name.endswith(".toml") and not name.startswith(".")


def _serves(path: Path, used: Collection[Path]) -> bool:
    """Whether a path is in use, or a directory of what is."""
    return any(path == one or path in one.parents for one in used)


def read(path: Path, problems: Problems) -> Document | None:
    """Read one TOML file; None if there was a problem."""
    text = read_text(path, problems)
    if text is None:
        return None
    try:
        return Document(path, tomli.loads(text), dict(lines(text)))
    except tomli.TOMLDecodeError as error:
        located = re.fullmatch(r"(.*) \(at line (\d+), .*\)", str(error), re.S)
        line = int(located[2]) if located else len(text.splitlines())
        why = shown(located[1] if located else str(error), 200)
        remedy = ": put a text in quotes" if why == _UNQUOTED else ""
        problems.add((path, line), f"not valid TOML: {why}{remedy}")
    except RecursionError:
        problems.add((path, 0), "not valid TOML: nested too deeply")
    return None


def parse(text: str) -> dict[str, Any]:
    """Return the tables of a TOML text.  Raises ValueError, which says where it is wrong."""
    try:
        return tomli.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_text(path: Path, problems: Problems) -> str | None:
    """Read one file; None if there was a problem.

    It must be a regular file of UTF-8, with a byte order mark or without, at most 8 MiB, and not
    world-writable.
    """
    try:
        fault = _fault(path.stat())
        text = "" if fault else path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        fault = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        fault = "not UTF-8: save it in that encoding"
    if fault:
        problems.add((path, 0), fault)
        return None
    return text


def _fault(status: os.stat_result) -> str:
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    if status.st_mode & stat.S_IWOTH:
        return "world-writable: run chmod o-w on it"
    return f"larger than {MAX_BYTES >> 20} MiB" if status.st_size > MAX_BYTES else ""


def _masks(path: Path) -> bool:
    try:
        return path.resolve() == _NULL or path.stat().st_size == 0
    except (OSError, RuntimeError):  # a dangling link, or a loop of links: reading will fail
        return False


def _merge(
    into: dict[str, Any],
    table: Mapping[str, Any],
    at: KeyPath,
    document: Document,
    origin: dict[KeyPath, Document],
) -> None:
    for key, value in table.items():
        origin[(*at, key)] = document
        if isinstance(value, dict):
            if not isinstance(into.get(key), dict):
                into[key] = {}
            _merge(into[key], value, (*at, key), document, origin)
        else:
            into[key] = value


_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"\\]*"|'[^']*')"""
_KEYS = rf"\s*{_KEY}(?:\s*\.\s*{_KEY})*\s*"
_HEADER = re.compile(rf"\s*(\[\[?)({_KEYS})\]")
_VALUE = re.compile(rf"({_KEYS})=")


def lines(text: str) -> Iterator[tuple[KeyPath, int]]:
    """Yield table and line number of each header, and of each key that begins a line.

    A value inside an array or an inline table has the line of the key it belongs to.
    """
    table: KeyPath = ()
    counts: dict[KeyPath, int] = {}
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if not inside and (header := _HEADER.match(line)):
            table = _split(header[2])
            if header[1] == "[[":
                if table not in counts:
                    yield table, number
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            else:  # it may be a table of the newest element of an array
                table = _in_newest(table, counts)
            yield table, number
        elif not inside and (value := _VALUE.match(line)):
            yield (*table, *_split(value[1])), number
        inside ^= (line.count('"""') + line.count("'''")) % 2 == 1


def _in_newest(table: KeyPath, counts: Mapping[KeyPath, int]) -> KeyPath:
    """Return a table with the number of the array's newest element that it is inside."""
    for length in range(1, len(table)):
        if (array := table[:length]) in counts:
            return (*array, counts[array], *table[length:])
    return table


def _split(dotted: str) -> KeyPath:
    return tuple(part.strip("\"' \t") for part in re.findall(_KEY, dotted))


def shown(text: str, most: int = 64) -> str:
    """Return a text fit for a terminal: printable ASCII, all else escaped.

    most: characters of the text that are shown.  ASCII, since letters of other scripts can look
    like those of a known key.
    """
    return "".join(c if " " <= c <= "~" else ascii(c)[1:-1] for c in text[:most])
