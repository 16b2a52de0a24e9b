#!/usr/bin/python3
"""Have the session of a child of gatewayd, and report the load of this machine each minute.

    paho-holder CREDENTIAL

The report has the form of Alibaba Cloud; that of Huawei Cloud has the member "services".
With python3-paho-mqtt 1.6 and 2.x.
"""

import json
import os
import ssl
import sys
import tempfile
import time
from pathlib import Path

import paho.mqtt.client as mqtt

EVERY = 60.0


def connected(child: dict) -> mqtt.Client:
    """Return a client that keeps the child's session."""
    versions = getattr(mqtt, "CallbackAPIVersion", None)
    first = (versions.VERSION2,) if versions else ()
    client = mqtt.Client(*first, client_id=child["client_id"])
    client.username_pw_set(child["user"], child["password"] or None)
    context = ssl.create_default_context(cadata=child["ca"] or None)
    if child["key"]:
        with tempfile.NamedTemporaryFile("w") as pem:
            pem.write(child["key"] + child["certificate"])
            pem.flush()
            context.load_cert_chain(pem.name)
    client.tls_set_context(context)
    client.connect(child["host"], child["port"], keepalive=60)
    client.loop_start()
    return client


def main(credential: Path) -> None:
    child = json.loads(credential.read_text())
    client = connected(child)
    while True:
        report = {"id": "1", "version": "1.0", "params": {"load": os.getloadavg()[0]}}
        client.publish(child["topics"]["properties"], json.dumps(report), qos=1)
        time.sleep(EVERY)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
