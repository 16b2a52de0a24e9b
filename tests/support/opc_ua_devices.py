"""OPC UA servers of devices, by asyncua, each at an address of its own: one process for all.

It is run by the interpreter of .venv-peers, and reads a line for each server, ADDRESS and FOLDER:
the server replaces any other at this address, and has the key and the certificate in the folder.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from asyncua import Server, ua  # type: ignore[import-not-found]  # of .venv-peers

PORT = 4840


async def serve(address: str, folder: Path, nodes: Path) -> Server:
    """Start a server.  nodes: where the standard's are kept, which take seconds to make."""
    server = Server()
    await server.init(shelf_file=nodes)
    server.set_endpoint(f"opc.tcp://{address}:{PORT}/")
    await server.set_application_uri((folder / "uri").read_text())
    policies = ua.SecurityPolicyType
    server.set_security_policy([policies.NoSecurity, policies.Basic256Sha256_SignAndEncrypt])
    await server.load_certificate(str(folder / "certificate.der"))
    await server.load_private_key(str(folder / "key.pem"))
    await server.start()
    return server


async def main(nodes: Path) -> None:
    """Obey until the end of the input."""
    running: dict[str, Server] = {}
    while line := await asyncio.to_thread(sys.stdin.readline):
        address, folder = line.split()
        if before := running.pop(address, None):
            await before.stop()
        running[address] = await serve(address, Path(folder), nodes)
        print("It serves.", flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
