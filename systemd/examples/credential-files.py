#!/usr/bin/python3
"""Write the credential of a child of gatewayd as files that other programs read.

    credential-files FORM CREDENTIAL DIRECTORY

FORM is environment or mosquitto; the PEM parts are files of their own in both.

environment: a file of variables, for programs that take ${CHILD_HOST} and the like in their
configuration, as Telegraf and Node-RED do.

mosquitto: bridge.conf, for a mosquitto that bridges to the cloud.  What local programs publish as
child/properties reaches the cloud as the child's own report; what the cloud wants to set comes as
child/set/….

Exit status 1: there is no credential now.
"""

import json
import sys
from pathlib import Path

FILES = {"ca": "bridge_cafile", "certificate": "bridge_certfile", "key": "bridge_keyfile"}
"""The PEM parts, and the options of mosquitto that name their files."""
TEXTS = ("host", "port", "address", "client_id", "user", "password")
LOCAL = "127.0.0.1 1884"
"""Address and port for local programs.  mosquitto.conf(5) has more ways to say who may connect."""
ROOTS = "/etc/ssl/certs"


def quoted(value: object) -> str:
    """Return a value as EnvironmentFile= of systemd.exec(5) reads it."""
    text = str(value)
    for mark in ("\\", '"', "$", "`"):
        text = text.replace(mark, f"\\{mark}")
    return f'"{text}"'


def environment(child: dict, directory: Path) -> None:
    values = {name: child[name] for name in TEXTS}
    values |= {f"topic_{name}": topic for name, topic in child["topics"].items()}
    for name in FILES:
        values[f"{name}_file"] = directory / f"{name}.pem" if child[name] else ""
    lines = [f"CHILD_{name.upper()}={quoted(value)}\n" for name, value in values.items()]
    (directory / "environment").write_text("".join(lines))


def mosquitto(child: dict, directory: Path) -> None:
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
    for name, option in FILES.items():
        if child[name]:
            lines.append(f"{option} {directory / name}.pem")
    if not child["ca"]:
        lines.append(f"bridge_capath {ROOTS}")
    (directory / "bridge.conf").write_text("".join(f"{line}\n" for line in lines))


FORMS = {"environment": environment, "mosquitto": mosquitto}


def main(form: str, credential: Path, directory: Path) -> int:
    text = credential.read_text()
    if not text:
        sys.stderr.write("The child is not handed over now; gatewayctl explain says why.\n")
        return 1
    child = json.loads(text)
    for name in FILES:
        (directory / f"{name}.pem").write_text(child[name])
    FORMS[form](child, directory)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
