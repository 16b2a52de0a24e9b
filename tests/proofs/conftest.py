"""Devices that prove keys in these tests have the time that a busy machine takes."""

from __future__ import annotations

import pytest

from gatewayd.proofs import prover


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a handshake take a minute; who tests what is silent sets another time."""
    monkeypatch.setattr(prover, "TIMEOUT", 60.0)
