"""The alert rules and the dashboard that are installed: they name metrics that exist, and work."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gatewayd.monitoring.metrics import METRICS, MetricKind
from tests.support.lacking import give_up
from tools import dashboard

TOP = Path(__file__).parents[2]
ALERTS = TOP / "packaging/monitoring/gatewayd-alerts.yml"
PAGE = TOP / "docs/how-to/watch-a-gateway.md"

NAMES = {metric.shown for metric in METRICS if metric.kind is not MetricKind.HISTOGRAM} | {
    f"{metric.shown}{part}"
    for metric in METRICS
    if metric.kind is MetricKind.HISTOGRAM
    for part in ("_bucket", "_sum", "_count")
}
"""The names that PromQL may have."""


def named(text: str) -> set[str]:
    return set(re.findall(r"\bgatewayd_[a-z_]+", text))


def promtool(*words: str) -> None:
    if shutil.which("promtool") is None:
        give_up("promtool is not installed")
    ran = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def expressions() -> list[str]:
    """The PromQL of the dashboard, without the variables of Grafana."""
    panels = json.loads(dashboard.DASHBOARD.read_text())["panels"]
    found = [one["expr"] for panel in panels for one in panel.get("targets", ())]
    return [one.replace("$__rate_interval", "5m").replace("$instance", ".*") for one in found]


def test_each_metric_that_is_named_exists() -> None:
    assert named(ALERTS.read_text()) <= NAMES
    assert named("\n".join(expressions())) <= NAMES
    assert len(named(ALERTS.read_text())) >= 12


def test_each_metric_is_explained_and_shown() -> None:
    lines = PAGE.read_text().splitlines()
    rows = {line.split("`")[1] for line in lines if line.startswith("| `gatewayd_")}
    assert rows == {metric.shown for metric in METRICS}
    shown = {re.sub("_(bucket|sum|count)$", "", one) for one in named("\n".join(expressions()))}
    quiet = {"gatewayd_build_info", "gatewayd_start_time_seconds", "gatewayd_messages_state"}
    assert {metric.shown for metric in METRICS} - quiet <= shown


def test_the_dashboard_is_written_by_its_tool() -> None:
    assert dashboard.DASHBOARD.read_text() == dashboard.text(), "run python -m tools.dashboard"


def test_no_two_panels_lie_over_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard.dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= dashboard.COLUMNS
        assert not cells & taken, panel["title"]
        taken |= cells


def test_prometheus_can_read_rules_and_queries(tmp_path: Path) -> None:
    promtool("check", "rules", str(ALERTS))
    queries = tmp_path / "queries.yml"
    rules = [{"record": f"panel:{n}", "expr": one} for n, one in enumerate(expressions())]
    queries.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", str(queries))  # JSON is YAML


def test_each_alert_fires_when_it_should_and_none_else(tmp_path: Path) -> None:
    number = ALERTS.read_text().count("- alert:")
    cases = (Path(__file__).parent / "alerts.yml").read_text()
    planned = tmp_path / "alerts.yml"
    planned.write_text(cases.replace("RULES", str(ALERTS)).replace("NUMBER", str(number)))
    promtool("test", "rules", str(planned))


@pytest.mark.parametrize("path", [ALERTS, dashboard.DASHBOARD], ids=lambda path: path.name)
def test_the_package_has_it(path: Path) -> None:
    installed = (TOP / "packaging/debian/gatewayd.install").read_text().splitlines()
    assert f"{path.relative_to(TOP)} usr/share/gatewayd/monitoring" in installed
