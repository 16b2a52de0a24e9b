"""Onboarding at a gateway's scale: through the gateway's session and directly, beside others.

The children are named by the discoverer "static", so that finding them costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from gatewayd.cloud.alibaba import rate_limits
from gatewayd.simulator.alibaba.rules import AlibabaRules
from script.benchmarks import bare, rivals
from script.benchmarks.onboarding import Speed, onboard
from script.benchmarks.rounds import Sample, alternate
from script.benchmarks.stage import stage
from script.benchmarks.subject import Subject
from script.benchmarks.table import Figure
from script.benchmarks.threads import Took

GATEWAY_SPEED, DIRECT_SPEED = Speed(240, 240), Speed(64, 64)
"""As many as eight batches of 30 hold; and for connections, what two processors can use."""
FOUND = "named by the discoverer static"
DIRECT = 240
"""Children that connect directly: their connections are no more than the cloud lets an account
open in a second, so that however fast one is, it never has to wait."""
GROWTH, GROWTH_PATIENCE = (100, 300, 1000, 3000, 10_000), 600.0
PAHO, LEAN, VENDOR, BARE = 200, DIRECT, 60, 200


async def measure(children: int, subjects: Sequence[Subject]) -> list[Figure]:
    """Onboard so many by the gateway, and fewer directly, while others do some of the same work.

    Raises ValueError where a gateway of the cloud cannot have so many.
    """
    if children > AlibabaRules().children:
        raise ValueError(f"a gateway has at most {AlibabaRules().children:,} children")
    await rivals.install_vendor()
    through = await _through_gateway(children, subjects)
    return [*through, *await _directly(min(children, DIRECT), subjects)]


async def measure_growth(subjects: Sequence[Subject]) -> list[Figure]:
    """Onboard more and more directly, once each, beside bare connections of the same minute."""
    found = []
    for children in GROWTH:
        async with stage(children, subjects[0], apart=True) as one:
            serials, patience = one.site.plant["serials"], GROWTH_PATIENCE
            cpu = (await onboard(one, serials, DIRECT_SPEED, patience=patience)).each
        bare_cpu = (await _bare())["cpu"]
        note = f"{cpu:.2f} ms, of {bare_cpu:.2f} ms"
        what = f"{children:,} children directly: CPU per child, of a bare connection"
        found.append(Figure(what, cpu / bare_cpu, "times", note=note))
    return found


async def _through_gateway(children: int, subjects: Sequence[Subject]) -> list[Figure]:
    async def ours(subject: Subject) -> Sample:
        async with stage(children, subject, apart=True, route="sub-device") as one:
            return (await onboard(one, one.site.plant["serials"], GATEWAY_SPEED)).sample

    found = await alternate(subjects, ours, {"bare": _bare})
    limit = AlibabaRules().logins
    wall = found.median("gatewayd", "seconds") / (children / limit)
    return [
        found.figure(f"sub-device: {children:,} children, from start to all online", "seconds",
                     "s", note=f"{FOUND}; {GATEWAY_SPEED}"),
        Figure(f"  wall, of what the cloud's limit of {limit} logins a second takes", wall,
               "times", note=f"gatewayd makes {rate_limits.LOGINS} a second"),
        found.figure("  CPU per child", "cpu", "ms"),
        found.figure("  CPU per child, of a bare TLS handshake with CONNECT and CONNACK", "cpu",
                     "times", of=("bare", "cpu"), budget=1.3),
        found.figure("  peak PSS", "peak", "MB"),
    ]  # fmt: skip


async def _directly(children: int, subjects: Sequence[Subject]) -> list[Figure]:
    async def ours(subject: Subject) -> Sample:
        async with stage(children, subject, apart=True) as one:
            return (await onboard(one, one.site.plant["serials"], DIRECT_SPEED)).sample

    others = {"paho": _paho, "lean": _lean, "vendor": _vendor, "bare": _bare}
    found = await alternate(subjects, ours, others)
    return [
        found.figure(f"direct: {children:,} children, from start to all online", "seconds", "s",
                     note=f"{FOUND}; {DIRECT_SPEED}"),
        found.figure("  CPU per child", "cpu", "ms", note="it has two connections"),
        found.figure("  CPU per child, of plain paho with a thread for each", "cpu", "times",
                     of=("paho", "cpu"), budget=1.4),
        found.figure("  CPU per child, of the least that is durable", "cpu", "times",
                     of=("lean", "cpu"), budget=2.5),
        found.figure("  CPU per child, of a bare TLS handshake with CONNECT and CONNACK", "cpu",
                     "times", of=("bare", "cpu")),
        found.figure("  PSS per child online", "kept", "kB"),
        found.beside("beside it: a bare TLS handshake with CONNECT and CONNACK, CPU", "bare",
                     "cpu", "ms", f"{BARE} in a round"),
        found.beside("  plain paho, a thread for each device: CPU per child", "paho", "cpu", "ms",
                     f"{PAHO} register and log in, all at once; nothing is stored"),
        found.beside("  plain paho: PSS per child online", "paho", "kept", "kB"),
        found.beside("  the least that is durable: CPU per child", "lean", "cpu", "ms",
                     f"{LEAN} by one asyncio loop, with four durable steps each"),
        found.beside("  the least that is durable: PSS per child online", "lean", "kept", "kB"),
        found.beside("  the vendor's SDK: CPU per registration", "vendor", "cpu", "ms",
                     f"{VENDOR}, one after the other; no login, nothing is stored"),
    ]  # fmt: skip


async def _bare() -> Sample:
    async with stage(apart=True) as one:
        return {"cpu": await bare.cost(one.site, BARE)}


async def _paho() -> Sample:
    async with stage(PAHO, apart=True) as one:
        return _sample(await rivals.registering(one.site, one.site.plant["serials"]), PAHO)


async def _lean() -> Sample:
    async with stage(LEAN, apart=True) as one:
        took = await rivals.lean(one.site, one.site.plant["serials"], DIRECT_SPEED.in_flight)
        return _sample(took, LEAN)


async def _vendor() -> Sample:
    async with stage(VENDOR, apart=True) as one:
        return {"cpu": (await rivals.vendor(one.site, one.site.plant["serials"])).each}


def _sample(took: Took, children: int) -> Sample:
    return {"cpu": took.cpu / children * 1000, "kept": took.kept / children * 1000}
