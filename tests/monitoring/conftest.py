"""A running stage for tests on the jumping clock."""

from __future__ import annotations

from tests.support.stage import stage

__all__ = ["stage"]
