"""The journal of a cloud: what arrives, in order, with its connection, and no payload of it."""

from __future__ import annotations

import json
from pathlib import Path

from gatewayd.simulator.account import LOOPBACK, AccountOptions
from gatewayd.simulator.alibaba.account import PRODUCT, SimulatedAlibabaAccount
from gatewayd.simulator.mqtt import codec
from gatewayd.simulator.mqtt.journal import CloudJournal
from tests.simulator.alibaba.client import connect_packet, logging_in
from tests.simulator.wire import trusting, wire
from tests.support.simulated_ca import AUTHORITY, NOW

CHILD = "TH20-0001A7"


async def test_a_journal_has_what_arrives(tmp_path: Path) -> None:
    moments = iter(range(100))
    journal = CloudJournal(tmp_path / "journal", lambda: float(next(moments)))
    options = AccountOptions(
        (CHILD,), "direct", LOOPBACK, "good", AUTHORITY, NOW, 0, witness=journal
    )
    with journal:
        async with SimulatedAlibabaAccount(options) as account:
            secret = str(await account.verbs["secret"]({"child": CHILD}))
            who = logging_in(CHILD, secret).but(product=PRODUCT)
            port = int(str(account.facts()["port"]))
            async with wire(port, trusting(), connect_packet(who)) as one:
                assert await one.code() == 0
                one.writer.write(codec.publish("any/topic", b"not in the journal"))
                one.leave()
                await one.ended()
            wrong = logging_in(CHILD, "wrong").but(product=PRODUCT)
            async with wire(port, trusting(), connect_packet(wrong)) as one:
                assert await one.code() == 5
                await one.ended()
    text = (tmp_path / "journal").read_text()
    assert "not in the journal" not in text
    lines = [json.loads(line) for line in text.splitlines()]
    shown = [(one["at"], one["do"], one["link"]) for one in lines]
    assert shown == [
        (0, "connect", 1), (1, "publish", 1), (2, "close", 1), (3, "connect", 2), (4, "close", 2),
    ]  # fmt: skip
    assert [one["accepted"] for one in lines if one["do"] == "connect"] == [True, False]
    assert {one["peer"] for one in lines} == {LOOPBACK}
    assert lines[0]["user"] == f"{CHILD}&{PRODUCT}"
    assert lines[1]["topic"] == "any/topic"
