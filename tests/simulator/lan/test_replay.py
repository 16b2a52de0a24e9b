"""A recording is played: when, by whom, and what is left out."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gatewayd.simulator.lan.recording import MalformedRecording, RecordedDatagram, RecordedLine
from gatewayd.simulator.lan.replay import ReplayCount, ReplayedInterfaces, main, play

PACKET = base64.b64encode(b"packet").decode()


def datagram(at: float, sender: str = "10.0.0.7", data: str = PACKET) -> RecordedLine:
    about: dict[str, str | int] = {"interface": "lan0", "sender": sender, "port": 5353}
    return RecordedLine(at, "datagram", about | {"data": data})


def link(addresses: str = "10.0.0.1/8", index: int = 5, running: int = 1) -> RecordedLine:
    about: dict[str, str | int] = {"interface": "lan0", "index": index, "running": running}
    return RecordedLine(0.0, "interface", about | {"addresses": addresses})


class Played:
    """What was sent when, and applied."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, str]] = []
        self.applied: list[tuple[str, ...]] = []
        self.began = asyncio.get_running_loop().time()

    def send(self, one: RecordedDatagram) -> None:
        if one.sender.endswith(".66"):
            raise PermissionError(1, "Operation not permitted")
        self.sent.append((asyncio.get_running_loop().time() - self.began, one.sender))

    def apply(self, words: Sequence[str]) -> None:
        self.applied.append(tuple(words))

    async def play(self, *lines: RecordedLine, speed: float = 1.0) -> ReplayCount:
        def read() -> Iterator[RecordedLine]:
            yield from lines

        return await play(read(), self.send, self.apply, speed)


@pytest.mark.jumping_clock
@pytest.mark.parametrize("speed", [1.0, 10.0])
async def test_each_datagram_is_sent_at_its_time(speed: float) -> None:
    played = Played()
    count = await played.play(datagram(1), datagram(1), datagram(60, "10.0.0.8"), speed=speed)
    times = [round(at * speed, 3) for at, _ in played.sent]
    assert times == pytest.approx([1, 1, 60], abs=0.05)
    assert [sender for _, sender in played.sent] == ["10.0.0.7", "10.0.0.7", "10.0.0.8"]
    assert (count.sent, count.left_out, count.failed) == (3, 0, 0)


@pytest.mark.jumping_clock
async def test_what_the_gateway_has_sent_or_was_left_out_is_not_sent() -> None:
    played = Played()
    count = await played.play(link(), datagram(1, "10.0.0.1"), datagram(1, data=""), datagram(2))
    assert len(played.sent) == count.sent == 1
    assert count.left_out == 2


@pytest.mark.jumping_clock
async def test_what_cannot_be_sent_is_counted() -> None:
    count = await Played().play(datagram(1, "10.0.0.66"), datagram(2))
    assert (count.sent, count.failed) == (1, 1)
    assert count.faults == ["1.000 s: Operation not permitted"]


@pytest.mark.jumping_clock
async def test_changes_of_interfaces_are_applied() -> None:
    played = Played()
    count = await played.play(
        link(), link(running=0), RecordedLine(3.0, "end", {"reason": "time", "lost": 0})
    )
    assert count.applied == 1
    assert played.applied == [("link", "set", "dev", "lan0", "down")]


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (link(), []),
        (link(running=0), ["link set dev lan0 down"]),
        (link(index=0, running=0, addresses=""),
         ["link set dev lan0 down", "address delete 10.0.0.1/8 dev lan0"]),
        (link(index=6), ["link set dev lan0 down", "link set dev lan0 up"]),
        (link("10.0.0.1/8 fe80::1/64"), ["address add fe80::1/64 dev lan0"]),
        (link("10.0.0.1/16"),
         ["address delete 10.0.0.1/8 dev lan0", "address add 10.0.0.1/16 dev lan0"]),
    ],
)  # fmt: skip
def test_the_words_of_a_change(after: RecordedLine, words: list[str]) -> None:
    interfaces = ReplayedInterfaces()
    assert list(interfaces.commands(link())) == []
    assert [" ".join(one) for one in interfaces.commands(after)] == words


@pytest.mark.parametrize(
    "line",
    [
        link("-h"), link(running=2), link(index=-1),
        RecordedLine(0.0, "interface", {"interface": "a/b", "index": 1, "running": 1,
                                        "addresses": ""}),
        RecordedLine(0.0, "interface", {"interface": "lan0"}),
    ],
)  # fmt: skip
def test_what_is_no_change_is_refused(line: RecordedLine) -> None:
    with pytest.raises(MalformedRecording):
        list(ReplayedInterfaces().commands(line))


@pytest.mark.parametrize(
    ("text", "said"), [("", "It is empty"), ("{}\n", "Line 1: at is no number")]
)
def test_a_file_that_is_no_recording_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    file = tmp_path / "file"
    file.write_text(text)
    assert main(["--replay", str(file)]) == 1
    assert said in capsys.readouterr().err


def test_an_interface_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text(json.dumps({"at": 0, "kind": "recording", "version": 1}) + "\n")
    assert main(["--replay", str(file), "--on", "nosuch0"]) == 1
    assert "nosuch0" in capsys.readouterr().err
    assert main(["--replay", str(file)]) == 0
    assert capsys.readouterr().out.startswith("0 sent, 0 left out")
