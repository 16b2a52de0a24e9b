"""An edge node of pysparkplug with one device, until it is killed; with .venv-peers.

python sparkplug_node.py PORT
"""

from __future__ import annotations

import signal
import sys

import pysparkplug  # type: ignore[import-not-found]  # of .venv-peers


def metric(name: str, value: str) -> object:
    """Return a metric of a text."""
    now = pysparkplug.get_current_timestamp()
    text = pysparkplug.DataType.STRING
    return pysparkplug.Metric(timestamp=now, name=name, datatype=text, value=value)


def main(port: int) -> None:
    """Be born; the broker has the will."""
    node = pysparkplug.EdgeNode("plant", "edge1", [metric("Properties/Hardware Make", "Acme")])
    node.register(pysparkplug.Device("pump", [metric("Properties/Serial Number", "PU-7")]))
    node.connect("127.0.0.1", port=port)
    signal.pause()


if __name__ == "__main__":
    main(int(sys.argv[1]))
