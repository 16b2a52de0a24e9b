"""python3 -m script.soaking.messages.silent_host SOURCE HOST PORT: opens all that it can.

It says nothing on any of them, and opens another for each that ends.  It prints "open" when the
first is, and at the end of its input how often it has tried, and how many were open at a time.
"""

from __future__ import annotations

import asyncio
import sys

CONNECTIONS = 10_000
"""Connections that it wants to have open at a time."""
PAUSE = 0.1
"""Seconds until a connection that was refused is tried again."""


class SilentHost:
    """A host that opens connections, and says nothing.  tried, most: what it prints."""

    def __init__(self, source: str, host: str, port: int) -> None:
        self._source, self._host, self._port = source, host, port
        self.tried = self.most = self._open = 0

    async def hold(self) -> None:
        """Hold one connection, again and again, until cancelled."""
        while True:
            self.tried += 1
            try:
                reader, writer = await asyncio.open_connection(
                    self._host, self._port, local_addr=(self._source, 0)
                )
            except OSError:
                await asyncio.sleep(PAUSE)
                continue
            self._open += 1
            if not self.most:
                sys.stdout.write("open\n")
                sys.stdout.flush()
            self.most = max(self.most, self._open)
            try:
                await reader.read()
            except OSError:
                pass  # reset, in place of an end: it is opened again all the same
            finally:
                self._open -= 1
                writer.close()


async def main(source: str, host: str, port: int) -> None:
    """Be silent until the input ends.  source: the address to connect from."""
    silent = SilentHost(source, host, port)
    holding = [asyncio.create_task(silent.hold()) for _ in range(CONNECTIONS)]
    await asyncio.to_thread(sys.stdin.read)
    for task in holding:
        task.cancel()
    await asyncio.gather(*holding, return_exceptions=True)
    sys.stdout.write(f"{silent.tried} {silent.most}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
