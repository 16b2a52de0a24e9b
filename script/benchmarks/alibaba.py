"""Onboarding at a gateway's scale: through the gateway's session and directly, beside others.

The children are named by the discoverer "static", so that finding them costs next to nothing.
"""

from __future__ import annotations

import math

from gatewayd.cloud.alibaba import connection
from gatewayd.cloud.alibaba import requests as calls
from gatewayd.simulator.alibaba.rules import AlibabaRules
from script.benchmarks import bare, rivals
from script.benchmarks.onboarding import Run, Speed, onboard
from script.benchmarks.stage import stage
from script.benchmarks.table import Figure

GATEWAY_SPEED, DIRECT_SPEED = Speed(240, 240), Speed(64, 64)
"""As many as eight batches of 30 hold; and for connections, what two processors can use."""
FOUND = "named by the discoverer static"
PAHO, VENDOR, BARE = 200, 60, 200
CONNECTIONS = 2  # of a child that connects directly: one to register, one to log in
LOGINS = 200
"""Children that the cloud lets one gateway log in, in a second ("Limits" of its documentation)."""


async def measure(children: int) -> list[Figure]:
    """Onboard so many by either route, and have others do some of the same work.

    Raises ValueError where a gateway of the cloud cannot have so many.
    """
    if children > AlibabaRules().children:
        raise ValueError(f"a gateway has at most {AlibabaRules().children:,} children")
    await rivals.install_vendor()
    return [*await _through_gateway(children), *await _directly(children)]


async def _through_gateway(children: int) -> list[Figure]:
    async with stage(children, apart=True, route="sub-device") as one:
        run = await onboard(one, one.site.plant["serials"], GATEWAY_SPEED)
    requests = math.ceil(children / calls.REGISTERED) / connection.OTHERS
    return [
        Figure(f"sub-device: {children:,} children, from start to all online", run.seconds, "s", 5,
               f"{run.ready:.1f} s to READY=1; {FOUND}; {GATEWAY_SPEED}"),
        Figure(f"  the cloud's limit of {LOGINS} logins a second alone", children / LOGINS, "s",
               note=f"{children / connection.LOGINS:.1f} s at the "
                    f"{connection.LOGINS} that gatewayd asks; "
                    f"requests to register, and to attach: {requests:.1f} s each, meanwhile"),
        Figure("  CPU per child", run.each, "ms", 1.5, _cpu(run)),
        Figure("  peak PSS", run.peak, "MB", note=f"{run.empty:.1f} at READY=1"),
    ]  # fmt: skip


async def _directly(children: int) -> list[Figure]:
    async with stage(children + PAHO + VENDOR + 1, apart=True) as one:
        serials = one.site.plant["serials"]
        before = await bare.cost(one.site, BARE)
        paho = await rivals.registering(one.site, serials[children:][:PAHO])
        vendor = await rivals.vendor(one.site, serials[children + PAHO :])
        run = await onboard(one, serials[:children], DIRECT_SPEED)
        after = await bare.cost(one.site, BARE)
    least, each = (before + after) / 2, run.each / CONNECTIONS
    threaded = paho.cpu / PAHO * 1000
    return [
        Figure(f"direct: {children:,} children, from start to all online", run.seconds, "s",
               note=f"{run.ready:.1f} s to READY=1; {FOUND}; {DIRECT_SPEED}"),
        Figure("  CPU per child", run.each, "ms",
               note=f"it has {CONNECTIONS} connections; {_cpu(run)}"),
        Figure("  CPU per TLS connection, of a bare one", each / least, "times", 2),
        Figure("  peak PSS", run.peak, "MB", note=f"{run.empty:.1f} at READY=1"),
        Figure("beside it: a bare TLS handshake with CONNECT and CONNACK, CPU", least, "ms",
               note=f"{BARE} before, {before:.2f}, and after, {after:.2f}"),
        Figure("  plain paho, a thread for each device: CPU per child", threaded, "ms",
               note=f"{PAHO} register and log in, all at once, in {paho.seconds:.1f} s; nothing "
                    f"is stored; {threaded / CONNECTIONS / least:.2f} times a bare connection"),
        Figure("  plain paho: PSS per child online", paho.kept / PAHO * 1000, "kB",
               note=f"gatewayd: {(run.peak - run.empty) / children * 1000:.0f} kB"),
        Figure("  the vendor's SDK: CPU per registration", vendor.each, "ms",
               note=f"{VENDOR}, one after the other; no login, nothing is stored; "
                    f"{vendor.each / least:.2f} times a bare connection"),
        Figure("  the vendor's SDK: registrations", vendor.rate, "a second",
               note=f"gatewayd, with login: {children / (run.seconds - run.ready):.0f}"),
    ]  # fmt: skip


def _cpu(run: Run) -> str:
    return f"{run.used:.1f} s in all, {run.started:.1f} of that until READY=1, not counted"
