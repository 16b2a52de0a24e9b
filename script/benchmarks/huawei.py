"""Onboarding at a gateway's scale at Huawei Cloud IoTDA: as sub-devices and by certificate.

The children are named by the discoverer "static", so that finding them costs next to nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gatewayd.cloud.huawei import connection, requests
from gatewayd.cloud.huawei.messages import SubDeviceEvent
from gatewayd.cloud.huawei.settings import HuaweiGateway
from gatewayd.simulator.huawei.account import NAMES, home
from gatewayd.simulator.huawei.options import HuaweiRules
from script.benchmarks import bare, identities, rivals
from script.benchmarks.onboarding import Run, Speed, onboard
from script.benchmarks.stage import stage
from script.benchmarks.table import Figure
from script.benchmarks.threads import Took

GATEWAY_SPEED, CERTIFICATE_SPEED = Speed(240, 240), Speed(64, 64)
"""As many as several batches of 50 hold; and for connections, what two processors can use."""
FOUND = "named by the discoverer static"
SPARE = 3
"""Times as many children as are wanted, of which enough belong to one instance."""
FEWER, FEWEST = 4, 40
"""Of the sub-devices, one in so many comes by certificate: with a key of an elliptic curve, and
with an RSA key, which takes long to be made."""
BARE, PAHO = 200, 100


@dataclass(frozen=True, slots=True)
class Beside:
    """What others need.

    bare, made: milliseconds of CPU for a connection that shows a certificate, and for a key and
    its certificate.  spread: how it varied.  paho: so many threads of it.
    context: see identities.context_cost.
    """

    bare: float
    made: float
    spread: str
    paho: Took
    threads: int
    context: tuple[float, float]

    @property
    def least(self) -> float:
        """What nobody can do without who brings a child online by certificate."""
        return self.bare + self.made


async def measure(children: int) -> list[Figure]:
    """Onboard so many as sub-devices of one instance, and fewer by certificate at both."""
    return [
        *await _through_gateway(children),
        *await _by_certificate(math.ceil(children / FEWER), "ec-p256"),
        *await _by_certificate(math.ceil(children / FEWEST), "rsa-2048"),
    ]


async def _through_gateway(children: int) -> list[Figure]:
    async with stage(children * SPARE, apart=True, cloud="huawei", route="sub-device") as one:
        listed = [serial for serial in one.site.plant["serials"] if home(serial) == NAMES[0]]
        before = await bare.cost(one.site, BARE)
        run = await onboard(one, listed[:children], GATEWAY_SPEED)
        least = (before + await bare.cost(one.site, BARE)) / 2
    most, usual = HuaweiRules().status_rate, HuaweiGateway("", "").status_per_second
    adds = math.ceil(children / requests.ADDED) / connection.REQUESTS[SubDeviceEvent.ADD]
    return [
        Figure(f"sub-device: {children:,} children, from start to all online", run.seconds, "s",
               note=f"{run.ready:.1f} s to READY=1; {FOUND}; {GATEWAY_SPEED}"),
        Figure(f"  the platform's limit of {most} reports a second alone", children / most, "s",
               note=f"{children / usual:.1f} s at the {usual} that gatewayd makes, in requests of "
                    f"{usual // 2}; to add, {requests.ADDED} in a request: {adds:.1f} s, "
                    "meanwhile"),
        Figure("  wall, of what the reports take at that rate", run.seconds * usual / children,
               "times"),
        Figure("  CPU per child", run.each, "ms", 1.5, _cpu(run)),
        Figure("  CPU per child, of a bare TLS handshake with CONNECT and CONNACK",
               run.each / least, "times", note=f"which takes {least:.2f} ms"),
        Figure("  peak PSS", run.peak, "MB", note=f"{run.empty:.1f} at READY=1"),
    ]  # fmt: skip


async def _by_certificate(children: int, algorithm: str) -> list[Figure]:
    threads = min(PAHO, children)
    options = {"cloud": "huawei", "route": "certificate", "key_algorithm": algorithm}
    async with stage(children + threads, apart=True, **options) as one:
        one.rule("ask")
        await one.start()
        await identities.enrol(one)
        serials = one.site.plant["serials"]
        others = await identities.issue(one, serials[children:])
        await one.site.stop()
        before = await bare.mutual(one.site, others[0], BARE)
        made = await identities.cost(algorithm, children)
        context = await identities.context_cost(others[0])
        paho = await rivals.showing(one.site, others)
        run = await onboard(one, serials[:children], CERTIFICATE_SPEED)
        after = await bare.mutual(one.site, others[0], BARE)
    spread = f"{BARE} before, {before:.2f}, and after, {after:.2f}"
    beside = Beside((before + after) / 2, made, spread, paho, threads, context)
    return _certificate_figures(run, algorithm, beside)


def _certificate_figures(run: Run, algorithm: str, beside: Beside) -> list[Figure]:
    threaded = beside.paho.cpu / beside.threads * 1000
    what = f"certificate, {algorithm}: {run.children:,} children"
    return [
        Figure(f"{what}, from start to all online", run.seconds, "s",
               note=f"{run.ready:.1f} s to READY=1; {FOUND}; {CERTIFICATE_SPEED}; "
                    f"{run.children / (run.seconds - run.ready):.0f} a second"),
        Figure("  CPU per child", run.each, "ms", note=_cpu(run)),
        Figure("  CPU per child, of a bare connection and the making of a key and certificate",
               run.each / beside.least, "times", 2,
               f"{run.each / beside.bare:.2f} times a bare connection alone"),
        Figure("  peak PSS", run.peak, "MB",
               note=f"{run.empty:.1f} at READY=1; "
                    f"{(run.peak - run.empty) / run.children * 1000:.0f} kB for each child"),
        Figure("beside it: a bare mutual TLS handshake with CONNECT and CONNACK, CPU",
               beside.bare, "ms", note=f"{beside.spread}; a context for each"),
        Figure("  a key and its certificate made, CPU", beside.made, "ms"),
        Figure("  gatewayd's TLS context for one identity, with the system's roots, CPU",
               beside.context[0], "ms",
               note=f"and {beside.context[1]:.0f} kB as long as the child is online; above, "
                    "ca_file holds a single root"),
        Figure("  plain paho, a thread for each device: CPU per child", threaded, "ms",
               note=f"{beside.threads} log in, all at once, in {beside.paho.seconds:.1f} s; "
                    "nothing is made or stored; "
                    f"{threaded / beside.bare:.2f} times a bare connection"),
        Figure("  plain paho: PSS per child online", beside.paho.kept / beside.threads * 1000,
               "kB"),
    ]  # fmt: skip


def _cpu(run: Run) -> str:
    return f"{run.used:.1f} s in all, {run.started:.1f} of that until READY=1, not counted"
