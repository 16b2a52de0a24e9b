"""PROFINET devices on a network interface, which answer Identify-All with captured answers.

No peer is packaged anywhere, so the answers of real devices are played: each with the xid and to
the MAC of the request, as those devices would have sent it.

    dcp_devices.py INTERFACE      reads lines of JSON on its standard input:
        {"devices": [HEX, ...]}   these are there from now on, each by a frame
        {"send": [HEX, ...]}      send these frames as they are
    It writes a line for each that it has obeyed, "ready" at first, and each frame of type 0x8892
    that it has received, in hex digits.
"""

from __future__ import annotations

import json
import select
import socket
import sys

ETHERTYPE = 0x8892
IDENTIFY = b"\xfe\xfe\x05\x00"
TAGGED = b"\x81\x00"


def answer(frame: bytes, request: bytes) -> bytes:
    """Return a captured answer as one to this request."""
    at = 22 if frame[12:14] == TAGGED else 18
    return request[6:12] + frame[6:at] + request[18:22] + frame[at + 4 :]


def main(interface: str) -> None:
    """Serve until the standard input ends."""
    devices: list[bytes] = []
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE)) as link:
        link.bind((interface, ETHERTYPE))
        print("ready", flush=True)
        while True:
            readable, _, _ = select.select([sys.stdin, link], [], [])
            if link in readable:
                frame, (_, _, kind, *_) = link.recvfrom(2048)
                if kind == socket.PACKET_OUTGOING:
                    continue
                print(frame.hex(), flush=True)
                if frame[14:18] == IDENTIFY:
                    for one in devices:
                        link.send(answer(one, frame))
            if sys.stdin in readable:
                line = sys.stdin.readline()
                if not line:
                    return
                command = json.loads(line)
                if "devices" in command:
                    devices = [bytes.fromhex(one) for one in command["devices"]]
                for one in command.get("send", ()):
                    link.send(bytes.fromhex(one))
                print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
