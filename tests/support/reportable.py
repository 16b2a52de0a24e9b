"""What a source finds has to pass from the helper to gatewayd, whatever a datagram holds."""

from __future__ import annotations

from gatewayd.device.identity import claim
from gatewayd.discovery import sanitize
from gatewayd.discovery.discoverer import MAX_ATTRIBUTES
from gatewayd.discovery.probing.protocol import Found
from gatewayd.discovery.probing.table import MAX_KEY


def assert_reportable(found: Found) -> None:
    """Check that nothing of a device would be dropped, nor break the connection of the helper."""
    assert 0 < len(found.key) <= MAX_KEY
    assert sanitize.is_clean(found.key)
    assert len(found.attributes) < MAX_ATTRIBUTES
    for key, value in found.attributes.items():
        assert sanitize.attribute(key, value) == (key, value)
    for one in found.claims:
        assert claim(one.kind, one.namespace, one.value) == one
        assert sanitize.attribute(one.namespace, one.value) == (one.namespace, one.value)
