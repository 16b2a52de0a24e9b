"""A resource directory of aiocoap, at which endpoints are registered; with .venv-peers.

python coap_directory.py INTERFACE ENDPOINT...   each as ep=node1&et=meter&base=coap://10.77.0.7
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import aiocoap
from aiocoap.cli.rd import StandaloneResourceDirectory

GROUPS = ("224.0.1.187", "ff02::fd")
AT = "coap://[::1]/resourcedirectory/"


async def main(interface: str, endpoints: Sequence[str]) -> None:
    """Run it until the process is ended."""
    groups = [(group, interface) for group in GROUPS]
    server = await aiocoap.Context.create_server_context(None, multicast=groups)
    server.serversite = StandaloneResourceDirectory(server)
    client = await aiocoap.Context.create_client_context()
    for one in endpoints:
        link = b'</t>;rt="temperature"'
        request = aiocoap.Message(
            code=aiocoap.POST, uri=f"{AT}?{one}", payload=link, content_format=40
        )
        answer = await client.request(request).response
        assert answer.code.is_successful(), answer
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
