"""python -m tools.lifecycle_diagram: the picture in ARCHITECTURE.md, drawn from the table."""

from __future__ import annotations

from collections.abc import Iterator

from gatewayd.device.lifecycle import (
    TRANSITIONS,
    WORK,
    Forgotten,
    Frozen,
    OwnedElsewhere,
    Rejected,
    Retired,
    State,
)

VERDICTS = (Rejected, Forgotten, Retired, Frozen, OwnedElsewhere)


def lines() -> Iterator[str]:
    """Yield a Mermaid state diagram.  Verdicts, which hold everywhere, are left to the text."""
    yield "stateDiagram-v2"
    yield "    [*] --> forgotten"
    for state, work in WORK.items():
        yield f"    {state.value} : {state.value}<br/>({work.value})"
    for state, row in TRANSITIONS.items():
        for target in State:
            events = [e.__name__ for e, t in row.items() if t is target and e not in VERDICTS]
            if events and target is not state:
                yield f"    {state.value} --> {target.value} : {', '.join(events)}"


if __name__ == "__main__":
    print("\n".join(lines()))
