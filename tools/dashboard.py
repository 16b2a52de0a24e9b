"""Write the dashboard for Grafana: packaging/monitoring/gatewayd-dashboard.json.

python -m tools.dashboard

It is imported into Grafana 9 or newer, and asks for a data source of Prometheus there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

DASHBOARD = Path(__file__).parent.parent / "packaging/monitoring/gatewayd-dashboard.json"

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
OF = '{instance=~"$instance"}'
COLUMNS = 24
"""Of Grafana's grid."""


class Panel(NamedTuple):
    """One panel.  queries: PromQL, with GATEWAYS for the chosen ones, and the legend.

    unit: a word of Grafana's.  kind: "stat" or "timeseries".
    """

    title: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    stacked: bool = False


class Row(NamedTuple):
    """A row of panels.  height: in units of the grid."""

    title: str
    panels: Sequence[Panel]
    height: int = 8


def _rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}GATEWAYS[$__rate_interval]))"


def _quantile(share: float, metric: str, by: str) -> str:
    rate = f"rate({metric}_bucketGATEWAYS[$__rate_interval])"
    return f"histogram_quantile({share}, sum by (le, {by}) ({rate}))"


ROWS: Sequence[Row] = (
    Row("At a glance", (
        Panel("Online", [('sum(gatewayd_children{state="online", instance=~"$instance"})', "")],
              kind="stat", width=4),
        Panel("Pending", [('sum(gatewayd_children{state="pending", instance=~"$instance"})', "")],
              kind="stat", width=4),
        Panel("Need an operator",
              [('sum(gatewayd_children{state=~"failed|frozen", instance=~"$instance"})', "")],
              kind="stat", width=4),
        Panel("Gateways", [("gatewayd_stateGATEWAYS == 1", "{{instance}}: {{state}}")],
              kind="stat", width=4),
        Panel("Clouds", [("gatewayd_cloud_stateGATEWAYS == 1", "{{cloud}}: {{state}}")],
              kind="stat", width=4),
        Panel("First certificate ends in",
              [("min(gatewayd_certificate_expiry_timestamp_secondsGATEWAYS) - time()", "")],
              unit="s", kind="stat", width=4),
    ), 5),
    Row("Children", (
        Panel("By state", [("sum by (state) (gatewayd_childrenGATEWAYS)", "{{state}}")],
              stacked=True),
        Panel("By cloud", [("sum by (cloud) (gatewayd_childrenGATEWAYS)", "{{cloud}}")],
              stacked=True),
        Panel("From the first sighting to online, by whether it was pending", [
            (_quantile(0.5, "gatewayd_onboarding_seconds", "pending"), "half, {{pending}}"),
            (_quantile(0.9, "gatewayd_onboarding_seconds", "pending"), "90 %, {{pending}}"),
        ], unit="s"),
        Panel("Logins", [(_rate("gatewayd_logins_total", "cloud"), "{{cloud}}: opened"),
                         (_rate("gatewayd_sessions_ended_total", "cloud"), "{{cloud}}: ended")],
              unit="ops"),
        Panel("What failed", [(_rate("gatewayd_refusals_total", "step, reason"),
                               "{{step}}: {{reason}}")], unit="ops"),
        Panel("The gateway's own device", [("gatewayd_gateway_onlineGATEWAYS", "{{cloud}}")]),
    )),
    Row("Messages and commands", (
        Panel("Waiting", [("gatewayd_messages_waiting_bytesGATEWAYS", "{{instance}}"),
                          ("gatewayd_messages_capacity_bytesGATEWAYS", "{{instance}}: bound")],
              unit="bytes"),
        Panel("Messages", [(_rate("gatewayd_messages_received_total", "instance"), "received"),
                           (_rate("gatewayd_messages_sent_total", "instance"), "sent"),
                           ("gatewayd_messages_waitingGATEWAYS", "waiting")]),
        Panel("Age of the oldest",
              [("time() - gatewayd_messages_oldest_timestamp_secondsGATEWAYS", "{{instance}}")],
              unit="s"),
        Panel("Lost, by cause", [(_rate("gatewayd_messages_dropped_total", "cause"), "{{cause}}")],
              unit="ops"),
        Panel("Doors", [("gatewayd_door_connectedGATEWAYS", "{{door}}")]),
        Panel("Commands", [(_rate("gatewayd_commands_received_total", "instance"), "received"),
                           (_rate("gatewayd_commands_ended_total", "outcome"), "{{outcome}}"),
                           ("gatewayd_commands_waitingGATEWAYS", "waiting")]),
    )),
    Row("Disk and store", (
        Panel("Time to be durable", [
            (_quantile(0.5, "gatewayd_commit_seconds", "file"), "{{file}}: half"),
            (_quantile(0.99, "gatewayd_commit_seconds", "file"), "{{file}}: 99 %"),
        ], unit="s", width=12),
        Panel("Secrets", [("gatewayd_secretsGATEWAYS", "{{instance}}")], width=6),
        Panel("Store", [("gatewayd_store_stateGATEWAYS == 1", "{{instance}}: {{state}}")],
              kind="stat", width=6),
    )),
    Row("The LAN", (
        Panel("Devices", [("gatewayd_discovery_devicesGATEWAYS", "{{instance}}")]),
        Panel("Sightings", [(_rate("gatewayd_discovery_sightings_total", "source"), "{{source}}")],
              unit="ops"),
        Panel("Left out, by cause", [(_rate("gatewayd_discovery_dropped_total", "source, cause"),
                                      "{{source}}: {{cause}}")], unit="ops"),
    )),
    Row("The site", (
        Panel("Shards", [("gatewayd_site_shardsGATEWAYS", "{{instance}}, changing: {{changing}}"),
                         (_rate("gatewayd_site_shards_taken_over_total", "instance"),
                          "{{instance}}: taken over")]),
        Panel("Gateways, as each of them sees it",
              [("gatewayd_site_gatewaysGATEWAYS", "{{instance}}: {{state}}")]),
        Panel("State", [("gatewayd_site_stateGATEWAYS == 1", "{{instance}}: {{state}}"),
                        ("gatewayd_site_quorumGATEWAYS", "{{instance}}: quorum")], kind="stat"),
        Panel("Left of the lease", [("gatewayd_site_lease_secondsGATEWAYS", "{{instance}}")],
              unit="s"),
        Panel("Copies in etcd",
              [("gatewayd_site_children_replicatedGATEWAYS", "{{instance}}: children"),
               ("gatewayd_site_changes_waitingGATEWAYS", "{{instance}}: changes that wait")]),
        Panel("Logged in elsewhere, too",
              [("gatewayd_children_contestedGATEWAYS", "{{instance}}, left: {{yielded}}")]),
    )),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """Return the dashboard, as Grafana imports it."""
    return {
        "title": "gatewayd",
        "uid": "gatewayd",
        "tags": ["gatewayd"],
        "schemaVersion": 37,
        "editable": True,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": _variables()},
        "panels": _panels(),
    }


def _variables() -> list[dict[str, Any]]:
    return [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"},
        {
            "name": "instance", "type": "query", "label": "Gateway", "datasource": SOURCE,
            "query": "label_values(gatewayd_build_info, instance)", "refresh": 2,
            "multi": True, "includeAll": True, "current": {"text": "All", "value": "$__all"},
        },
    ]  # fmt: skip


def _panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    top = 0
    for row in ROWS:
        place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
        found.append(
            {"id": len(found) + 1, "type": "row", "title": row.title, "collapsed": False,
             "panels": [], "gridPos": place}
        )  # fmt: skip
        top, left = top + 1, 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                top, left = top + row.height, 0
            place = {"x": left, "y": top, "w": panel.width, "h": row.height}
            found.append({"id": len(found) + 1, **_panel(panel), "gridPos": place})
            left += panel.width
        top += row.height
    return found


def _panel(panel: Panel) -> dict[str, Any]:
    custom = {"stacking": {"mode": "normal"}, "fillOpacity": 20} if panel.stacked else {}
    return {
        "type": panel.kind,
        "title": panel.title,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": custom}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + number), "datasource": SOURCE, "legendFormat": legend,
                "expr": query.replace("GATEWAYS", OF),
            }
            for number, (query, legend) in enumerate(panel.queries)
        ],
    }  # fmt: skip


def text() -> str:
    """Return the file."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    DASHBOARD.write_text(text())
