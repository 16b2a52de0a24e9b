"""A disk whose power is cut: what was synced is there, and of the rest, anything may be.

As POSIX has it (fsync, XSH): the data of a file is there after its own sync, and its name after
that of the directory.  Before that, operations may be lost and reordered, and writes be torn
between sectors; a rename is whole or not at all.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from script.soaking.powercut.trace import Operation

SECTORS = (512, 4096)
Name = str


@dataclass(slots=True)
class _File:
    """synced: what is sure to be there.  pending: what was done since."""

    synced: bytes = b""
    pending: list[Operation] = field(default_factory=list)

    def sync(self) -> None:
        self.synced = _all_done(self.synced, self.pending)
        self.pending.clear()


class Disk:
    """One directory.  `do` what was done, then `cut` the power, as often as wanted."""

    def __init__(self) -> None:
        self._names: dict[Name, _File] = {}
        self._synced: dict[Name, _File] = {}
        self._pending: list[Callable[[dict[Name, _File]], object]] = []

    def do(self, operation: Operation) -> None:
        """Take in one operation."""
        match operation.what:
            case "c":
                self._rename(operation.name, _File())
            case "u":
                self._unlink(operation.name)
            case "r":
                file = self._names[operation.name]
                self._rename(operation.data.decode(), file, operation.name)
            case "s" if not operation.name:
                self._synced = dict(self._names)
                self._pending.clear()
            case "s":
                self._names[operation.name].sync()
            case _:
                self._names[operation.name].pending.append(operation)

    def whole(self) -> Mapping[Name, bytes]:
        """Return what is there while the power is on."""
        return {n: _all_done(file.synced, file.pending) for n, file in self._names.items()}

    def cut(self, rng: random.Random) -> Mapping[Name, bytes]:
        """Return what may be there when the power comes back: one of many possibilities."""
        names = dict(self._synced)
        share = rng.choice((0.0, 0.5, 1.0))
        for change in self._pending:
            if rng.random() < share:
                change(names)
        return {name: _survived(file, rng) for name, file in names.items()}

    def _rename(self, name: Name, file: _File, old: Name = "") -> None:
        def change(names: dict[Name, _File]) -> None:
            names.pop(old, None)
            names[name] = file

        self._change(change)

    def _unlink(self, name: Name) -> None:
        self._change(lambda names: names.pop(name, None))

    def _change(self, change: Callable[[dict[Name, _File]], object]) -> None:
        change(self._names)
        self._pending.append(change)


def _survived(file: _File, rng: random.Random) -> bytes:
    """Return what may be left of a file."""
    some = rng.randint(0, len(file.pending))
    way = rng.randrange(4)
    if way == 0:
        return _all_done(file.synced, file.pending)
    if way == 1:
        return _all_done(file.synced, file.pending[:some])
    share = rng.random()
    if way == 2:  # one of four
        return _all_done(file.synced, [one for one in file.pending if rng.random() < share])
    return _all_done(file.synced, _torn(file.pending, rng, share))


def _torn(done: Sequence[Operation], rng: random.Random, share: float) -> list[Operation]:
    """Return the same with writes cut into sectors, of which only some are there."""
    size = rng.choice(SECTORS)
    return [
        part
        for one in done
        for part in (_sectors(one, size) if one.what == "w" else [one])
        if rng.random() < share
    ]


def _sectors(write: Operation, size: int) -> list[Operation]:
    """Cut a write at the sectors of the disk."""
    first = size - write.offset % size
    cuts = [0, *range(first, len(write.data), size), len(write.data)]
    return [
        Operation("w", write.name, write.offset + begin, write.data[begin:end])
        for begin, end in pairwise(cuts)
    ]


def _all_done(content: bytes, done: Sequence[Operation]) -> bytes:
    if not done:
        return content
    file = bytearray(content)
    for one in done:
        end = one.offset + len(one.data)
        if one.what == "t":
            del file[one.offset :]
        if len(file) < end:
            file.extend(bytes(end - len(file)))
        if one.what == "w":
            file[one.offset : end] = one.data
    return bytes(file)
