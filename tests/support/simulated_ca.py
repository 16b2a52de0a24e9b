"""The authority of the simulated clouds in tests, and its certificate for this machine."""

from __future__ import annotations

from datetime import UTC, datetime

from gatewayd.simulator import pki

NOW = datetime.now(UTC)
AUTHORITY = pki.make_ca("simulated cloud", NOW - pki.LIFE, NOW + pki.LIFE)
CERTIFICATE = pki.localhost(AUTHORITY, NOW)
