"""python3 -m tests.support.kill_points STEP …: gatewayd, killed right after a durable step.

The steps are those that registration and sessions report to their checkpoint.
"""

from __future__ import annotations

import os
import signal
import sys

from gatewayd.__main__ import run

STEPS = (
    "intent-on-record",
    "secret-issued",
    "secret-in-slot",
    "pointer-on-record",
    "logged-in",
    "activation-confirmed",
)
RENEWAL = (
    "candidate-on-record",
    "candidate-in-slot",
    "candidate-accepted",
    "candidate-in-use",
    "old-secret-deleted",
)
"""The steps by which a secret takes the place of another."""
MOVE = (
    "move-on-record",
    "move-intent-on-record",
    "move-secret-issued",
    "move-secret-in-slot",
    "move-pointer-on-record",
    "move-logged-in",
    "move-switched",
)
"""The steps by which a child moves to another cloud."""


def main() -> int:
    """Run gatewayd with the other arguments, until the step has been taken for the first time."""
    step, arguments = sys.argv[1], sys.argv[2:]
    if step not in STEPS + RENEWAL + MOVE:
        sys.exit(f"no such step: {step}")

    def checkpoint(reached: str) -> None:
        if reached == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return run(arguments, checkpoint)


if __name__ == "__main__":
    sys.exit(main())
