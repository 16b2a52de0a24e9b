"""What a power cut leaves of the outbox: what was acknowledged is there, once, in order."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from gatewayd.messages.outbox.file import OutboxFile
from script.soaking.messages.marks import ChildMarks, lost, out_of_order, stored_twice
from script.soaking.messages.workload import marks_of, number_of, running
from script.soaking.powercut.cuts import Cut, cuts_of, lay_out
from script.soaking.powercut.trace import MARKS, Operation


def message_cuts(trace: Sequence[Operation], number: int, seed: int) -> Iterator[Cut[bytes]]:
    """Yield so many cuts, with the marks that were written before each."""
    return cuts_of(trace, number, seed, lambda marks: marks)


async def judge_messages(cut: Cut[bytes], directory: Path) -> list[str]:
    """Return which laws are broken by what a cut has left; if none, after all of it was sent."""
    lay_out({**cut.files, MARKS: cut.made}, directory)
    try:
        found = await asyncio.to_thread(look, directory)
        if found:  # what is broken already may never be delivered
            return [f"after {cut.after}: {text}" for text in found]
        async with running(directory, directory / MARKS) as workload:
            await workload.delivered()
        for child, own in (await asyncio.to_thread(marks_of, directory / MARKS)).items():
            found += [f"{child}: {number} never came" for number in lost(own)]
            found += [f"{child}: {number} is late" for number in out_of_order(own.received)]
    finally:
        shutil.rmtree(directory)
    return [f"after {cut.after}: {text}" for text in found]


def look(directory: Path) -> list[str]:
    """Return what is wrong with the outbox, by the marks beside it.  Raises StoreError."""
    marks, found = marks_of(directory / MARKS), list[str]()
    with closing(OutboxFile(directory)) as file:
        names = {number: name for name, number in file.contents().children.items()}
        stored: dict[str, list[int]] = {}
        for part in file.index():
            for row in file.read([number for number, *_ in part]):
                number = number_of(row.payload)
                if row.child in names:
                    stored.setdefault(names[row.child], []).append(number)
                else:
                    found.append(f"{number} is of no child")
    for child in {*marks, *stored}:
        numbers = stored.get(child, [])
        found += [f"{child}: {n} is lost" for n in lost(marks.get(child, ChildMarks()), numbers)]
        found += [f"{child}: {n} is stored twice" for n in stored_twice(numbers)]
        found += [f"{child}: {n} is out of order" for n in out_of_order(numbers)]
    return found
