"""Attacks on booted gateways: nothing ends, memory stays, and a child comes online meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from script.attacking.booted import DOOMED, FEW, AttackedGateway, booted_attacks, suffer
from script.attacking.troubles import TROUBLES, outlast
from tests.integration.lan import namespaces
from tests.system.conftest import CHILDREN
from tests.system.gateway import Gateway
from tests.system.plant import Plant, plant

pytestmark = pytest.mark.system

ATTACKS = booted_attacks()
LATE = (DOOMED + 1) * len(ATTACKS) + len(TROUBLES)
ONCE = "trixie"
"""Where CI plays those troubles to which releases make no difference."""


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[tuple[str, Plant]]:
    """A LAN with children that are switched on during the attacks."""
    options = ("--children", str(CHILDREN), "--late", str(LATE), "--rate", "0")
    with (
        namespaces() as (gateway, children),
        plant(tmp_path / "plant", children, *options) as running,
    ):
        yield gateway[-1], running


def named(name: str, texts: Sequence[str]) -> bool:
    """Whether a name has one of these texts."""
    return any(text in name for text in texts)


def test_no_attack_harms_a_gateway(
    gateway: Gateway, release: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """With --attacks, others are played than CI does; then what may take how long counts, too."""
    only = request.config.getoption("--attacks")
    texts = FEW if only is None else only
    chosen = [one for one in ATTACKS if named(one.name, texts)]
    troubles = [
        one
        for one in TROUBLES
        if (release == ONCE or one.of_release if only is None else named(one.name, only))
    ]
    assert chosen or troubles
    target, found = AttackedGateway(gateway, tmp_path, CHILDREN), []
    for attack in chosen:
        toll = suffer(target, attack)
        print(f"{release:9} {toll}", flush=True)
        if harm := toll.harm():
            print("\n".join(toll.lines), flush=True)
        found += [f"{attack.name}: {what}" for what in harm]
        found += [f"{attack.name}: {what}" for what in toll.delay() if only is not None]
    for trouble in troubles:
        after = outlast(target, trouble)
        print(f"{release:9} {after}", flush=True)
        found += [] if after.unharmed else [f"{trouble.name}: gatewayd has ended"]
    assert not found
