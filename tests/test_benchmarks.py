"""What script/bench counts, and how it compares."""

from __future__ import annotations

import asyncio
import html
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from gatewayd.cloud.mqtt import Login
from gatewayd.device.secret import Secret
from gatewayd.simulator.mqtt import codec
from gatewayd.simulator.mqtt.packets import Connect
from gatewayd.testing.waiting import until
from script.benchmarks import lean
from script.benchmarks.plot import LIMIT, named, picture
from script.benchmarks.process import family, family_cpu
from script.benchmarks.rounds import Rounds, Sample, alternate
from script.benchmarks.small import slowed
from script.benchmarks.subject import Subject
from script.benchmarks.table import Figure, facts, read_parts, table

HERE, BEFORE = Subject("gatewayd", Path("/here")), Subject("before", Path("/before"))
FOR_EVER = "while True: pass"
SPIN = "import time\nwhile time.process_time() < 0.3: pass"


async def test_contenders_take_turns_in_both_directions() -> None:
    order: list[str] = []

    async def ours(subject: Subject) -> Sample:
        order.append(subject.name)
        return {"cpu": float(len(order))}

    async def other() -> Sample:
        order.append("paho")
        return {"cpu": 1.0}

    found = await alternate((HERE, BEFORE), ours, {"paho": other}, rounds=3)
    there = ["gatewayd", "before", "paho"]
    assert order == [*there, *reversed(there), *there]
    assert found.values("gatewayd", "cpu") == [1.0, 6.0, 7.0]


def test_a_ratio_is_taken_within_a_round() -> None:
    """The machine was slow in the second round, for all."""
    samples = {
        "gatewayd": [{"cpu": 2.0}, {"cpu": 40.0}, {"cpu": 2.2}],
        "before": [{"cpu": 4.0}, {"cpu": 80.0}, {"cpu": 4.4}],
        "paho": [{"cpu": 1.0}, {"cpu": 20.0}, {"cpu": 1.0}],
    }
    found = Rounds((HERE, BEFORE), samples)
    one = found.figure("CPU", "cpu", "times", of=("paho", "cpu"), budget=1.4)
    assert (one.value, one.against, one.ratio, one.verdict) == (2.0, 4.0, 0.5, "EXCEEDED")
    alone = Rounds((HERE,), samples).figure("CPU", "cpu", "ms")
    assert (alone.value, alone.against, alone.ratio) == (2.2, None, None)


def test_the_other_revision_has_columns_only_where_there_is_one() -> None:
    figures = [Figure("CPU", 2.0, "ms", 3.0, "a note", 4.0), Figure("PSS", 200.0, "kB")]
    header, first, second = table(figures, "v1").splitlines()
    assert header.split() == ["what", "figure", "v1", "ratio", "budget", "verdict"]
    assert " ".join(first.split()) == "CPU 2 ms 4 ms 0.50 ≤ 3 ms holds a note"
    assert second.split() == ["PSS", "200", "kB"]
    assert table(figures).splitlines()[0].split() == ["what", "figure", "budget", "verdict"]
    cpu, pss = facts(figures)
    assert (cpu["value"], cpu["against"], cpu["holds"]) == (2.0, 4.0, True)
    assert pss == {"what": "PSS", "value": 200.0, "unit": "kB"}


async def test_what_is_slowed_is_stopped_in_turn_and_runs_again_at_the_end() -> None:
    """With what it has started."""
    spins = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {FOR_EVER!r}])"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", spins, start_new_session=True
    )
    try:
        await until(lambda: len([*family(process.pid)]) == 2)
        _, child = family(process.pid)
        with slowed(lambda: process.pid):
            await until(lambda: _state(child) == "T")
            await until(lambda: _state(child) != "T")
            await until(lambda: _state(child) == "T")
        assert "T" not in (_state(process.pid), _state(child))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _state(pid: int) -> str:
    """Return the state of a process (proc_pid_stat(5)): "T" is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_run_is_drawn_as_it_was_and_from_what_it_has_written() -> None:
    parts = {
        "alibaba": [
            Figure("sub-device: 2,000 children, from start to all online", 15.8, "s"),
            Figure("  CPU per child", 1.3, "ms"),
            Figure("direct: 240 children, from start to all online", 1.85, "s"),
            Figure("  CPU per child", 3.4, "ms"),
        ],
        "fleet": [Figure("idle PSS, 0 children", 67.1, "MB", 40), Figure("lost", 0, "", 0)],
        "growth": [
            Figure("100 children directly: CPU per child, of a bare connection", 4.5, "times"),
            Figure("10,000 children directly: CPU per child, of a bare connection", 4.6, "times"),
        ],
    }
    drawn = picture(parts, "2 CPUs; load < 1")
    words = [html.unescape(word) for word in re.findall(r">([^<>]*)</text>", drawn)]
    assert named(parts["alibaba"])["direct: CPU per child"].value == 3.4
    assert {"3.4", "1.3", "67.1", "4.5", "4.6", "10,000", "2 CPUs; load < 1"} <= set(words)
    assert not any("SDK" in word or "bridge" in word for word in words)  # not measured
    assert drawn.count(LIMIT) == 1
    written = [{"part": name} | fact for name, them in parts.items() for fact in facts(them)]
    assert picture(read_parts(written), "2 CPUs; load < 1") == drawn


async def test_all_processes_count_also_those_that_have_ended() -> None:
    """One that spins and ends, then one that stays and spins."""
    script = (
        f"import subprocess, sys\nspin = {SPIN!r}\nsubprocess.run([sys.executable, '-c', spin])\n"
        "stays = subprocess.Popen([sys.executable, '-c', spin + '\\ninput()'], stdin=-1)\n"
        "input()\nstays.communicate(b'\\n')"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdin=asyncio.subprocess.PIPE
    )
    try:
        await until(lambda: family_cpu(process.pid) >= 0.6)
        assert len(list(family(process.pid))) == 2
    finally:
        await process.communicate(b"\n")


@pytest.mark.parametrize("length", [3, 200])
def test_the_rival_writes_and_reads_mqtt(length: int) -> None:
    login = Login("c" * length, "user", Secret(b"password"))
    (connect,) = codec.Parser().feed(lean._connect(login))
    assert isinstance(connect, Connect)
    assert (connect.client_id, connect.keepalive) == ("c" * length, lean.KEEPALIVE)
    message = codec.publish("topic", b"p" * length)
    cut = lean._cut(message + b"more")
    assert cut is not None
    assert message[slice(*cut)] == b"\0\5topic" + b"p" * length
    assert [lean._cut(message[:end]) for end in range(len(message))] == [None] * len(message)
