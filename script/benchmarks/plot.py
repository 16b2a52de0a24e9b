"""What was measured, as one picture: bars beside their rivals, and how the cost grows.  SVG 1.1.

It is written here, and not by a library of plots: a picture is a few rectangles and words, is the
same for the same figures, and takes some kilobytes of the repository.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from xml.sax.saxutils import escape

from script.benchmarks.table import Figure

Parts: TypeAlias = Mapping[str, Sequence[Figure]]
"""The figures of each part of a run, by its name."""

WIDTH, COLUMN, MARGIN, ROW = 960, 465, 15, 22  # pixels
LABEL, NUMBER = 215, 70  # pixels beside a bar: its name, and its value
PLOT = 130  # pixels: the height of a curve
OURS, OTHERS, LIMIT, TEXT = "#1f6fb2", "#a9b4bf", "#c2410c", "#1b2530"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a panel.

    name: as the picture has it.  part, what: the figure, by how its name in `named` ends.
    """

    name: str
    part: str
    what: str
    ours: bool = True


PANELS: Final[Sequence[tuple[str, Sequence[Bar]]]] = (
    ("Processor time of a child, direct to online, ms", (
        Bar("gatewayd, all of it durable", "alibaba", "direct: CPU per child"),
        Bar("the least that is durable", "alibaba",
            "beside it: the least that is durable: CPU per child", ours=False),
        Bar("plain paho, nothing stored", "alibaba",
            "beside it: plain paho, a thread for each device: CPU per child", ours=False),
        Bar("vendor's SDK, no login", "alibaba",
            "beside it: the vendor's SDK: CPU per registration", ours=False),
        Bar("a bare TLS connection", "alibaba",
            "beside it: a bare TLS handshake with CONNECT and CONNACK, CPU", ours=False),
    )),
    ("Processor time of a child on other routes, ms", (
        Bar("sub-device, Alibaba Cloud", "alibaba", "sub-device: CPU per child"),
        Bar("sub-device, Huawei Cloud", "huawei", "sub-device: CPU per child"),
        Bar("certificate, EC P-256", "huawei", "certificate, ec-p256: CPU per child"),
        Bar("plain paho with a certificate", "huawei",
            "beside it: plain paho, a thread for each device: CPU per child", ours=False),
    )),
    ("Start with 10,000 children on record, s", (
        Bar("to READY", "fleet", "start to READY=1, 10,000 children"),
        Bar("the imports alone", "fleet", "start to READY=1, 10,000 children: the imports alone",
            ours=False),
    )),
    ("Memory of all processes, PSS in MB", (
        Bar("no children", "fleet", "idle PSS, 0 children"),
        Bar("10,000 children, at rest", "fleet", "idle PSS, 10,000 children"),
        Bar("after GetManagedObjects", "fleet", "PSS after that"),
    )),
    ("Processor time of a message, µs", (
        Bar("gatewayd, a commit each 20 ms", "messages", ": commit_delay 20 ms, CPU each"),
        Bar("gatewayd, a commit each 5 ms", "messages", ": commit_delay 5 ms, CPU each"),
        Bar("mosquitto's bridge", "messages", ": mosquitto's bridge, CPU each", ours=False),
    )),
)  # fmt: skip
GROWTH: Final = "Processor time of a child, of a bare connection, by number of children"


def picture(parts: Parts, *where: str) -> str:
    """Return an SVG document.  where: on what was measured, and how busy that was, a line each.

    A panel without any figure in these parts is left out.
    """
    drawn = [panel for title, bars in PANELS if (panel := _bars(title, bars, parts))]
    if grown := [one for one in parts.get("growth", ()) if one.unit == "times"]:
        drawn.append(_curve(grown))
    pieces, tops = list[str](), [MARGIN, MARGIN]
    for height, body in drawn:
        column = tops.index(min(tops))
        pieces.append(f'<g transform="translate({MARGIN + column * COLUMN},{tops[column]})">')
        pieces += [*body, "</g>"]
        tops[column] += height + MARGIN
    first = max(tops) + ROW
    height = first + ROW * len(where)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="12" fill="{TEXT}">'
    )
    ground = f'<rect width="{WIDTH}" height="{height}" fill="white"/>'
    foot = (_text(MARGIN, first + n * ROW, line, size=11) for n, line in enumerate(where))
    return "\n".join((head, ground, *pieces, *foot, "</svg>", ""))


def named(figures: Iterable[Figure]) -> dict[str, Figure]:
    """Return figures by name: that of an indented one begins with what its heading begins with."""
    found, heading = dict[str, Figure](), ""
    for one in figures:
        if not one.what.startswith(" "):
            heading = one.what.partition(": ")[0]
        inner = one.what.strip() if one.what.startswith(" ") else one.what.partition(": ")[2]
        for name in (one.what, f"{heading}: {inner}"):
            found.setdefault(name, one)
    return found


def _figure(bar: Bar, parts: Parts) -> Figure | None:
    figures = named(parts.get(bar.part, ())).items()
    return next((one for name, one in figures if name.endswith(bar.what)), None)


def _bars(title: str, bars: Sequence[Bar], parts: Parts) -> tuple[int, Sequence[str]] | None:
    """Return height and elements of a panel; None where there is nothing to show."""
    shown = [(bar, one) for bar in bars if (one := _figure(bar, parts)) is not None]
    if not shown:
        return None
    most = max(max(one.value, one.budget or 0.0) for _, one in shown) or 1.0
    room = COLUMN - LABEL - NUMBER - MARGIN
    body = [_text(0, 14, title, bold=True)]
    for place, (bar, one) in enumerate(shown, 1):
        top, length = place * ROW + 4, room * one.value / most
        body += (
            _text(LABEL - 8, top + 12, bar.name, anchor="end"),
            _box(LABEL, top, length, OURS if bar.ours else OTHERS),
            _text(LABEL + max(length, _limit(one, room / most)) + 6, top + 12, _short(one.value)),
        )
        if one.budget is not None:
            at = LABEL + room * one.budget / most
            body.append(f'<path d="M{at:.1f} {top - 2}v19" stroke="{LIMIT}" stroke-width="2"/>')
    return (len(shown) + 1) * ROW, body


def _limit(one: Figure, scale: float) -> float:
    return (one.budget or 0.0) * scale


def _curve(figures: Sequence[Figure]) -> tuple[int, Sequence[str]]:
    """Return height and elements of the panel of growth: by decades from left to right."""
    points = [(_children(one.what), one.value) for one in figures]
    low, high = (math.log10(end(n for n, _ in points)) for end in (min, max))
    most, room = max(value for _, value in points) * 1.2, COLUMN - 2 * MARGIN - 60
    placed = [
        (20 + room * (math.log10(n) - low) / ((high - low) or 1), 30 + PLOT * (1 - value / most))
        for n, value in points
    ]
    way = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    body = [
        _text(0, 14, GROWTH, bold=True),
        f'<path d="M20 {30 + PLOT}h{room}" stroke="{OTHERS}"/>',
        f'<polyline points="{way}" fill="none" stroke="{OURS}" stroke-width="2"/>',
    ]
    for (x, y), (number, value) in zip(placed, points, strict=True):
        body.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{OURS}"/>')
        body.append(_text(x, y - 8, _short(value), anchor="middle"))
        body.append(_text(x, 46 + PLOT, f"{number:,}", anchor="middle"))
    return PLOT + 50, body


def _children(what: str) -> int:
    """Return the number that a figure of growth begins with."""
    return int(what.split(maxsplit=1)[0].replace(",", ""))


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _box(x: float, y: float, width: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="15" fill="{colour}"/>'


def _text(
    x: float, y: float, words: str, *, anchor: str = "", bold: bool = False, size: int = 0
) -> str:
    marks: Iterator[str] = (
        mark for mark in (
            f' text-anchor="{anchor}"' if anchor else "",
            ' font-weight="bold"' if bold else "",
            f' font-size="{size}"' if size else "",
        ) if mark
    )  # fmt: skip
    return f'<text x="{x:.1f}" y="{y:.1f}"{"".join(marks)}>{escape(words)}</text>'
