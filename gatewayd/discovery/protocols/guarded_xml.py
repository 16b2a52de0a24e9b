"""The XML that devices send, read with bounds: no document type, and never much of anything.

A document type could define entities that grow when they are expanded, or name files to be read
(XML 1.0, 2.8 and 4.4); no protocol here needs one.  expat expands nothing else.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from gatewayd.discovery.probing.protocol import UnreadableAnswer

MAX_DEPTH = 16
MAX_ELEMENTS = 500

_SEPARATOR = " "  # never in the name of an element
_AROUND = b"\0\t\n\r "  # what some devices send before or after a document


@dataclass(slots=True)
class XmlElement:
    """An element.

    name: "{namespace}local", or "local" in no namespace.  attributes: by such names.
    prefixes: the namespaces in scope by prefix; "" is the default one.
    text: its own, not that of its children.
    """

    name: str
    attributes: Mapping[str, str]
    prefixes: Mapping[str, str]
    children: list[XmlElement] = field(default_factory=list)
    text: str = ""

    def named(self, name: str) -> Iterator[XmlElement]:
        """Yield the children of a name."""
        return (one for one in self.children if one.name == name)

    def first(self, *path: str) -> XmlElement | None:
        """Return the first child of a name, the first of another in that, and so on."""
        found: XmlElement | None = self
        for name in path:
            found = next(found.named(name), None) if found else None
        return found

    def text_of(self, *path: str) -> str:
        """Return the text of such a child without white space around it; "" if there is none."""
        found = self.first(*path)
        return found.text.strip() if found else ""


def parse(data: bytes, most: int) -> XmlElement:
    """Return the root of a document.  Raises UnreadableAnswer.

    most: bytes that it may have.  It is read as UTF-8, and as ISO 8859-1 where it is not that,
    whatever it declares: the name of an encoding would choose a module to be loaded.
    """
    if len(data) > most:
        raise UnreadableAnswer("oversized")
    builder = _Builder()
    parser = expat.ParserCreate(_encoding(data), _SEPARATOR)
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = builder.refuse_document_type
    parser.StartNamespaceDeclHandler = builder.declare
    parser.StartElementHandler = builder.start
    parser.CharacterDataHandler = builder.add_text
    parser.EndElementHandler = builder.end
    try:
        parser.Parse(data.strip(_AROUND), True)
    except expat.ExpatError as error:
        raise UnreadableAnswer("malformed-xml") from error
    return builder.root


def _encoding(data: bytes) -> str:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "iso-8859-1"
    return "utf-8"


class _Builder:
    """What makes elements of what expat reports, as long as they are few and not deep."""

    def __init__(self) -> None:
        self.root = XmlElement("", {}, {})
        self._open: list[XmlElement] = []
        self._scopes: list[ChainMap[str, str]] = [ChainMap()]
        self._declared: dict[str, str] = {}
        self._count = 0

    def refuse_document_type(self, *_: object) -> None:
        """Refuse the document."""
        raise UnreadableAnswer("document-type")

    def declare(self, prefix: str | None, uri: str | None) -> None:
        """Note a prefix of the element that starts next."""
        self._declared[prefix or ""] = uri or ""

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """Open an element."""
        self._count += 1
        if len(self._open) >= MAX_DEPTH or self._count > MAX_ELEMENTS:
            raise UnreadableAnswer("too-much-xml")
        scope = self._scopes[-1]
        if self._declared:
            scope, self._declared = scope.new_child(self._declared), {}
        named = {_full(key): value for key, value in attributes.items()}
        element = XmlElement(_full(name), named, scope)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)
        self._scopes.append(scope)

    def add_text(self, text: str) -> None:
        """Add text to the element that is open: between its children, in several pieces."""
        self._open[-1].text += text

    def end(self, _name: str) -> None:
        """Close an element."""
        self._open.pop()
        self._scopes.pop()


def _full(name: str) -> str:
    uri, _, local = name.rpartition(_SEPARATOR)
    return f"{{{uri}}}{local}" if uri else local
