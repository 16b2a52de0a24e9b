"""Whatever the API answers, a step is done or fails with a ConsoleError, and asks within bounds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.console.client import Answer, ApiRequest, ConsoleClient
from gatewayd.console.huawei import api, devices
from gatewayd.console.huawei.api import KINDS, IotdaApi
from gatewayd.console.huawei.setting_up import (
    DeviceCaFile,
    IotdaProduct,
    IotdaTemplate,
    SettingUp,
)
from gatewayd.console.steps import ConsoleStep, all_of
from gatewayd.device.secret import Secret
from gatewayd.errors import ConsoleError

T = TypeVar("T")
WORDS = sorted(
    {field for kind in KINDS.values() for field in (kind.listed, kind.id, kind.name)}
    | {"page", "marker", "status", "verify_code", "template_id", "content", "expiry_date",
       "failure_targets", "targets", "target_id", "service_capabilities", "template_body",
       "provision_enable", "default_app", "gateway_id", "app_id", "statement"}
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["a", "", "ca", "x/y"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=6)
    ),
    max_leaves=20,
)
ANSWERS = st.lists(
    st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=6), min_size=1, max_size=6
)
CA = DeviceCaFile("-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n", "ca", "")


class Oracle:
    """A client that answers what it is given, over and over.  asked: how often it was."""

    dry_run = False

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers, self.asked = answers, 0

    async def read(self, _request: ApiRequest) -> Answer:
        self.asked += 1
        return self._answers[self.asked % len(self._answers)]

    async def change(self, request: ApiRequest, _foreseen: Answer | None = None) -> Answer:
        return await self.read(request)

    def take_planned(self) -> tuple[str, ...]:
        return ()


async def proof(_code: str) -> str:
    return "a proof"


Step = Callable[[SettingUp], Awaitable[ConsoleStep]]
STEPS: tuple[Step, ...] = (
    lambda here: here.make_space("a"),
    lambda here: here.make_product(IotdaProduct("a", "a")),
    lambda here: here.make_template(IotdaTemplate("a", {"resources": {}}, replace=True)),
    lambda here: here.make_policy("a", ["/t"], []),
    lambda here: here.bind_policy("a", "product", ["x/y"]),
    lambda here: here.upload_ca(CA),
    lambda here: here.prove_ca("ca", proof),
    lambda here: here.bind_template("ca", "a"),
    lambda here: here.unbind_template("ca"),
    *(lambda here, kind=kind: here.delete(kind, "a") for kind in KINDS.values()),
)


def finished(work: Coroutine[Any, Any, T]) -> T | str:
    """Return what is done, or the error.  It never waits: the oracle answers at once."""
    try:
        work.send(None)
    except StopIteration as end:
        return cast(T, end.value)
    except ConsoleError as error:
        return str(error)
    raise AssertionError("it waits")


@settings(max_examples=40)
@given(answers=ANSWERS)
def test_any_answer(answers: list[dict[str, Any]]) -> None:
    for do in STEPS:
        oracle = Oracle(answers)
        here = SettingUp(IotdaApi(cast(ConsoleClient, oracle), "p"))

        async def run(here: SettingUp = here, do: Step = do) -> ConsoleStep:
            await here.enter("")
            return await do(here)

        done = finished(run())
        assert done if isinstance(done, str) else isinstance(done.id, str)
        assert oracle.asked < 20
    client = cast(ConsoleClient, Oracle(answers))
    new = devices.NewDevices("a", ["x/y", "a"], secret=Secret(b"12345678"))
    steps = finished(all_of(devices.register(IotdaApi(client, "p"), new)))
    assert "12345678" not in steps if isinstance(steps, str) else len(steps) == 2


async def test_a_list_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "MAX_PAGES", 3)
    full = [{"device_id": str(number)} for number in range(api.PAGE)]
    answers = [{"devices": full, "page": {"marker": str(number)}} for number in range(5)]
    oracle = Oracle(answers)
    reading = IotdaApi(cast(ConsoleClient, oracle), "p").listed(api.DEVICE)
    with pytest.raises(ConsoleError, match="more than 3 pages"):
        async for _ in reading:
            pass
    assert oracle.asked == 3


async def test_too_many_devices_are_refused_before_anything_is_asked() -> None:
    oracle = Oracle([{}])
    ids = [str(number) for number in range(devices.MAX_DEVICES + 1)]
    steps = devices.register(
        IotdaApi(cast(ConsoleClient, oracle), "p"), devices.NewDevices("a", ids)
    )
    with pytest.raises(ConsoleError, match="Divide the list"):
        await all_of(steps)
    assert oracle.asked == 0


def test_a_ca_is_known_by_its_certificate_and_else_by_name_and_end() -> None:
    entry = {"cn_name": "ca", "expiry_date": ""}
    assert CA.is_in({**entry, "content": CA.pem.replace("\n", "\r\n")})
    assert not CA.is_in({**entry, "content": CA.pem.replace("MA==", "MQ==")})
    assert CA.is_in(entry)
    assert not CA.is_in({**entry, "expiry_date": "20300101T000000Z"})
