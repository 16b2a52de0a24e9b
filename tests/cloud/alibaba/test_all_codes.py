"""Every documented code, as the answer to all that we ask: the class and the reason it ends in.

What is expected is written from the vendor's tables of codes, not from ours.  Real provider, real
TLS, simulated cloud; each code has a child of its own.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest

from gatewayd.cloud.alibaba.account import AlibabaAccount
from gatewayd.cloud.alibaba.https_registration import HttpsRegistration
from gatewayd.cloud.credentials import read_secret
from gatewayd.cloud.provider import (
    Failed,
    Issued,
    LoginError,
    LoginFailed,
    LoginRefused,
    LoginRemoved,
    Outcome,
    Refused,
    Session,
    Unknown,
)
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.network import tls
from gatewayd.simulator.alibaba.cloud import AlibabaCloud, AlibabaCloudOptions
from gatewayd.simulator.alibaba.rules import AlibabaRules
from gatewayd.testing.contracts.cloud import RecordingKeeper, check_reason
from tests.cloud.alibaba.site import (
    PRODUCT_SECRETS,
    Site,
    at_cloud,
    child,
    furnish,
    settings_for,
    site,
)
from tests.support.simulated_ca import CERTIFICATE


class Class(Enum):
    """What the documents say of a code."""

    TRANSIENT = auto()  # comes right by itself
    PERMANENT = auto()  # a fault of the request: the same request is refused again
    OPERATOR = auto()  # until an operator changes something at the cloud
    REMOVED = auto()  # stop, and remember
    REREGISTER = auto()  # this secret is no good
    TOPOLOGY = auto()  # attach it, and try once more
    DISABLED = auto()  # wait until the cloud enables it
    CONFLICT = auto()  # stop, and show it
    UNKNOWN = auto()  # wait ten minutes, and try again


Meaning: TypeAlias = tuple[Class, str]
STRANGE = 9876
"""Not documented."""

MEANINGS: Mapping[int, Meaning] = {
    400: (Class.TRANSIENT, "cloud-error"),
    401: (Class.REREGISTER, "cloud-auth-failed"),
    427: (Class.CONFLICT, "cloud-session-elsewhere"),
    428: (Class.OPERATOR, "cloud-too-many-online"),
    429: (Class.TRANSIENT, "cloud-throttled"),
    460: (Class.PERMANENT, "cloud-request-refused"),
    500: (Class.TRANSIENT, "cloud-error"),
    520: (Class.TRANSIENT, "cloud-no-session"),
    521: (Class.REMOVED, "cloud-removed"),
    522: (Class.DISABLED, "cloud-disabled"),
    527: (Class.CONFLICT, "cloud-session-elsewhere"),
    5005: (Class.OPERATOR, "cloud-no-product"),
    5244: (Class.OPERATOR, "cloud-no-product"),
    6100: (Class.OPERATOR, "cloud-no-device"),
    6203: (Class.PERMANENT, "cloud-topic-refused"),
    6204: (Class.DISABLED, "cloud-disabled"),
    6250: (Class.OPERATOR, "cloud-no-product"),
    6280: (Class.OPERATOR, "device-name-invalid"),
    6287: (Class.REREGISTER, "cloud-auth-failed"),
    6288: (Class.OPERATOR, "cloud-registration-off"),
    6289: (Class.OPERATOR, "cloud-already-activated"),
    6292: (Class.PERMANENT, "cloud-sign-method-refused"),
    6356: (Class.PERMANENT, "cloud-report-too-large"),
    6357: (Class.PERMANENT, "cloud-report-too-large"),
    6400: (Class.OPERATOR, "cloud-too-many-children"),
    6401: (Class.TOPOLOGY, "cloud-not-in-topology"),
    6402: (Class.PERMANENT, "cloud-own-child"),
    6450: (Class.PERMANENT, "cloud-no-method"),
    6600: (Class.REREGISTER, "cloud-auth-failed"),
    6619: (Class.OPERATOR, "cloud-other-gateway"),
    6760: (Class.TRANSIENT, "cloud-error"),
    STRANGE: (Class.UNKNOWN, "cloud-code-unknown"),
}
"""Those beside 200, from the vendor's index of codes and the tables of each request."""

CODES: Sequence[int] = tuple(MEANINGS)
HALVES = (CODES[::2], CODES[1::2])
"""For two children to each code: the cloud has sixty."""

NO_CREDENTIAL: Mapping[int, Meaning] = {401: (Class.PERMANENT, "cloud-not-authorised")}
"""thing.sub.register is not signed: it is the gateway that is not let."""
PRODUCT_SECRET = dict.fromkeys((401, 6287, 6600), (Class.OPERATOR, "cloud-auth-failed"))
"""What is signed with the product's secret."""

COMES_RIGHT = frozenset({Class.TRANSIENT, Class.TOPOLOGY})
"""No one has to act."""

Result: TypeAlias = tuple[type, str]
"""What it ends in, and the reason's code; "" for none."""

DONE: Result = (type(None), "")


@dataclass(frozen=True, slots=True)
class Ends:
    """How a call ends, by what its code means."""

    usual: type
    others: Mapping[Class, type]
    meanings: Mapping[int, Meaning]

    def expected(self) -> dict[int, Result]:
        table = {**MEANINGS, **self.meanings}
        return {
            code: (self.others.get(kind, self.usual), reason)
            for code, (kind, reason) in table.items()
        }


REGISTRATION = dict.fromkeys((Class.TRANSIENT, Class.UNKNOWN, Class.DISABLED), Failed)
REGISTER = Ends(Refused, REGISTRATION, NO_CREDENTIAL).expected()
PROVISION = Ends(Refused, REGISTRATION, PRODUCT_SECRET).expected()
OVER_HTTPS = Ends(
    Refused, dict.fromkeys((Class.TRANSIENT, Class.UNKNOWN), Failed), PRODUCT_SECRET
).expected()
LOGIN_ERRORS = {Class.REREGISTER: LoginRefused, Class.REMOVED: LoginRemoved}
DELETED = {6100: (Class.REMOVED, "cloud-removed")}
"""Once the cloud has issued a secret, a device that it does not know was deleted."""
LOG_IN = Ends(LoginFailed, LOGIN_ERRORS, DELETED).expected()
FORGOTTEN = {
    code: DONE if code in {521, 6100, 6401} else result
    for code, result in Ends(Reason, {}, {}).expected().items()
}
"""What is not there is not in the topology either."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return furnish(tmp_path)


def children(route: str = "sub-device") -> Iterator[tuple[int, CloudName]]:
    """Give each code a child."""
    return ((code, child(number, route)) for number, code in enumerate(CODES))


def result(ended: object, reason: Reason | None, code: int) -> Result:
    """Return what is to be compared, after a check of the reason."""
    if reason is None:
        return type(ended), ""
    check_reason(reason)
    kind, _ = MEANINGS[code]
    if isinstance(ended, Refused | LoginRefused | LoginRemoved) or kind not in COMES_RIGHT:
        assert reason.remedy, f"{code}: {reason.code} says not what to do"
    if kind is Class.UNKNOWN:
        assert str(code) in reason.text
    return type(ended), reason.code


def outcome_result(outcome: Outcome, code: int) -> Result:
    return result(outcome, None if isinstance(outcome, Issued) else outcome.reason, code)


def fault(one: Site, code: int, request: str, device: str = "*") -> None:
    """Let the cloud answer so from now on; the clock goes on, for the pace of requests."""
    one.clock.ahead += 1.0
    one.cloud.set_faults(f"reply:{code}@{request}/{device}")


async def online(one: Site) -> Mapping[int, Session]:
    """Log in a child for each code."""
    return dict(zip(CODES, await one.online(*range(len(CODES))), strict=True))


async def login(one: Site, name: CloudName, code: int) -> Result:
    """Log a child in that has a secret."""
    valid = one.cloud.secret(*at_cloud(name))
    assert valid is not None
    try:
        await one.connect(name, Secret(valid.encode()))
    except LoginError as error:
        return result(error, error.reason, code)
    return DONE


@pytest.mark.parametrize(
    ("route", "request_", "expected"),
    [
        ("sub-device", "thing.sub.register", REGISTER),
        ("sub-device-secret", "thing.proxy.provisioning.product_register", PROVISION),
    ],
)
async def test_registration(
    folder: Path, route: str, request_: str, expected: dict[int, Result]
) -> None:
    ends = {}
    async with site(folder) as one:
        for code, name in children(route):
            fault(one, code, request_)
            outcome, kept = await one.register(name)
            ends[code] = outcome_result(outcome, code)
            assert not kept.secrets
        fault(one, 200, request_)
        outcome, _ = await one.register(child(len(CODES), route))
        assert isinstance(outcome, Unknown), "done, and no secret: it may have been issued"
    assert ends == expected


async def test_registration_of_one_among_others(folder: Path) -> None:
    """A product registration says of each child what became of it."""
    request, ends = "thing.proxy.provisioning.product_register", {}
    names = dict(children("sub-device-secret"))
    good = child(len(CODES), "sub-device-secret")
    async with site(folder) as one:
        plan = (f"partial:{code}@{request}/{name.device}" for code, name in names.items())
        one.cloud.set_faults(" ".join(plan))
        answers = await asyncio.gather(*(one.register(name) for name in (*names.values(), good)))
        for code, (outcome, _) in zip(CODES, answers, strict=False):
            ends[code] = outcome_result(outcome, code)
        assert answers[-1][0] == Issued()
    assert ends == PROVISION


@pytest.mark.parametrize("request_", ["thing.topo.add", "combine.login"])
async def test_login(folder: Path, request_: str) -> None:
    ends = {}
    async with site(folder) as one:
        await asyncio.gather(*(one.secret(name) for _, name in children()))
        for code, name in children():
            fault(one, code, request_)
            ends[code] = await login(one, name, code)
    assert ends == LOG_IN


@pytest.mark.parametrize("codes", HALVES)
async def test_batches_of_logouts_and_logins(folder: Path, codes: Sequence[int]) -> None:
    """What will pass is tried again together; for any other code each child goes alone."""
    ends = {}
    async with site(folder) as one:
        sessions = await one.online(*range(2 * len(codes)))
        for number, code in enumerate(codes):
            fault(one, code, "combine.batch_logout")
            await asyncio.gather(*(s.close() for s in sessions[2 * number : 2 * number + 2]))
            fault(one, code, "combine.batch_login")
            pair = child(2 * number), child(2 * number + 1)
            ends[code], other = await asyncio.gather(*(login(one, name, code) for name in pair))
            assert ends[code] == other
        assert set(one.ledger["calls"]["combine.batch_logout"]) == {str(code) for code in codes}
        for session in sessions:
            assert (await session.wait_closed()).reason.code == "closed"
    assert ends == {
        code: LOG_IN[code] if MEANINGS[code][0] is Class.TRANSIENT else DONE for code in codes
    }


async def test_topology_that_is_refused(folder: Path) -> None:
    """The gateway asks for itself: whatever is answered says nothing of the child."""
    ends = {}
    async with site(folder) as one:
        await asyncio.gather(*(one.secret(name) for _, name in children()))
        fault(one, CODES[0], "thing.topo.get")
        await one.lose_link()
        await one.log_in()
        for code, name in children():
            fault(one, code, "thing.topo.get")
            ends[code] = await login(one, name, code)
        one.cloud.set_faults("")
        assert await login(one, child(0), CODES[0]) == DONE
    assert ends == {code: (LoginFailed, reason) for code, (_, reason) in MEANINGS.items()}


async def test_leaving_the_topology(folder: Path) -> None:
    ends = {}
    async with site(folder) as one:
        await online(one)
        for code, name in children():
            fault(one, code, "thing.topo.delete")
            why = await one.provider.unbind(name)
            ends[code] = result(why, why, code)
    assert ends == FORGOTTEN


async def test_logout_ends_the_session_whatever_is_answered(folder: Path) -> None:
    async with site(folder) as one:
        for code, session in (await online(one)).items():
            fault(one, code, "combine.logout")
            await session.close()
            assert (await session.wait_closed()).reason.code == "closed"
        assert set(one.ledger["calls"]["combine.logout"]) == {str(code) for code in CODES}


async def test_a_child_that_is_forced_off(folder: Path) -> None:
    ends = {}
    async with site(folder, AlibabaRules(child_logins=0, error_data=True)) as one:
        sessions = await online(one)
        for code, name in children():
            one.cloud.push_error(at_cloud(name), code)
            async with asyncio.timeout(30):
                ended = await sessions[code].wait_closed()
            ends[code] = (ended.removed, result(ended, ended.reason, code)[1])
    assert ends == {
        code: (kind is Class.REMOVED, reason) for code, (kind, reason) in MEANINGS.items()
    }


async def test_registration_over_https(folder: Path) -> None:
    ends = {}
    async with AlibabaCloud(
        PRODUCT_SECRETS,
        [at_cloud(name) for _, name in children()],
        certificate=CERTIFICATE,
        clock=asyncio.get_running_loop().time,
        random=os.urandom,
        options=AlibabaCloudOptions(https_port=0),
    ) as cloud:
        trust = tls.TrustStore(folder / "ca.pem")
        settings = settings_for(folder, cloud.port)
        account = AlibabaAccount(settings, partial(read_secret, None), trust)
        ours = HttpsRegistration(account, "localhost", cloud.https_port, trust)
        for code, name in children("direct"):
            cloud.set_faults(f"reply:{code}@auth.register.device")
            ends[code] = outcome_result(await ours.register(name, RecordingKeeper().keep), code)
        cloud.set_faults("")
        assert await ours.register(child(0, "direct"), RecordingKeeper().keep) == Issued()
        trust.release()
    assert ends == OVER_HTTPS
