#!/usr/bin/python3
"""Write the configuration of a mosquitto that bridges to the cloud of a child of gatewayd.

    mosquitto-bridge CREDENTIAL DIRECTORY

What local programs publish as child/properties reaches the cloud as the child's own report; what
the cloud wants to set comes as child/set/….  Exit status 1: there is no credential now.
"""

import json
import sys
from pathlib import Path

LOCAL = "127.0.0.1 1884"
"""Address and port for local programs.  mosquitto.conf(5) has more ways to say who may connect."""
ROOTS = "/etc/ssl/certs"


def main(credential: Path, directory: Path) -> int:
    text = credential.read_text()
    if not text:
        sys.stderr.write("The child is not handed over now; gatewayctl explain says why.\n")
        return 1
    child = json.loads(text)
    address, port = LOCAL.split()
    topics = child["topics"]
    lines = [
        f"listener {port} {address}",
        "allow_anonymous true",
        "connection cloud",
        f"address {child['address']}:{child['port']}",
        f"remote_clientid {child['client_id']}",
        f"remote_username {child['user']}",
        "bridge_protocol_version mqttv311",
        "try_private false",
        "notifications false",
        "cleansession true",
        "bridge_attempt_unsubscribe false",
        "keepalive_interval 60",
        "restart_timeout 5 60",
        f'topic "" out 1 child/properties {topics["properties"]}',
    ]
    if topics["set"].endswith("/#"):
        lines.append(f"topic # in 1 child/set/ {topics['set'].removesuffix('#')}")
    else:
        lines.append(f'topic "" in 1 child/set {topics["set"]}')
    if child["password"]:
        lines.append(f"remote_password {child['password']}")
    for option, name in (
        ("bridge_cafile", "ca"),
        ("bridge_certfile", "certificate"),
        ("bridge_keyfile", "key"),
    ):
        if child[name]:
            path = directory / f"{name}.pem"
            path.write_text(child[name])
            lines.append(f"{option} {path}")
    if not child["ca"]:
        lines.append(f"bridge_capath {ROOTS}")
    (directory / "bridge.conf").write_text("".join(f"{line}\n" for line in lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
