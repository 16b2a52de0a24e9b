"""The control socket of a running plant: JSON lines over a UNIX socket.

{"do": "leave", "child": "TH20-0001A7"}   →   {"ok": null}   or   {"error": "…"}

gatewayd-simulator(1) lists those that help to try gatewayd; the others are for its tests.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from gatewayd.errors import ConfigError
from gatewayd.simulator.plant import Plant

Request: TypeAlias = Mapping[str, Any]
PlantVerb: TypeAlias = Callable[[Plant, Request], Awaitable[object]]
MAX_LINE = 65_536


class RequestError(ValueError):
    """A request that cannot be meant so.  Its text is for who has sent it."""


class CheckedRequest(dict[str, Any]):
    """A request whose missing members are named by what reads them."""

    def __missing__(self, key: str) -> Any:  # noqa: ANN401  # never returns
        raise RequestError(f"{self.get('do')!r} needs {key!r}")


async def _announce(plant: Plant, request: Request) -> None:
    plant.announce(request["child"])


async def _leave(plant: Plant, request: Request) -> None:
    plant.lan.leave(plant.number(request["child"]))


async def _die(plant: Plant, request: Request) -> None:
    plant.lan.die(plant.number(request["child"]))


async def _rename(plant: Plant, request: Request) -> None:
    plant.lan.rename(plant.number(request["child"]), request["name"])


async def _move(plant: Plant, request: Request) -> None:
    plant.lan.move(plant.number(request["child"]), request["address"])


async def _clone(plant: Plant, request: Request) -> int:
    return plant.lan.clone(plant.number(request["child"]))


async def _faults(plant: Plant, request: Request) -> None:
    plant.cloud.set_faults(request["plan"])


async def _attack(plant: Plant, request: Request) -> int:
    kind, forge = request["kind"], request.get("forge", "")
    return await plant.attack(kind, int(request["count"]), float(request["rate"]), forge)


async def _hostile_text(plant: Plant, request: Request) -> int:
    return await plant.hostile_text(request["child"])


async def _spoof_goodbye(plant: Plant, request: Request) -> bool:
    return await plant.spoof_goodbye(request["child"])


async def _replay(plant: Plant, request: Request) -> int:
    number = plant.number(request["child"]) if "child" in request else int(request["number"])
    return await plant.replay(number, int(request["count"]), float(request["rate"]))


async def _usurp(plant: Plant, request: Request) -> int:
    return plant.usurp(request["child"], request["serial"])


async def _unplug(plant: Plant, request: Request) -> None:
    plant.lan.die(int(request["number"]))


async def _ledger(plant: Plant, request: Request) -> object:
    return plant.cloud.ledger(request["child"])


async def _truth(plant: Plant, _: Request) -> object:
    return plant.truth()


VERBS: Mapping[str, PlantVerb] = {
    "announce": _announce,
    "leave": _leave,
    "die": _die,
    "rename": _rename,
    "move": _move,
    "clone": _clone,
    "faults": _faults,
    "attack": _attack,
    "hostile_text": _hostile_text,
    "spoof_goodbye": _spoof_goodbye,
    "replay": _replay,
    "usurp": _usurp,
    "unplug": _unplug,
    "ledger": _ledger,
    "truth": _truth,
}


class ControlSocket:
    """A UNIX socket that serves a plant's verbs while the `async with` lasts."""

    def __init__(self, plant: Plant, path: Path) -> None:
        self._plant, self._path = plant, path
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._path, limit=MAX_LINE)

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None, "entered before"
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                answer = await self._answer(line)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # the client hung up, or sent an endless line
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, object]:
        try:
            return {"ok": await self._done(_parsed(line))}
        except RequestError as error:
            return {"error": str(error)}
        except (ConfigError, KeyError, ValueError, TypeError, OSError) as error:
            return {"error": f"{type(error).__name__}: {error}"}

    async def _done(self, request: CheckedRequest) -> object:
        """Do what is asked; return the answer.  Raises RequestError, and what the verb raises."""
        verb, own = request.get("do"), self._plant.cloud.verbs
        if not isinstance(verb, str) or verb not in {*own, *VERBS}:
            known = ", ".join(sorted({*own, *VERBS}))
            raise RequestError(f"{verb!r} is no request.  Known are: {known}")
        try:
            return await (own[verb](request) if verb in own else VERBS[verb](self._plant, request))
        except KeyError as error:
            if error.args != (request.get("child"),):
                raise
            raise RequestError(
                f"there is no child {error}, or it is not announced: plant.json has the serials"
            ) from None


def _parsed(line: bytes) -> CheckedRequest:
    """Return the request in a line.  Raises RequestError."""
    try:
        return CheckedRequest(json.loads(line))
    except (ValueError, TypeError):
        raise RequestError('a request is a JSON object, as {"do": "truth"}') from None


async def ask(path: Path, **request: object) -> Any:  # noqa: ANN401  # whatever JSON holds
    """Send a request to a running plant; return its answer.  Raises RuntimeError, OSError."""
    reader, writer = await asyncio.open_unix_connection(path, limit=64 << 20)
    try:
        writer.write(json.dumps(request).encode() + b"\n")
        answer = json.loads(await reader.readline())
    finally:
        writer.close()
        await writer.wait_closed()
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer["ok"]
