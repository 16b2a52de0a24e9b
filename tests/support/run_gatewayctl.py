"""python3 -m tests.support.run_gatewayctl ARGUMENT…: gatewayctl, by a name that can be forked."""

from __future__ import annotations

import sys

from gatewayd.cli.main import main

MODULE = "tests.support.run_gatewayctl"
START = (
    sys.executable,
    "-c",
    "import sys; from gatewayd.cli.main import main; sys.exit(main())",
)
"""What starts gatewayctl in any directory."""

if __name__ == "__main__":
    sys.exit(main())
