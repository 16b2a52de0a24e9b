"""Who a sighting is of: the cases that made the rules, then the laws."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gatewayd.device.identity import (
    NO_DEVICE,
    Claim,
    DeviceId,
    claim,
    consistent,
    contradict,
    device_id,
    key_of,
)
from gatewayd.discovery import common_claims
from gatewayd.discovery import resolver as resolver_module
from gatewayd.discovery.common_claims import MAX_WITNESSES, CommonClaims
from gatewayd.discovery.resolver import (
    IDENTITY_CONFLICT,
    MAX_CLAIMS,
    MAX_ORIGINS,
    MOVED_OR_CLONED,
    KnownDevice,
    Resolved,
    Resolver,
)

MAC = "00:11:22:33:44:77"
OTHER_MAC = "00:11:22:33:44:66"


def claims(*texts: str) -> frozenset[Claim]:
    """Make claims of "kind namespace value"; those that identify nothing are left out."""
    made = (claim(*text.split(" ", 2)) for text in texts)
    return frozenset(one for one in made if one is not None)


def see(resolver: Resolver, origin: str, *texts: str, rank: int = 0) -> Resolved:
    source, _, key = origin.partition(" ")
    return resolver.resolve((source, key), claims(*texts), rank=rank)


@pytest.fixture
def resolver() -> Resolver:
    return Resolver()


def test_a_bridge_seen_in_two_ways_is_one_once_the_kernel_has_seen_its_mac(
    resolver: Resolver,
) -> None:
    hue = ("mac hue ec:b5:fa:ff:fe:12:34:56", "serial hue ecb5fafffe123456")
    mac = "mac l2 ec:b5:fa:12:34:56"
    ssdp = see(resolver, "ssdp 2f40", "uuid upnp uuid:2f402f80-da50", mac)
    mdns = see(resolver, "mdns hue", *hue)
    lease = see(resolver, "leases 10.0.0.5", "mac l2 EC-B5-FA-12-34-56")
    assert mdns.device != ssdp.device == lease.device
    joined = see(resolver, "mdns hue", *hue, mac)
    assert joined == Resolved(ssdp.device, merged=(mdns.device,))
    assert len(resolver) == 1


UUID = "2f402f80-da50-11e1-9b23-ecb5fa123456"


@pytest.mark.parametrize(
    "shown",
    [
        (f"uuid _ipp._tcp {UUID}", f"uuid _uscan._tcp urn:uuid:{UUID.upper()}"),
        (f"uuid _ipp._tcp {UUID}", f"uuid _uscan._tcp {UUID.replace('-', '')}"),
        (f"mac _ipp._tcp {MAC}", f"mac _uscan._tcp {MAC.replace(':', '')}"),
    ],
)
def test_what_is_universal_is_one_device_under_all_services(
    resolver: Resolver, shown: tuple[str, str]
) -> None:
    first, second = (see(resolver, f"mdns {n}", text) for n, text in enumerate(shown))
    assert first.device == second.device
    other = Resolver()  # after a restart, in another order
    assert see(other, "mdns 1", shown[1]).device == first.device


def test_a_local_mac_and_a_serial_mean_something_in_their_namespace_only(
    resolver: Resolver,
) -> None:
    for text in ("mac {} 02:11:22:33:44:55", "serial {} A-1", "uuid {} short"):
        seen = [see(resolver, f"mdns {text}{ns}", text.format(ns)) for ns in "ab"]
        assert seen[0].device != seen[1].device


def test_one_uuid_with_two_serials_is_a_conflict(resolver: Resolver) -> None:
    resolver.add_known(DeviceId("child-1"), claims("serial pm s", f"uuid pm {UUID}"))
    forged = see(resolver, "mdns x", "serial pm t", f"uuid upnp {UUID}")
    assert forged.device != DeviceId("child-1")
    assert (forged.conflict, forged.rivals) == (IDENTITY_CONFLICT, (DeviceId("child-1"),))


def test_what_is_held_in_two_namespaces_is_found_until_the_last_is_gone(
    resolver: Resolver,
) -> None:
    child = DeviceId("child-1")
    resolver.add_known(child, claims(f"uuid a {UUID}", f"uuid b {UUID}"))
    resolver.add_known(child, claims("uuid a 3f402f80-da50-11e1-9b23-ecb5fa123456"))
    assert see(resolver, "mdns x", f"uuid c {UUID}").device == child
    resolver.forget(child)
    assert see(resolver, "mdns x", f"uuid c {UUID}").device != child


def test_six_sensors_behind_one_mac_stay_six(resolver: Resolver) -> None:
    for _ in range(2):
        seen = [see(resolver, f"mqtt {n}", f"serial z2m s{n}", f"mac l2 {MAC}") for n in range(6)]
        assert len({one.device for one in seen}) == 6
        assert {one.conflict for one in seen} == {""}


def test_a_mac_that_two_share_distinguishes_neither(resolver: Resolver) -> None:
    one = see(resolver, "mqtt 1", "serial z2m 1", f"mac l2 {MAC}")
    two = see(resolver, "mqtt 2", "serial z2m 2", f"mac l2 {MAC}")
    bridge = see(resolver, "leases 10.0.0.2", f"mac l2 {MAC}")
    assert len({one.device, two.device, bridge.device}) == 3
    assert see(resolver, "mqtt 3", "uuid other 3", f"mac l2 {MAC}").merged == ()


def test_a_shared_mac_is_remembered_when_one_behind_it_is_forgotten(resolver: Resolver) -> None:
    one = see(resolver, "mqtt 1", "serial z2m 1", f"mac l2 {MAC}").device
    two = see(resolver, "mqtt 2", "serial z2m 2", f"mac l2 {MAC}").device
    see(resolver, "leases 10.0.0.2", f"mac l2 {MAC}")
    resolver.forget(one)
    assert see(resolver, "leases 10.0.0.2", f"mac l2 {MAC}").device != two


def test_a_mac_in_front_of_four_admitted_children_links_none(resolver: Resolver) -> None:
    for n in range(4):
        resolver.add_known(DeviceId(f"child-{n}"), claims(f"serial ns{n} s{n}", f"mac l2 {MAC}"))
    assert see(resolver, "mdns 1", "serial ns1 s1", f"mac l2 {MAC}").conflict == ""
    assert see(resolver, "mdns x", f"mac l2 {MAC}").device not in {f"child-{n}" for n in range(4)}


def test_hundreds_behind_one_bridge_have_not_moved(resolver: Resolver) -> None:
    for n in range(200):
        assert see(resolver, f"mqtt {n}", f"serial z s{n}", f"mac l2 {MAC}").conflict == ""
        assert see(resolver, f"mqtt {n}", f"serial z s{n}", f"mac l2 {MAC}").conflict == ""


def test_a_placeholder_serial_makes_no_identity(resolver: Resolver) -> None:
    one = see(resolver, "modbus 10.0.0.9", "serial pm 12345678")
    two = see(resolver, "modbus 10.0.0.10", "serial pm 12345678")
    assert one.device != two.device


def test_a_renamed_instance_with_the_same_serial_stays_one(resolver: Resolver) -> None:
    before = see(resolver, "mdns kitchen", "serial pm A1", f"mac l2 {MAC}")
    after = see(resolver, "mdns bathroom", "serial pm A1", f"mac l2 {MAC}")
    assert after == Resolved(before.device)


def test_another_serial_under_the_same_name_is_another_device(resolver: Resolver) -> None:
    before = see(resolver, "mdns pm", "serial pm A1", f"mac l2 {MAC}")
    after = see(resolver, "mdns pm", "serial pm A2", f"mac l2 {OTHER_MAC}")
    assert after.device != before.device
    assert after.displaced == before.device
    assert see(resolver, "mdns pm", "serial pm A1").device == before.device


def test_an_address_carries_no_identity_to_another_device(resolver: Resolver) -> None:
    before = see(resolver, "modbus 10.0.0.9", f"mac l2 {MAC}")
    after = see(resolver, "modbus 10.0.0.9", f"mac l2 {OTHER_MAC}")
    assert (after.displaced, after.device != before.device) == (before.device, True)
    strangers = see(resolver, "modbus 10.0.0.9", "serial other X9", f"mac l2 {OTHER_MAC}")
    assert strangers.device == after.device


def test_a_known_serial_from_another_kernel_mac_has_moved_or_was_cloned(
    resolver: Resolver,
) -> None:
    child = DeviceId("child-1")
    resolver.add_known(child, claims("serial pm A1", f"mac l2 {MAC}"))
    for _ in range(3):
        moved = see(resolver, "mdns pm", "serial pm A1", f"mac l2 {OTHER_MAC}")
        assert moved == Resolved(child, conflict=MOVED_OR_CLONED)
    assert see(resolver, "mdns pm", "serial pm A1", f"mac l2 {MAC}").conflict == ""
    resolver.add_known(child, claims("serial pm A1", f"mac l2 {MAC}", f"mac l2 {OTHER_MAC}"))
    assert see(resolver, "mdns pm", "serial pm A1", f"mac l2 {OTHER_MAC}").conflict == ""


def test_a_mac_in_question_is_not_taken_for_the_devices_own(resolver: Resolver) -> None:
    see(resolver, "mdns pm", "serial pm A1", f"mac l2 {MAC}")
    child = see(resolver, "mdns pm", "serial pm A1", f"mac l2 {OTHER_MAC}").device
    assert see(resolver, "leases x", f"mac l2 {OTHER_MAC}").device != child


def test_two_admitted_children_are_never_merged(resolver: Resolver) -> None:
    one, two = DeviceId("child-1"), DeviceId("child-2")
    resolver.add_known(one, claims("serial a 1"))
    resolver.add_known(two, claims("uuid b 2"))
    linked = see(resolver, "mdns x", "serial a 1", "uuid b 2")
    assert (linked.merged, linked.conflict) == ((), IDENTITY_CONFLICT)
    assert {linked.device, *linked.rivals} == {one, two}
    assert see(resolver, "mdns y", "uuid b 2") == Resolved(two)
    assert see(resolver, "mdns z", "serial a 1") == Resolved(one)


def test_two_admitted_children_that_a_mac_links_conflict_too(resolver: Resolver) -> None:
    resolver.add_known(DeviceId("child-1"), claims(f"mac l2 {MAC}"))
    resolver.add_known(DeviceId("child-2"), claims(f"mac txt {MAC}"))
    linked = see(resolver, "mdns x", f"mac l2 {MAC}", f"mac txt {MAC}")
    assert linked == Resolved(
        DeviceId("child-1"), conflict=IDENTITY_CONFLICT, rivals=(DeviceId("child-2"),)
    )


def test_an_admitted_child_takes_in_a_stranger_that_is_itself(resolver: Resolver) -> None:
    stranger = see(resolver, "ssdp 2", "uuid b 2").device
    resolver.add_known(DeviceId("child-1"), claims("serial a 1"))
    linked = see(resolver, "mdns x", "serial a 1", "uuid b 2")
    assert linked == Resolved(DeviceId("child-1"), merged=(stranger,))


def test_a_device_that_contradicts_a_child_conflicts_with_it(resolver: Resolver) -> None:
    child = DeviceId("child-1")
    resolver.add_known(child, claims("serial pm A1", "uuid upnp u1"))
    forged = see(resolver, "mdns x", "serial pm A1", "uuid upnp u2")
    assert forged.device != child
    assert (forged.conflict, forged.rivals) == (IDENTITY_CONFLICT, (child,))
    assert see(resolver, "mdns y", "serial pm A1") == Resolved(child)


def test_a_sighting_that_contradicts_itself_proves_nothing(resolver: Resolver) -> None:
    see(resolver, "mdns x", "serial pm A1", "serial pm A2")
    assert len(resolver) == 1
    assert see(resolver, "mdns y", "serial pm A1").merged == ()
    assert len(resolver) == 2


def test_a_device_without_strong_claims_is_its_place(resolver: Resolver) -> None:
    first = see(resolver, "mdns lamp", "name mdns lamp").device
    assert see(resolver, "mdns lamp2", "name mdns lamp").device != first
    again = Resolver()
    again.add_known(first, frozenset())
    assert see(again, "mdns lamp") == Resolved(first)
    assert see(again, "mdns lamp", "serial pm A1") == Resolved(first), "it learns, and stays"
    assert see(again, "mdns moved", "serial pm A1") == Resolved(first)


def test_a_weak_device_that_shows_its_mac_is_known_by_it_after_a_restart(
    resolver: Resolver,
) -> None:
    child = see(resolver, "mdns lamp").device
    see(resolver, "mdns lamp", f"mac l2 {MAC}")
    again = Resolver()
    again.add_known(child, resolver.claims(child))
    assert see(again, "mdns lamp") == Resolved(child), "the neighbour table is still empty"
    impostor = see(again, "mdns lamp", f"mac l2 {OTHER_MAC}")
    assert (impostor.device != child, impostor.displaced) == (True, child)


def test_a_locally_administered_mac_never_merges(resolver: Resolver) -> None:
    one = see(resolver, "mdns a", "mac l2 02:11:22:33:44:55").device
    assert see(resolver, "mdns b", "mac l2 02:11:22:33:44:55").device != one


def test_an_id_that_is_taken_gets_more_digits(resolver: Resolver) -> None:
    taken = device_id(claims("serial pm A1"), "")
    resolver.add_known(taken, claims("serial pm B2"))
    made = see(resolver, "mdns x", "serial pm A1").device
    assert made != taken
    assert made == device_id(claims("serial pm A1"), "", digits=20)


def test_ids_never_run_out(resolver: Resolver) -> None:
    resolver.add_known(DeviceId("child-1"), claims("serial pm s", "uuid upnp u1"))
    resolver.add_known(DeviceId("child-2"), claims("serial pm t", "uuid upnp u"))
    made = set()
    for n in range(20):
        made.add(see(resolver, "mdns x", "serial pm s", "uuid upnp u").device)
        see(resolver, "mdns x", f"cert x c{n}")
        see(resolver, "mdns x", f"cert x d{n}")
    assert len(made) == 20


def test_a_weak_device_behind_another_mac_merges_with_none(resolver: Resolver) -> None:
    lamp = see(resolver, "mdns lamp", "mac l2 02:00:00:00:00:01").device
    other = see(resolver, "ssdp tv", f"mac l2 {MAC}", f"mac txt {MAC}").device
    assert see(resolver, "mdns lamp", f"mac l2 {MAC}") == Resolved(other, displaced=lamp)


def test_one_that_contradicts_all_it_resembles_stays_one(resolver: Resolver) -> None:
    see(resolver, "mdns 1", "serial p 1", "serial q 2")
    see(resolver, "mdns 2", "serial p 2", "serial q 1")
    between = ("serial p 1", "serial q 1", "mac l2 02:00:00:00:00:01")
    made = {see(resolver, "mdns x", *between).device for _ in range(3)}
    assert len(made) == 1
    assert len(resolver) == 3


def test_ids_are_the_same_after_a_restart() -> None:
    assert see(Resolver(), "mdns x", "serial pm A1") == see(Resolver(), "ssdp y", "serial pm A1")


def test_the_least_trusted_oldest_goes_first_and_never_a_pinned_one() -> None:
    resolver = Resolver(limit=2)
    resolver.add_known(DeviceId("child-1"), claims("serial pm 1"))
    proven = see(resolver, "mdns 2", "serial pm 2", rank=2).device
    see(resolver, "mdns 3", "serial pm 3")
    third = see(resolver, "mdns 3", "serial pm 3").device
    assert see(resolver, "mdns 4", "serial pm 4", rank=1).evicted == (third,)
    low = see(resolver, "mdns 5", "serial pm 5")
    assert low.evicted == (low.device,)
    assert resolver.claims(proven)
    assert resolver.is_pinned(DeviceId("child-1"))


def test_listed_devices_take_no_room_from_others_and_leave_for_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resolver_module, "MAX_LISTED", 3)
    resolver, gone = Resolver(limit=2), list[DeviceId]()
    devices = []
    for n in range(4):
        said = claims(f"serial pm P{n}")
        resolved = resolver.resolve(("static", f"{n}"), said, rank=4, listed=True)
        devices.append(resolved.device)
        gone += resolved.evicted
    assert gone == devices[:1]
    for n in range(3):
        gone += see(resolver, f"mdns {n}", f"serial f F{n}", rank=7).evicted
    assert len(resolver) == 3 + 2
    assert not set(gone) & set(devices[1:])
    see(resolver, "mdns 3", "serial pm P3")  # what the LAN says of it leaves it listed
    resolver.add_known(devices[3], claims("serial pm P3"))
    resolver.unpin(devices[3])
    assert len(resolver) == 3 + 2


def test_what_was_once_proven_is_not_thrown_out_for_a_forged_word_of_it() -> None:
    resolver = Resolver(limit=1)
    proven = see(resolver, "mdns a", "serial pm 1", rank=2).device
    see(resolver, "mdns a", "serial pm 1", rank=0)
    stranger = see(resolver, "mdns b", "serial pm 2", rank=1)
    assert stranger.evicted == (stranger.device,)
    assert resolver.claims(proven)


def test_what_is_unpinned_may_go() -> None:
    resolver = Resolver(limit=1)
    child = DeviceId("child-1")
    resolver.add_known(child, claims("serial pm 1"))
    see(resolver, "mdns 1", "serial pm 1")
    resolver.unpin(child)
    assert see(resolver, "ssdp 2", "serial pm 2").evicted == (), "each source has room of its own"
    assert see(resolver, "mdns 3", "serial pm 3").evicted == (child,)


def test_what_one_device_makes_us_remember_is_bounded(resolver: Resolver) -> None:
    device = see(resolver, "mdns x", "serial pm A1").device
    for n in range(1000):
        see(
            resolver,
            f"mdns {n}",
            "serial pm A1",
            f"uuid upnp-{n} u{n}",
        )
    assert len(resolver) == 1
    assert len(resolver.claims(device)) <= MAX_CLAIMS
    assert len(resolver._bound) <= MAX_ORIGINS


def test_approved_claims_end_older_ones_that_contradict_them(resolver: Resolver) -> None:
    device = see(resolver, "mdns x", "serial pm A1").device
    resolver.add_known(device, claims("serial pm A2"))
    assert resolver.claims(device) == claims("serial pm A2")


def test_one_serial_with_two_macs_is_two_devices_in_conflict(resolver: Resolver) -> None:
    one = see(resolver, "mdns 1", "serial pm S", f"mac pm {MAC}")
    for _ in range(2):
        two = see(resolver, "mdns 2", "serial pm S", f"mac pm {OTHER_MAC}")
        assert two == Resolved(two.device, conflict=IDENTITY_CONFLICT, rivals=(one.device,))
        assert two.device != one.device
        assert see(resolver, "mdns 1", "serial pm S", f"mac pm {MAC}") == one


@pytest.mark.parametrize(
    ("shown", "also"),
    [
        ((f"mac pm {MAC}", f"mac pm {OTHER_MAC}"), (f"mac pm {OTHER_MAC}",)),
        ((f"mac pm {MAC}", f"uuid pm {UUID}"), (f"mac pm {OTHER_MAC}", f"uuid upnp {UUID}")),
        ((f"mac pm {MAC}", "cert x c1"), (f"mac pm {OTHER_MAC}", "cert x c1")),
        ((f"mac pm {MAC}",), (f"mac pm {OTHER_MAC}", f"mac l2 {MAC}")),
        ((f"mac pm {MAC}",), ("mac pm 02:11:22:33:44:66",)),
        ((), (f"mac pm {OTHER_MAC}",)),
    ],
)
def test_one_serial_is_one_device_if_something_else_shows_that(
    resolver: Resolver, shown: tuple[str, ...], also: tuple[str, ...]
) -> None:
    one = see(resolver, "mdns 1", "serial pm S", *shown)
    assert see(resolver, "mdns 2", "serial pm S", *also) == Resolved(one.device)
    assert see(resolver, "mdns 1", "serial pm S", *shown) == one


def test_two_behind_one_repeater_are_two(resolver: Resolver) -> None:
    repeater = "mac l2 00:11:22:33:44:99"
    one = see(resolver, "mdns 1", "serial pm S", f"mac pm {MAC}", repeater)
    two = see(resolver, "mdns 2", "serial pm S", f"mac pm {OTHER_MAC}", repeater)
    assert (two.conflict, two.rivals) == (IDENTITY_CONFLICT, (one.device,))


def test_two_in_conflict_are_one_once_one_sighting_shows_both_macs(resolver: Resolver) -> None:
    one = see(resolver, "mdns 1", "serial pm S", f"mac pm {MAC}").device
    two = see(resolver, "mdns 2", "serial pm S", f"mac pm {OTHER_MAC}").device
    both = see(resolver, "mdns 1", "serial pm S", f"mac pm {MAC}", f"mac pm {OTHER_MAC}")
    assert both == Resolved(one, merged=(two,))
    assert see(resolver, "mdns 2", "serial pm S", f"mac pm {OTHER_MAC}") == Resolved(one)


def test_an_admitted_child_is_neither_split_nor_merged_by_a_second_mac(resolver: Resolver) -> None:
    child = DeviceId("child-1")
    resolver.add_known(child, claims("serial pm S", f"mac pm {MAC}"))
    other = see(resolver, "mdns 1", "serial pm S", f"mac pm {OTHER_MAC}")
    assert (other.conflict, other.rivals) == (IDENTITY_CONFLICT, (child,))
    assert resolver.claims(child) == claims("serial pm S", f"mac pm {MAC}")
    assert see(resolver, "mdns 2", "serial pm S", f"mac pm {MAC}") == Resolved(child)


def macs(count: int) -> list[str]:
    return [f"mac pm 00:11:22:33:55:{n:02x}" for n in range(count)]


@pytest.mark.parametrize("shown", ["serial pm S", f"uuid pm {UUID[:-1]}"])
def test_what_several_devices_show_identifies_none(resolver: Resolver, shown: str) -> None:
    said = [(f"mdns {n}", shown, mac) for n, mac in enumerate(macs(5))]
    found = [see(resolver, *one) for one in said]
    assert found[2].common == tuple(claims(shown))
    assert len({one.device for one in found}) == 5
    for again, before in zip([see(resolver, *one) for one in said], found, strict=True):
        assert again == Resolved(before.device)
    assert all(claims(shown).isdisjoint(resolver.claims(one.device)) for one in found)


def test_what_is_on_record_of_a_child_keeps_its_meaning(resolver: Resolver) -> None:
    child = DeviceId("child-1")
    resolver.add_known(child, claims("serial pm S"))
    for n, mac in enumerate(macs(9)):
        see(resolver, f"mdns {n}", "serial pm S", mac)
    assert see(resolver, "mdns x", "serial pm S").device == child
    assert claims("serial pm S") <= resolver.claims(child)


def test_what_an_operator_lists_keeps_its_meaning(resolver: Resolver) -> None:
    listed = resolver.resolve(("static", "a"), claims("serial pm S"), listed=True).device
    for n, mac in enumerate(macs(9)):
        see(resolver, f"mdns {n}", "serial pm S", mac)
    assert see(resolver, "mdns x", "serial pm S").device == listed


def test_what_a_rule_lists_keeps_its_meaning_whoever_shows_it() -> None:
    listed = {"s"}
    resolver = Resolver(is_listed=lambda one: one.value in listed)
    said = [(f"mdns {n}", "serial pm S", mac) for n, mac in enumerate(macs(9))]
    found = [see(resolver, *one) for one in said]
    assert {one.common for one in found} == {()}
    assert {one.conflict for one in found[1:]} == {IDENTITY_CONFLICT}
    listed.clear()
    assert {see(resolver, *one).common for one in said} == {(), tuple(keys("serial pm S"))}
    assert {see(resolver, *one).conflict for one in said} == {""}
    listed.add("s")
    assert [see(resolver, *one).conflict for one in said] == ["", *[IDENTITY_CONFLICT] * 8]


def test_children_of_one_factory_serial_are_themselves_after_a_restart(
    resolver: Resolver,
) -> None:
    for kind in ("pm", "l2"):
        again = Resolver()
        said = [text.replace("pm", kind) for text in macs(3)]
        for n, mac in enumerate(said):
            again.add_known(DeviceId(f"child-{n}"), claims(mac))
        for _ in range(2):
            seen = [see(again, f"mdns {n}", "serial pm S", mac) for n, mac in enumerate(said)]
            assert [one.device for one in seen] == [f"child-{n}" for n in range(3)]
        assert {one.conflict for one in seen} == {""}


def test_the_kernels_macs_show_a_factory_serial_too(resolver: Resolver) -> None:
    said = [(f"mdns {n}", "serial pm S", mac.replace("pm", "l2")) for n, mac in enumerate(macs(4))]
    for one in said:
        see(resolver, *one)
    assert len({see(resolver, *one).device for one in said}) == 4
    assert {see(resolver, *one).conflict for one in said} == {""}


def test_a_device_that_moves_often_has_its_serial_for_itself(resolver: Resolver) -> None:
    child = see(resolver, "mdns a", "serial pm S").device
    for mac in macs(9):
        resolver.left(child, ("mdns", "a"))
        assert see(resolver, "mdns a", "serial pm S", mac.replace("pm", "l2")).device == child


def test_a_serial_is_that_of_the_last_one_that_shows_it(resolver: Resolver) -> None:
    said = [(f"mdns {n}", "serial pm S", mac) for n, mac in enumerate(macs(4))]
    found = [see(resolver, *one).device for one in said]
    for n in range(3):
        resolver.left(found[n], ("mdns", f"{n}"))
    see(resolver, *said[3])
    assert claims("serial pm S") <= resolver.claims(found[3])


def test_who_is_forgotten_or_gone_shows_nothing_wherever_it_was(resolver: Resolver) -> None:
    said = [(f"mdns {n}", "serial pm S", mac) for n, mac in enumerate(macs(4))]
    found = [see(resolver, *one).device for one in said]
    for n in range(2):
        see(resolver, f"mdns {n}", "serial pm other", "mac pm 00:11:22:33:66:00")
    resolver.forget(found[0])
    resolver.left(found[1], ("mdns", "elsewhere"), last=True)
    resolver.left(found[2], ("mdns", "2"))
    see(resolver, *said[3])
    assert claims("serial pm S") <= resolver.claims(found[3])


def test_a_stranger_that_has_left_disputes_nothing(resolver: Resolver) -> None:
    forged = see(resolver, "mdns 1", "serial pm S", f"mac pm {MAC}").device
    device = ("serial pm S", f"mac pm {OTHER_MAC}")
    assert see(resolver, "mdns 2", *device).rivals == (forged,)
    resolver.left(forged, ("mdns", "1"), last=True)
    found = see(resolver, "mdns 2", *device)
    assert found == Resolved(found.device)
    assert resolver.claims(found.device) == claims(*device)
    again = see(resolver, "mdns 1", "serial pm S", f"mac pm {MAC}")
    assert (again.device, again.rivals) == (forged, (found.device,)), "both are there"


@pytest.mark.parametrize("known", ["pinned", "listed", "answered"])
def test_a_child_that_has_left_and_what_an_operator_says_are_disputed_all_the_same(
    resolver: Resolver, known: str
) -> None:
    said = claims("serial pm S", f"mac pm {MAC}")
    child = resolver.resolve(("mdns", "1"), said, listed=known == "listed").device
    if known == "pinned":
        resolver.add_known(child, said)
    if known == "answered":
        resolver.answer(dict.fromkeys(keys("serial pm S"), child))
    resolver.left(child, ("mdns", "1"), last=True)
    other = see(resolver, "mdns 2", "serial pm S", f"mac pm {OTHER_MAC}")
    assert child in (other.device, *other.rivals)
    assert said <= resolver.claims(child)


def test_what_is_remembered_of_shared_serials_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(common_claims, "MAX_WITNESSED", 5)
    common = CommonClaims()
    for n in range(50):
        (key,) = keys(f"serial pm S{n}")
        for number in range(20):
            common.note(key, KnownDevice(DeviceId(f"child-{number}"), number), ("mdns", f"{n}"))
            common.learn(key)
    assert len(common._witnesses) == len(common._common) == 5
    assert max(map(len, common._witnesses.values())) == MAX_WITNESSES
    assert len(common._shown_at) <= 5 * MAX_WITNESSES
    assert key in common.keys
    for one in tuple(common._witnesses[key]):
        assert isinstance(one, KnownDevice)
        common.leave(one, ("mdns", "49"))
    assert key not in common.keys


def keys(*texts: str) -> list[Claim]:
    return [key_of(one) for one in claims(*texts)]


def test_what_an_operator_calls_a_default_identifies_none(resolver: Resolver) -> None:
    child = DeviceId("child-1")
    known = claims("serial pm S", f"mac pm {MAC}")
    resolver.add_known(child, known)
    other = see(resolver, "mdns 2", "serial pm S", f"mac pm {OTHER_MAC}").device
    resolver.answer(dict.fromkeys(keys("serial pm S"), NO_DEVICE))
    resolver.add_known(child, known)  # as after a restart
    assert see(resolver, "mdns 2", "serial pm S", f"mac pm {OTHER_MAC}") == Resolved(other)
    assert see(resolver, "mdns 1", "serial pm S", f"mac pm {MAC}") == Resolved(child)
    assert resolver.claims(child) == claims(f"mac pm {MAC}")
    resolver.answer(dict.fromkeys(keys("serial pm S"), None))
    resolver.add_known(child, known)
    assert see(resolver, "mdns 2", "serial pm S").device == child


def test_what_an_operator_calls_a_childs_own_is_so_whatever_contradicts_it(
    resolver: Resolver,
) -> None:
    child, said = DeviceId("child-1"), ("serial pm S", "uuid upnp u2", f"mac l2 {OTHER_MAC}")
    resolver.add_known(child, claims("serial pm S", "uuid upnp u1", f"mac l2 {MAC}"))
    other = see(resolver, "mdns 2", *said).device
    assert other != child
    resolver.forget(other)
    resolver.answer(dict.fromkeys(keys("uuid upnp u2", f"mac l2 {OTHER_MAC}"), child))
    for _ in range(2):
        assert see(resolver, "mdns 2", *said) == Resolved(child)
        assert see(resolver, "mdns 1", "uuid upnp u1", f"mac l2 {MAC}") == Resolved(child)
    assert resolver.recognises(("mdns", "x"), claims("uuid upnp u2"))
    again = Resolver()
    again.answer(dict.fromkeys(keys("uuid upnp u2"), child))
    assert see(again, "mdns 2", "uuid upnp u2").device == child, "before it is on record"


def test_two_answers_in_one_sighting_are_a_conflict(resolver: Resolver) -> None:
    one, two = DeviceId("child-1"), DeviceId("child-2")
    for child, text in ((one, "serial a 1"), (two, "uuid b 2")):
        resolver.add_known(child, claims(text))
        resolver.answer(dict.fromkeys(keys(text), child))
    found = see(resolver, "mdns x", "serial a 1", "uuid b 2")
    assert found.conflict == IDENTITY_CONFLICT
    assert {found.device, *found.rivals} == {one, two}


ORIGINS = st.tuples(st.sampled_from(["mdns", "ssdp"]), st.sampled_from("abcdef"))
CLAIMS = st.frozensets(
    st.sampled_from(
        sorted(
            claims(
                *(f"serial {ns} {value}" for ns in "pq" for value in "123"),
                *(f"uuid upnp u{value}" for value in "12"),
                *(f"mac {ns} 00:11:22:33:44:0{n}" for ns in ("l2", "txt") for n in range(3)),
                "mac l2 02:00:00:00:00:01", "name mdns lamp",
            )
        )
    ),
    max_size=4,
)  # fmt: skip
SIGHTINGS = st.lists(st.tuples(ORIGINS, CLAIMS), max_size=20)


@given(SIGHTINGS)
def test_the_same_sightings_in_the_same_order_are_resolved_alike(
    sightings: list[tuple[tuple[str, str], frozenset[Claim]]],
) -> None:
    one, two = Resolver(limit=3), Resolver(limit=3)
    for origin, said in sightings:
        backwards = frozenset(sorted(said, reverse=True))
        assert one.resolve(origin, said) == two.resolve(origin, backwards)


@given(st.permutations(sorted(claims("serial p 1", "uuid upnp u1", f"mac l2 {MAC}"))))
def test_one_device_is_found_in_whatever_order_its_evidence_comes(said: list[Claim]) -> None:
    resolver = Resolver()
    for one, two in combinations(said, 2):
        resolver.resolve(("mdns", f"{one}{two}"), [one, two])
    assert len(resolver) == 1


@given(CLAIMS)
def test_what_is_consistent_does_not_contradict_itself(said: frozenset[Claim]) -> None:
    kept = consistent(said)
    assert not contradict(kept, kept)
    assert set(kept) <= said


class Lan(RuleBasedStateMachine):
    """Any host sends anything, children are admitted and forgotten: the laws always hold."""

    def __init__(self) -> None:
        super().__init__()
        self.resolver = Resolver(limit=4)
        self.devices: set[DeviceId] = set()
        self.pinned: set[DeviceId] = set()

    @rule(origin=ORIGINS, said=CLAIMS, rank=st.integers(0, 3))
    def announce(self, origin: tuple[str, str], said: frozenset[Claim], rank: int) -> None:
        self._resolve(origin, said, rank)

    def _resolve(self, origin: tuple[str, str], said: frozenset[Claim], rank: int) -> DeviceId:
        resolved = self.resolver.resolve(origin, said, rank=rank)
        gone = {*resolved.merged, *resolved.evicted}
        assert not gone & self.pinned, "a pinned device is neither merged nor evicted"
        assert gone <= self.devices | {resolved.device}
        self.devices = (self.devices | {resolved.device}) - gone
        assert set(resolved.rivals) <= self.devices
        assert resolved.displaced is None or resolved.displaced in self.devices | gone
        return resolved.device

    @rule(origin=ORIGINS, said=CLAIMS)
    def repeat(self, origin: tuple[str, str], said: frozenset[Claim]) -> None:
        last = [self._resolve(origin, said, 3) for _ in range(4)]
        assert last[2] == last[3], "the same again and again is the same device"

    @rule(data=st.data())
    def pin(self, data: st.DataObject) -> None:
        if self.devices:
            device = data.draw(st.sampled_from(sorted(self.devices)))
            self.resolver.add_known(device, self.resolver.claims(device))
            self.pinned.add(device)

    @rule(said=CLAIMS, number=st.integers(0, 3))
    def add_known(self, said: frozenset[Claim], number: int) -> None:
        device = DeviceId(f"child-{number}")
        self.resolver.add_known(device, said)
        self.devices.add(device)
        self.pinned.add(device)

    @rule(said=CLAIMS, data=st.data())
    def answer(self, said: frozenset[Claim], data: st.DataObject) -> None:
        whose = data.draw(st.sampled_from([NO_DEVICE, None, *sorted(self.pinned)]))
        self.resolver.answer({key_of(one): whose for one in said})

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        if self.devices:
            device = data.draw(st.sampled_from(sorted(self.devices)))
            self.resolver.left(device, data.draw(ORIGINS))

    @rule(data=st.data())
    def let_go(self, data: st.DataObject) -> None:
        if self.pinned:
            device = data.draw(st.sampled_from(sorted(self.pinned)))
            self.resolver.forget(device)
            self.pinned.discard(device)
            self.devices.discard(device)

    @invariant()
    def no_device_has_two_serials_of_one_namespace(self) -> None:
        for device in self.devices:
            own = self.resolver.claims(device)
            assert not contradict(own, own)

    @invariant()
    def none_is_lost_and_none_is_too_many(self) -> None:
        assert len(self.resolver) == len(self.devices)
        sources = {source for source, _ in self.resolver._bound} | {""}
        assert len(self.devices - self.pinned) <= 4 * len(sources)
        assert all(self.resolver.is_pinned(device) for device in self.pinned)


TestLan = Lan.TestCase
TestLan.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
