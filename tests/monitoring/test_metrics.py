"""The metrics: what they show, that they are bounded, and that Prometheus can read them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from gatewayd.device.message import DropReason
from gatewayd.device.views import (
    CommandStatistics,
    DoorView,
    GatewayStanding,
    MessageCounts,
    MessageStatistics,
    ProviderView,
    SiteGatewayView,
    SiteMode,
    SiteState,
    SiteView,
)
from gatewayd.monitoring.exposition import exposition
from gatewayd.monitoring.figures import GatewayFigures
from gatewayd.monitoring.histogram import DurationHistogram
from gatewayd.monitoring.metrics import MAX_CAUSES, METRICS, Measured, MetricKind, samples
from tests.support.lacking import give_up

COUNTS = MessageCounts(
    waiting=3, bytes=900, oldest=1_700_000_000_000_000, received=9, sent=5,
    dropped={DropReason.RATE.value: 1},
)  # fmt: skip
FIGURES = GatewayFigures(
    now=1_700_000_100_000_000,
    started=1_700_000_000_000_000,
    version="0.1.0",
    state="degraded",
    store="unsealed",
    secrets=2,
    children={("ali", "online"): 2, ("", "pending"): 1},
    clouds=[ProviderView("ali", "alibaba", "h:1", "ready", certificate_expiry=10**15)],
    own={"ali": True},
    messages=MessageStatistics(state="running", capacity=1000, total=COUNTS),
    doors=[DoorView("own", "connected", "", COUNTS), DoorView("gone", "", "", COUNTS)],
    commands=CommandStatistics(received=4, waiting=1, ended={"done": 3}),
    discovery={"mdns:sighted": 7, "mdns:dropped:oversized": 4, "mdns:entries": 2, "devices": 3,
               "sighting-queue-overflow": 2},
    site=SiteView(mode=SiteMode.ETCD, state=SiteState.NO_QUORUM, lost_at=1, left=7, owned=22,
                  yielded=1, contested=3,
                  gateways=(SiteGatewayView("b", GatewayStanding.GONE),)),
)  # fmt: skip


def measured() -> Measured:
    times = DurationHistogram((1.0, 5.0))
    times.observe(3.0)
    return Measured(
        logins={"ali": 3}, endings={"ali": 1}, refusals={("login", "throttled"): 6},
        onboarding={False: times.observed()}, commits={"records": times.observed()},
    )  # fmt: skip


def read() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The samples, as a reader of the text finds them."""
    families = text_string_to_metric_families(exposition(FIGURES, measured()).decode())
    found: list[Any] = [sample for family in families for sample in family.samples]
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for one in found}


def test_what_a_reader_finds() -> None:
    found = read()
    assert found["gatewayd_children", (("cloud", "ali"), ("state", "online"))] == 2
    assert found["gatewayd_children", (("cloud", ""), ("state", "pending"))] == 1
    assert found["gatewayd_state", (("state", "degraded"),)] == 1
    assert found["gatewayd_state", (("state", "running"),)] == 0
    expiry = ("gatewayd_certificate_expiry_timestamp_seconds", (("cloud", "ali"),))
    assert found[expiry] == 1e9
    assert found["gatewayd_messages_oldest_timestamp_seconds", ()] == 1.7e9
    assert found["gatewayd_messages_dropped_total", (("cause", "rate"),)] == 1
    refusal = (("reason", "throttled"), ("step", "login"))
    assert found["gatewayd_refusals_total", refusal] == 6
    assert found["gatewayd_onboarding_seconds_bucket", (("le", "5.0"), ("pending", "no"))] == 1
    assert found["gatewayd_onboarding_seconds_sum", (("pending", "no"),)] == 3
    oversized = (("cause", "oversized"), ("source", "mdns"))
    assert found["gatewayd_discovery_dropped_total", oversized] == 4
    assert found["gatewayd_discovery_sightings_total", (("source", "mdns"),)] == 7
    assert found["gatewayd_door_connected", (("door", "own"),)] == 1
    assert found["gatewayd_site_state", (("state", "no-quorum"),)] == 1
    assert found["gatewayd_site_quorum", ()] == 0
    assert found["gatewayd_site_gateways", (("state", "gone"),)] == 1
    assert found["gatewayd_site_shards", (("changing", "no"),)] == 22
    assert found["gatewayd_children_contested", (("yielded", "no"),)] == 2
    assert ("gatewayd_door_connected", (("door", "gone"),)) not in found


def test_each_metric_has_samples_with_its_labels() -> None:
    found = list(samples(FIGURES, measured()))
    shown = {one.metric for one in found} | {name for name, _, _ in measured().histograms()}
    assert shown == {metric.name for metric in METRICS}
    labels = {metric.name: metric.labels for metric in METRICS}
    assert all(len(one.labels) == len(labels[one.metric]) for one in found)


def test_what_discovery_counts_is_bounded() -> None:
    counters = {f"mdns:dropped:cause-{number}": 1 for number in range(2 * MAX_CAUSES)}
    flooded = GatewayFigures(now=1, started=1, version="", state="", store="", discovery=counters)
    drops = [one for one in samples(flooded, Measured()) if one.metric == "discovery_dropped"]
    assert len(drops) == MAX_CAUSES + 1
    assert sum(one.value for one in drops) == 2 * MAX_CAUSES


def test_no_label_names_a_child() -> None:
    """Labels are names from the configuration and words of this version: their number is bounded.

    A new label has to be thought about, so this list names them all.
    """
    assert {label for metric in METRICS for label in metric.labels} == {
        "version", "state", "cloud", "step", "reason", "pending", "cause", "door", "outcome",
        "file", "source", "changing", "yielded",
    }  # fmt: skip


def test_promtool_is_content() -> None:
    if shutil.which("promtool") is None:
        give_up("promtool is not installed")
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=exposition(FIGURES, measured()),
        capture_output=True, check=False,
    )  # fmt: skip
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_names_are_those_of_prometheus() -> None:
    """Base units, and no type in a name: prometheus.io/docs/practices/naming."""
    for metric in METRICS:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", metric.name)
        assert not metric.name.endswith("_total")
        assert metric.shown.endswith("_total") == (metric.kind is MetricKind.COUNTER)
        assert metric.help.endswith(".")


def test_the_library_is_loaded_for_nothing_else() -> None:
    code = (
        "import sys, gatewayd.daemon, gatewayd.monitoring.metrics_file, gatewayd.cli.main as m;"
        "m.build_parser(); sys.exit('prometheus_client' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
