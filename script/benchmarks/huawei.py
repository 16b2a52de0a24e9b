"""Onboarding at a gateway's scale at Huawei Cloud IoTDA: as sub-devices and by certificate.

The children are named by the discoverer "static", so that finding them costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from gatewayd.cloud.huawei.settings import HuaweiGateway
from gatewayd.simulator.huawei.account import NAMES, home
from gatewayd.simulator.huawei.options import HuaweiRules
from script.benchmarks import bare, identities, rivals
from script.benchmarks.onboarding import Speed, onboard
from script.benchmarks.rounds import ROUNDS, Sample, alternate
from script.benchmarks.stage import Stage, stage
from script.benchmarks.subject import Subject
from script.benchmarks.table import Figure

GATEWAY_SPEED, CERTIFICATE_SPEED = Speed(240, 240), Speed(64, 64)
"""As many as several batches of 50 hold; and for connections, what two processors can use."""
FOUND = "named by the discoverer static"
SPARE = 3
"""Times as many children as are wanted, of which enough belong to one instance."""
SUB_DEVICES, FEWER, FEWEST = 4, 20, 100
"""One in so many children comes as a sub-device, as the platform's limit is low; by certificate
with a key of an elliptic curve; and with an RSA key, which takes long to be made."""
BARE, PAHO = 200, 100


async def measure(children: int, subjects: Sequence[Subject]) -> list[Figure]:
    """Onboard some of so many as sub-devices of one instance, and fewer by certificate at both."""
    some, few, fewest = (max(1, children // one) for one in (SUB_DEVICES, FEWER, FEWEST))
    return [
        *await _through_gateway(some, subjects),
        *await _by_certificate(few, "ec-p256", subjects, ROUNDS),
        *await _by_certificate(fewest, "rsa-2048", subjects, 1),
    ]


async def _through_gateway(children: int, subjects: Sequence[Subject]) -> list[Figure]:
    platform = partial(stage, apart=True, cloud="huawei")

    async def ours(subject: Subject) -> Sample:
        async with platform(children * SPARE, subject, route="sub-device") as one:
            listed = [serial for serial in one.site.plant["serials"] if home(serial) == NAMES[0]]
            return (await onboard(one, listed[:children], GATEWAY_SPEED)).sample

    async def connection() -> Sample:
        async with platform() as one:
            return {"cpu": await bare.cost(one.site, BARE)}

    found = await alternate(subjects, ours, {"bare": connection})
    limit, usual = HuaweiRules().status_rate, HuaweiGateway("", "").status_per_second
    wall = found.median("gatewayd", "seconds") / (children / usual)
    return [
        found.figure(f"sub-device: {children:,} children, from start to all online", "seconds",
                     "s", note=f"{FOUND}; {GATEWAY_SPEED}"),
        Figure(f"  wall, of what {usual} reports a second take, which gatewayd makes", wall,
               "times", note=f"the platform's limit is {limit}"),
        found.figure("  CPU per child", "cpu", "ms"),
        found.figure("  CPU per child, of a bare TLS handshake with CONNECT and CONNACK", "cpu",
                     "times", of=("bare", "cpu"), budget=1.3),
        found.figure("  peak PSS", "peak", "MB"),
    ]  # fmt: skip


async def _by_certificate(
    children: int, algorithm: str, subjects: Sequence[Subject], rounds: int
) -> list[Figure]:
    threads = min(PAHO, children)
    platform = partial(
        stage, apart=True, cloud="huawei", route="certificate", key_algorithm=algorithm
    )

    async def ours(subject: Subject) -> Sample:
        async with platform(children, subject) as one:
            await _enrol(one)
            await one.site.stop()
            return (await onboard(one, one.site.plant["serials"], CERTIFICATE_SPEED)).sample

    async def others() -> Sample:
        async with platform(threads) as one:
            await _enrol(one)
            issued = await identities.issue(one, one.site.plant["serials"])
            await one.site.stop()
            took = await rivals.showing(one.site, issued)
            connection = await bare.mutual(one.site, issued[0], BARE)
            made = await identities.cost(algorithm, children)
            context, held = await identities.context_cost(issued[0])
            return {
                "bare": connection, "made": made, "least": connection + made,
                "paho": took.cpu / threads * 1000, "kept": took.kept / threads * 1000,
                "context": context, "held": held,
            }  # fmt: skip

    found = await alternate(subjects, ours, {"others": others}, rounds)
    return [
        found.figure(f"certificate, {algorithm}: {children:,} children, from start to all online",
                     "seconds", "s", note=f"{FOUND}; {CERTIFICATE_SPEED}"),
        found.figure("  CPU per child", "cpu", "ms"),
        found.figure("  CPU per child, of a bare connection with key and certificate made", "cpu",
                     "times", of=("others", "least"), budget=1.6),
        found.figure("  CPU per child, of a bare connection alone", "cpu", "times",
                     of=("others", "bare")),
        found.figure("  PSS per child online", "kept", "kB"),
        found.beside("beside it: a bare mutual TLS handshake with CONNECT and CONNACK, CPU",
                     "others", "bare", "ms", f"{BARE} in a round; a context for each"),
        found.beside("  a key and its certificate made, CPU", "others", "made", "ms"),
        found.beside("  gatewayd's TLS context for one identity, with the system's roots, CPU",
                     "others", "context", "ms",
                     f"and {found.median('others', 'held'):.0f} kB while the child is online; "
                     "above, ca_file holds a single root"),
        found.beside("  plain paho, a thread for each device: CPU per child", "others", "paho",
                     "ms", f"{threads} log in, all at once; nothing is made or stored"),
        found.beside("  plain paho: PSS per child online", "others", "kept", "kB"),
    ]  # fmt: skip


async def _enrol(one: Stage) -> None:
    """Start gatewayd, and give each instance a device CA."""
    one.rule("ask")
    await one.start()
    await identities.enrol(one)
