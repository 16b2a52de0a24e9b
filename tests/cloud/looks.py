"""The context of a preflight in a test, and a check of what it yields."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from functools import partial

from gatewayd.cloud.credentials import read_secret
from gatewayd.cloud.preflight import Check, CheckResult, PreflightContext

OK, UNSURE, FAILED = CheckResult.OK, CheckResult.UNSURE, CheckResult.FAILED
SECRET = "p5Tq0Zx8Wv3Rk1Ls"
"""The value of each configured secret: no check shows it."""

AROUND = PreflightContext(
    user="operator",
    read_secret=partial(read_secret, None),
    credentials=False,
    time=time.time,
    synchronised=lambda: True,
)


async def all_of(looking: AsyncGenerator[Check, None]) -> list[Check]:
    """Return what a preflight yields; each check is such as a check may be."""
    async with asyncio.timeout(60):
        found = [check async for check in looking]
    for check in found:
        assert check.text.isprintable()
        assert check.text.endswith(".")
        assert check.verdict is not FAILED or check.remedy or check.step == "secret"
        assert SECRET not in check.text + check.remedy
    return found


def verdicts(found: list[Check]) -> list[tuple[str, CheckResult]]:
    """Return the steps, and how each ended."""
    return [(check.step, check.verdict) for check in found]
