"""Onboarding at a gateway's scale at a broker of the site, a real mosquitto, beside plain paho.

The children are named by the discoverer "static", so that finding them costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from script.benchmarks import bare, rivals
from script.benchmarks.onboarding import Speed, onboard
from script.benchmarks.rounds import Sample, alternate
from script.benchmarks.stage import stage
from script.benchmarks.subject import Subject
from script.benchmarks.table import Figure

SPEED = Speed(64, 64)
"""For connections, what two processors can use: commands go in batches, one batch at a time."""
FOUND = "named by the discoverer static"
FEWER = 4
"""One in so many children comes by password: the broker hashes and writes its file for each."""
BARE = 200


async def measure(children: int, subjects: Sequence[Subject]) -> list[Figure]:
    """Onboard some of so many by password, each with a client of its own."""
    return await _by_password(max(1, children // FEWER), subjects)


async def _by_password(children: int, subjects: Sequence[Subject]) -> list[Figure]:
    broker = partial(stage, apart=True, cloud="mqtt")

    async def ours(subject: Subject) -> Sample:
        async with broker(children, subject) as one:
            return (await onboard(one, one.site.plant["serials"], SPEED)).sample

    async def others() -> Sample:
        async with broker(children) as one:
            connection = await bare.cost(one.site, BARE)
            took = await rivals.created(one.site, one.site.plant["serials"])
            return {
                "bare": connection, "cpu": took.cpu / children * 1000, "kept": took.kept /
                children * 1000, "online": took.seconds,
            }  # fmt: skip

    found = await alternate(subjects, ours, {"paho": others})
    return [
        found.figure(f"password: {children:,} children, from start to all online", "seconds", "s",
                     note=f"{FOUND}; {SPEED}"),
        found.figure("  wall, from READY=1, of plain paho", "online", "times",
                     of=("paho", "online"), note="the broker hashes and writes for each alike"),
        found.figure("  CPU per child", "cpu", "ms"),
        found.figure("  CPU per child, of plain paho", "cpu", "times", of=("paho", "cpu")),
        found.figure("  CPU per child, of a bare TLS handshake with CONNECT and CONNACK", "cpu",
                     "times", of=("paho", "bare")),
        found.figure("  PSS per child online", "kept", "kB"),
        found.beside("beside it: plain paho, a thread for each child, wall", "paho", "online", "s",
                     "creates them one by one, and logs in; nothing is stored"),
        found.beside("  plain paho: CPU per child", "paho", "cpu", "ms"),
        found.beside("  plain paho: PSS per child online", "paho", "kept", "kB"),
        found.beside("  a bare TLS handshake with CONNECT and CONNACK, CPU", "paho", "bare", "ms",
                     f"{BARE} in a round"),
    ]  # fmt: skip
