"""Device policies of the simulated Huawei platform: who may use which custom topic."""

from __future__ import annotations

from typing import Any

import pytest

from gatewayd.simulator.huawei.platform.device import HuaweiDevice
from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError
from gatewayd.simulator.huawei.platform.instance import IotdaInstance
from gatewayd.simulator.huawei.platform.limits import InstanceLimits
from tests.simulator.huawei.client import (
    GATEWAY,
    GATEWAYS,
    SECRET,
    Hello,
    device,
    furnish,
    ledger_of,
    one,
    platform,
    served,
)

PUBLISH, SUBSCRIBE = "iotda:devices:publish", "iotda:devices:subscribe"


def rule(*resources: str, effect: str = "ALLOW", actions: tuple[str, ...] = (PUBLISH,)) -> Any:
    topics = [f"topic:{one}" for one in resources]
    return {"effect": effect, "actions": list(actions), "resources": topics}


@pytest.fixture
def instance() -> IotdaInstance:
    made = furnish(platform().create("one"))
    made.devices.add(node_id="gw-0001", product_id=GATEWAYS)
    return made


@pytest.fixture
def gw(instance: IotdaInstance) -> HuaweiDevice:
    return instance.devices.get(GATEWAY)


def close(instance: IotdaInstance) -> None:
    """Delete the policy that allows everything."""
    (default,) = instance.policies.list(name="system_default_policy")
    instance.policies.delete(default.policy_id)


def bind(instance: IotdaInstance, *rules: Any, kind: str = "device", target: str = GATEWAY) -> str:
    made = instance.policies.create(f"policy-{len(instance.policies.list())}", list(rules))
    assert instance.policies.bind(made.policy_id, kind, [target]) == []
    return made.policy_id


def test_a_new_resource_space_allows_everything_to_everybody(
    instance: IotdaInstance, gw: HuaweiDevice
) -> None:
    policies = instance.policies
    assert policies.allows(gw, "publish", "/any/thing")
    close(instance)
    assert not policies.allows(gw, "publish", "/any/thing")
    instance.apps.create("another")
    assert policies.allows(gw, "subscribe", "/any/thing")


@pytest.mark.parametrize(
    ("resource", "topic", "allowed"),
    [
        ("/v1/${devices.deviceId}/hello", f"/v1/{GATEWAY}/hello", True),
        ("/v1/${devices.deviceId}/hello", "/v1/another/hello", False),
        ("/v1/*", "/v1/a/b/c", True),
        ("/v1/*", "/v1", False),
        ("*", "/anything", True),
        ("/v1/?", "/v1/a", True),
        ("/v1/?", "/v1/ab", False),
        ("/v1/+", "/v1/a", False),
        ("/v1/+", "/v1/+", True),
        ("/v1/#", "/v1/a", False),
        ("/v1.2", "/v1x2", False),
    ],
)
def test_wildcards(
    instance: IotdaInstance, gw: HuaweiDevice, resource: str, topic: str, allowed: bool
) -> None:
    close(instance)
    bind(instance, rule(resource))
    assert instance.policies.allows(gw, "publish", topic) is allowed
    assert not instance.policies.allows(gw, "subscribe", topic)


def test_a_denial_wins(instance: IotdaInstance, gw: HuaweiDevice) -> None:
    bind(instance, rule("/secret/*", effect="DENY"), kind="product", target=GATEWAYS)
    bind(instance, rule("/secret/mine"))
    assert instance.policies.allows(gw, "publish", "/open")
    assert not instance.policies.allows(gw, "publish", "/secret/mine")
    assert instance.policies.allows(gw, "subscribe", "/secret/mine")


@pytest.mark.parametrize("kind", ["device", "product", "app"])
def test_what_a_policy_is_bound_to(instance: IotdaInstance, gw: HuaweiDevice, kind: str) -> None:
    close(instance)
    target = {"device": GATEWAY, "product": GATEWAYS, "app": gw.app_id}[kind]
    policies = instance.policies
    policy_id = bind(instance, rule("/t"), kind=kind, target=target)
    assert policies.allows(gw, "publish", "/t")
    assert policies.targets(policy_id) == [(kind, target)]
    assert policies.targets(policy_id, kind, "another") == []
    assert policies.unbind(policy_id, kind, [target]) == []
    assert [one for one, _ in policies.unbind(policy_id, kind, [target])] == [target]
    assert not policies.allows(gw, "publish", "/t")


def test_what_a_policy_cannot_be_bound_to(instance: IotdaInstance) -> None:
    policy_id = bind(instance, rule("/t"))
    bound = instance.policies.bind(policy_id, "device", [GATEWAY, "unknown"])
    assert [(one, error.code) for one, error in bound] == [("unknown", IotdaCode.UNKNOWN_DEVICE)]
    (odd,) = instance.policies.bind(policy_id, "group", ["g"])
    assert odd[1].code is IotdaCode.INVALID_INPUT
    for _ in range(4):
        bind(instance, rule("/t"))
    sixth = instance.policies.create("sixth", [rule("/t")])
    (full,) = instance.policies.bind(sixth.policy_id, "device", [GATEWAY])
    assert full[1].code is IotdaCode.POLICY_LIMIT


def test_a_device_that_is_gone_is_bound_to_nothing(instance: IotdaInstance) -> None:
    policy_id = bind(instance, rule("/t"))
    instance.devices.delete(GATEWAY)
    assert instance.policies.targets(policy_id) == []


@pytest.mark.parametrize(
    "statement",
    [
        [],
        {},
        [{}],
        [rule()],
        [rule("/t", effect="MAYBE")],
        [rule("/t", actions=())],
        [rule("/t", actions=("iotda:devices:delete",))],
        [rule(*["/t"] * 11)],
        [rule("/a b")],
        [rule("/" + "x" * 128)],
        [{**rule("/t"), "resources": ["/t"]}],
        [rule("/t")] * 11,
        [rule(*["/" + "x" * 110] * 10)] * 10,
    ],
)
def test_documents_that_do_not_do(instance: IotdaInstance, statement: object) -> None:
    with pytest.raises(PlatformError) as caught:
        instance.policies.create("policy", statement)
    assert caught.value.code is IotdaCode.INVALID_INPUT


def test_what_is_changed_of_a_policy(instance: IotdaInstance, gw: HuaweiDevice) -> None:
    close(instance)
    policy_id = bind(instance, rule("/t"))
    instance.policies.update(policy_id, {"policy_name": "renamed", "statement": [rule("/u")]})
    assert instance.policies.allows(gw, "publish", "/u")
    assert not instance.policies.allows(gw, "publish", "/t")
    with pytest.raises(PlatformError):
        instance.policies.update(policy_id, {"app_id": "x"})
    with pytest.raises(PlatformError):
        instance.policies.create("renamed", [rule("/t")])


def test_fifty_policies_and_no_more() -> None:
    made = platform(limits=InstanceLimits(policies=2)).create("one")
    for name in "ab":
        made.policies.create(name, [rule("/t")])
    with pytest.raises(PlatformError) as caught:
        made.policies.create("c", [rule("/t")])
    assert caught.value.code is IotdaCode.POLICY_LIMIT
    assert InstanceLimits().policies == 50


async def test_policies_govern_custom_topics_only() -> None:
    own, foreign = f"$oc/devices/{GATEWAY}/user/a", "$oc/devices/another/user/a"
    async with served() as cloud:
        close(one(cloud))
        bind(one(cloud), rule("/ok", actions=(PUBLISH, SUBSCRIBE)))
        one(cloud).products.update(GATEWAYS, {"topics": ["a"]})
        async with device(cloud) as gw:
            assert await gw.subscribe(["/ok", "/not", own, foreign, "/#", gw.down]) == [
                1, 0x80, 1, 0x80, 0x80, 1,
            ]  # fmt: skip
            for topic in ("/ok", "/not", own, foreign):
                gw.publish(topic, b"x", qos=1)
            assert (await gw.add("c1"))["failed_devices"] == []
            assert len(gw.acks) == 4
            assert cloud.push("one", GATEWAY, "/ok", b"down")
            assert not cloud.push("one", GATEWAY, "/not", b"down")
            await gw.served()
            assert gw.others == [("/ok", b"down")]
        ledger = ledger_of(cloud)
        assert ledger["published"] == {"custom": 2, "events/up": 1}
        assert ledger["refused_messages"] == 2
        assert ledger["refused_topics"] == 3


async def test_a_device_has_so_many_subscriptions() -> None:
    async with served() as cloud, device(cloud, Hello(secret=SECRET)) as gw:
        answers = [(await gw.subscribe([f"/{number}"]))[0] for number in range(51)]
        assert answers == [1] * 50 + [0x80]
        assert await gw.subscribe([gw.down, f"$oc/devices/{GATEWAY}/sys/commands/#"]) == [1, 1]
        assert await gw.subscribe(["$oc/devices/another/sys/events/down", gw.up]) == [0x80, 0x80]
        assert await gw.subscribe([f"$oc/devices/{GATEWAY}/sys/commands/{'a' * 5}"]) == [0x80]
