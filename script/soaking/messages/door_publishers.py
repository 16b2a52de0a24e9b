"""Children that publish numbers through a real broker, and keep which were acknowledged to them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

WINDOW = 20
"""Messages of a child that are not acknowledged, at most."""
PAUSE = 0.005
"""Seconds between two messages of a child."""
PATIENCE = 60.0


class NumberPublisher:
    """A child on MQTT 5, with a thread of paho's and one of its own.

    receipts: whether it asks for a receipt of each message.
    offered: how many numbers it has published.  acknowledged: those that the broker has.
    stored: those of which the receipt says that they are stored.
    """

    def __init__(self, child: str, password: str, port: int, *, receipts: bool) -> None:
        self.child, self._receipts = child, receipts
        self.offered = 0
        self.acknowledged: set[int] = set()
        self.stored: set[int] = set()
        self._numbers: dict[int, int] = {}
        self._packets: deque[int] = deque()  # acknowledged, as paho's thread notes them
        self._stop = threading.Event()
        api = getattr(paho, "CallbackAPIVersion", None)
        first = (api.VERSION2,) if api else ()
        self._client: Any = paho.Client(*first, client_id=child, protocol=paho.MQTTv5)
        self._client.username_pw_set(child, password)
        self._client.max_inflight_messages_set(WINDOW)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_publish = lambda *given: self._packets.append(given[2])
        self._client.on_connect = lambda *_: self._client.subscribe(f"c/{child}/down/r", 1)
        self._client.on_message = lambda *given: self._receive(given[2])
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = 3600
        self._client.connect("127.0.0.1", port, clean_start=False, properties=session)
        self._thread = threading.Thread(target=self._offer, name=child)

    def start(self) -> None:
        """Begin to publish."""
        self._client.loop_start()
        self._thread.start()

    def stop(self) -> None:
        """Publish no more."""
        self._stop.set()
        self._thread.join()

    @property
    def is_done(self) -> bool:
        """Whether all that was published is acknowledged, and has its receipt if it wants one.

        To be asked once it has stopped.
        """
        self._count()
        wanted = self.stored if self._receipts else self.acknowledged
        return len(wanted) >= self.offered

    def close(self) -> None:
        """Leave."""
        self.stop()
        self._client.disconnect()
        self._client.loop_stop()

    def _offer(self) -> None:
        while not self._stop.wait(PAUSE):
            self._count()
            if self.offered - len(self.acknowledged) < WINDOW:
                number, self.offered = self.offered, self.offered + 1
                topic = f"c/{self.child}/up/user/number"
                sent = self._client.publish(
                    topic, str(number), 1, properties=self._properties(number)
                )
                self._numbers[sent.mid] = number

    def _count(self) -> None:
        """Note which numbers are acknowledged.

        paho calls back while it holds a lock that its publish() needs: so no lock is taken there.
        """
        while self._packets:
            self.acknowledged.add(self._numbers.pop(self._packets.popleft()))

    def _properties(self, number: int) -> Properties | None:
        if not self._receipts:
            return None
        wanted = Properties(PacketTypes.PUBLISH)
        wanted.ResponseTopic, wanted.CorrelationData = (
            f"c/{self.child}/down/r",
            str(number).encode(),
        )
        return wanted

    def _receive(self, message: Any) -> None:  # noqa: ANN401  # paho has no types
        if message.payload == b"stored":
            self.stored.add(int(message.properties.CorrelationData))


@contextmanager
def publishing(
    children: Sequence[str], password: str, port: int, *, receipts: bool
) -> Iterator[list[NumberPublisher]]:
    """Have children publish until the block ends."""
    with ExitStack() as stack:
        publishers = []
        for child in children:
            one = NumberPublisher(child, password, port, receipts=receipts)
            stack.callback(one.close)
            one.start()
            publishers.append(one)
        yield publishers
