"""A running gateway is watched: its metrics are what its children do."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatewayd.monitoring import exposition
from gatewayd.monitoring.metrics_file import DIRECTORY_VARIABLE, NAME
from gatewayd.simulator.site import Site

pytestmark = pytest.mark.integration

Figures = dict[tuple[str, tuple[str, ...]], float]


def figures(path: Path) -> Figures:
    """The samples in a file, by name and the values of the labels; none where it is missing."""
    text = path.read_text() if path.exists() else ""
    return {(name, tuple(labels.values())): v for name, _, labels, v in exposition.read(text)}


async def test_metrics_of_a_running_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path))
    site, path = Site(tmp_path, plant_options=("--children", "0", "--late", "1")), tmp_path / NAME
    async with site.open():
        config = tmp_path / "gatewayd.toml"
        config.write_text(f"{config.read_text()}\n[metrics]\nenabled = true\nevery = 1\n")
        await site.start()
        (child,) = site.plant["serials"]
        await site.ask(do="announce", child=child)
        await site.wait_for(child, "online")

        async def counted() -> Figures:
            found = figures(path)
            sighted = found.get(("gatewayd_discovery_sightings_total", ("mdns",)), 0) > 0
            return found if sighted and ("gatewayd_logins_total", ("alibaba",)) in found else {}

        found = await site.until(counted, "sighting and login to be counted")
        assert found["gatewayd_children", ("alibaba", "online")] == 1
        assert found["gatewayd_logins_total", ("alibaba",)] == 1
        assert found["gatewayd_onboarding_seconds_count", ("no",)] == 1
        assert found["gatewayd_commit_seconds_count", ("records",)] > 0
        assert found["gatewayd_commit_seconds_count", ("secrets",)] > 0
        assert found["gatewayd_cloud_state", ("alibaba", "ready")] == 1
        assert await site.stop() == 0
        assert not path.exists()
