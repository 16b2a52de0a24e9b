"""What the cloud keeps for a device that is offline: messages of QoS 1, where settings want it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatewayd.device.command import ChildCommand, CommandAnswer, CommandOutcome
from gatewayd.device.secret import Secret
from gatewayd.simulator.alibaba.cloud import AlibabaCloud
from gatewayd.testing.waiting import until
from tests.cloud.alibaba import direct, site
from tests.cloud.alibaba.site import child
from tests.cloud.alibaba.speaking import directly
from tests.cloud.commanded import ObedientChild

pytestmark = pytest.mark.integration


def done(_: ChildCommand) -> CommandAnswer:
    return CommandAnswer(CommandOutcome.DONE)


def publish(cloud: AlibabaCloud, own: tuple[str, str], text: str, qos: int = 1) -> bool:
    """Publish to a device; return whether the cloud has sent or kept it."""
    try:
        cloud.publish(*own, "user/get", text.encode(), qos)
    except ConnectionError:
        return False
    return True


@pytest.mark.parametrize("clean", [False, True])
async def test_what_was_kept_comes_to_a_device_that_is_back(tmp_path: Path, *, clean: bool) -> None:
    """A message of QoS 0 is kept by no session, and one of QoS 1 by none that is clean."""
    async with directly(direct.furnish(tmp_path), clean_session=clean) as one:
        own = (one.name.product, one.name.device)
        await until(lambda: one.cloud.subscribes(*own, f"/{own[0]}/{own[1]}/user/get"))
        await one.session.close()
        await until(lambda: not one.cloud._service.links)
        assert not publish(one.cloud, own, "lost", 0)
        assert publish(one.cloud, own, "first") is not clean
        assert publish(one.cloud, own, "second") is not clean
        secret = one.cloud.secret(*own)
        assert secret is not None
        session = await one.provider.connect(one.name, Secret(secret.encode()))
        back = ObedientChild(session, done)
        await until(lambda: publish(one.cloud, own, "now"))
        wanted = ["now"] if clean else ["first", "second", "now"]
        await until(lambda: len(back.received) >= len(wanted))
        assert [command.payload.decode() for command in back.received][: len(wanted)] == wanted
        await session.close()


@pytest.mark.parametrize("clean", [False, True])
async def test_what_was_kept_comes_to_a_child_behind_the_gateway(
    tmp_path: Path, *, clean: bool
) -> None:
    """Its own login says whether its session is clean, and the gateway's connection may go."""
    async with site.site(site.furnish(tmp_path), clean_session=clean) as one:
        own = (child(0).product, child(0).device)
        secret = await one.secret(child(0))
        first = ObedientChild(await one.connect(child(0), secret), done)
        await until(lambda: one.cloud.subscribes(*own, f"/{own[0]}/{own[1]}/user/get"))
        await one.lose_link()
        await until(lambda: not one.cloud._service.links)
        assert publish(one.cloud, own, "kept") is not clean
        await one.log_in()
        back = ObedientChild(await one.connect(child(0), secret), done)
        await until(lambda: publish(one.cloud, own, "now"))
        wanted = ["now"] if clean else ["kept", "now"]
        await until(lambda: len(back.received) >= len(wanted))
        assert [command.payload.decode() for command in back.received][: len(wanted)] == wanted
        assert first.received == []
