"""A camera of ONVIF, by PyPI's WSDiscovery: onvif_camera.py UUID NAME ADDRESS.

It is there until its input ends, and then says goodbye.  It has no IPv6: where the library has, its
socket of IPv6 gets what is sent to it by IPv4, and it ends when it is to answer that.
"""

from __future__ import annotations

import sys
from urllib.parse import quote

from wsdiscovery import QName, Scope, threaded
from wsdiscovery.publishing import ThreadedWSPublishing

NETWORK = "http://www.onvif.org/ver10/network/wsdl"


def _refuse(*_: object) -> None:
    raise OSError("no IPv6")


def main(uuid: str, name: str, address: str) -> None:
    """Be there."""
    threaded.NetworkingThreadIPv6 = _refuse
    camera = ThreadedWSPublishing(uuid_=f"urn:uuid:{uuid}")
    camera.start()
    words = {"name": name, "hardware": "DEMO-1", "MAC": "68:6d:bc:5c:b1:5d"}
    camera.publishService(
        types=[QName(NETWORK, "NetworkVideoTransmitter")],
        scopes=[Scope(f"onvif://www.onvif.org/{key}/{quote(text)}") for key, text in words.items()],
        xAddrs=[f"http://{address}:8080/onvif/device_service"],
    )
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    camera.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
