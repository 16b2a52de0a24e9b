"""A server's certificate of another authority."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gatewayd.simulator import pki


@pytest.fixture(scope="session")
def certificate() -> pki.KeyedCertificate:
    now = datetime.now(UTC)
    authority = pki.make_ca("test authority", now - pki.LIFE, now + pki.LIFE)
    return pki.localhost(authority, now)
