"""Kills a gateway of a site with SIGKILL right after one of its durable steps.

Each gateway that is to die is a process of its own, forked from one that has no threads.
"""

from __future__ import annotations

import asyncio
import base64
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewayd.device.record import unchanged
from gatewayd.device.secret import Secret
from gatewayd.runtime.sqlite import Database
from gatewayd.site.etcd import EtcdClient
from gatewayd.site.settings import SiteSettings
from tests.support.replicas import NOW, Gateway, gateway

PATIENCE = 60.0


@dataclass(frozen=True)
class Place:
    """Where a gateway runs: the directory of its stores, its name, and the settings of etcd."""

    directory: Path
    name: str
    etcd: SiteSettings

    def settings(self) -> SiteSettings:
        return self.etcd


async def register(one: Gateway, number: int, acknowledge: Callable[[str], object]) -> None:
    """Register a child as the registrar does; acknowledge each step that has returned."""
    record = await one.admit(number)
    acknowledge("admitted")
    await one.records.update(record.device, lambda r: unchanged(r).with_intent(NOW))
    acknowledge("intent")
    await one.secrets.put(record.slot(1), Secret(b"issued"))
    acknowledge("secret")
    await one.records.update(record.device, lambda r: unchanged(r).with_secret(1, NOW))
    acknowledge("pointer")


async def gain(place: Place, _: Callable[[str], object], numbers: Sequence[int]) -> None:
    """Gain the shards of some children."""
    async with gateway(place.directory, place, place.name) as one:
        await one.take(*numbers)


async def gain_and_register(
    place: Place, acknowledge: Callable[[str], object], numbers: Sequence[int]
) -> None:
    """Gain the shards of some children, and register them."""
    async with gateway(place.directory, place, place.name) as one:
        await one.take(*numbers)
        for number in numbers:
            await register(one, number, acknowledge)


WORKS = {"gain": gain, "gain_and_register": gain_and_register}


class Killing:
    """A process without threads, of which each gateway that is to die is a copy."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def close(self) -> None:
        """End the process.  Blocks."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(PATIENCE)
        assert self._server.stdout is not None
        self._server.stdout.close()

    def killed_at(
        self, step: int, work: str, place: Place, *numbers: int
    ) -> tuple[bool, list[str]]:
        """Do some work in a process of its own, killed right after a durable step.  Blocks.

        step: how many others are taken before.  work: one of WORKS.
        Returns whether it was killed, and what it had acknowledged.
        """
        server = self._server
        assert server.stdin is not None
        assert server.stdout is not None
        job = base64.b64encode(pickle.dumps((step, work, place, numbers))).decode()
        print(job, file=server.stdin, flush=True)
        done: list[str] = []
        for line in server.stdout:
            word, _, rest = line.strip().partition(" ")
            if word == "ended":
                assert int(rest) in (0, signal.SIGKILL), f"it ended by itself, with {rest}"
                return bool(int(rest)), done
            done.append(rest)
        raise AssertionError("the process that is copied has ended")


def main() -> None:
    """Do what is requested on the standard input, until that is closed."""
    for line in sys.stdin:
        step, work, place, numbers = pickle.loads(base64.b64decode(line))  # noqa: S301  # of the test
        copy = os.fork()
        if not copy:
            _count_down(step)
            asyncio.run(WORKS[work](place, lambda word: print("did", word, flush=True), numbers))
            os._exit(0)
        print("ended", os.waitpid(copy, 0)[1], flush=True)


def _count_down(step: int) -> None:
    """Have this process killed after so many commits that wrote, and transactions of etcd."""
    left = step
    commit, txn = Database.commit, EtcdClient.txn

    def count() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def committed(self: Database) -> None:
        wrote = self._begun
        commit(self)
        if wrote:
            count()

    async def answered(self: EtcdClient, *arguments: Any) -> Any:  # as of txn
        result = await txn(self, *arguments)
        count()
        return result

    Database.commit = committed  # type: ignore[method-assign]  # in a process that ends with it
    EtcdClient.txn = answered  # type: ignore[method-assign,assignment]  # likewise


if __name__ == "__main__":
    main()
