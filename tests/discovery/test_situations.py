"""Each source has a test of each situation: a new one without them fails here.

A device of a program that was not written here is found, and stays one child when it is renamed,
renumbered and restarted; and a flood of the source delays no other and breaks no bound.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

from gatewayd.plugins import DISCOVERERS
from tools.config_sample import ours

TESTS = Path(__file__).parents[1]
NO_NAME = "it shows no name"
"""Why there is no such test."""
CONTRACT = "SourceContract"


@dataclass(frozen=True, slots=True)
class SourceTests:
    """The tests of a source, as FILE::NAME.  flood: the file where its contract is."""

    flood: str
    renamed: str
    renumbered: str = ""
    restarted: str = ""

    def by_situation(self) -> dict[str, str]:
        """Return the test of each situation; by default that of a new name has all of them."""
        return {
            "renamed": self.renamed,
            "renumbered": self.renumbered or self.renamed,
            "restarted": self.restarted or self.renamed,
        }


def _peers(kind: str, name: str, flood: str = "") -> SourceTests:
    file = f"discovery/peers/test_{kind}.py"
    return SourceTests(flood or file, f"{file}::{name}")


SAME_CHILD = "test_a_name_an_address_and_a_restart_leave_it_the_same_child"
NEIGHBOURS = "discovery/kernel/test_neighbour_source.py"
BIRTHS = "discovery/births/test_at_a_broker.py"
HOME_ASSISTANT = "test_a_device_of_home_assistant_stays_one_child_renamed_and_restarted"
PLUG = "test_a_device_that_is_renamed_renumbered_and_restarted_stays_one"
SOURCES = {
    "bacnet": _peers("bacnet", SAME_CHILD),
    "coap": _peers(
        "coap", "test_endpoints_of_a_directory_stay_children_renamed_restarted_and_elsewhere"
    ),
    "dhcp-leases": _peers(
        "dhcp_leases", "test_a_renamed_renumbered_and_restarted_client_stays_one",
        "discovery/leases/test_discoverer.py",
    ),
    "ethernet-ip": _peers(
        "ethernet_ip", "test_a_controller_stays_one_child_renamed_restarted_and_elsewhere"
    ),
    "knx": _peers("knx", "test_a_router_stays_one_child_renamed_restarted_and_elsewhere"),
    "lldp": _peers(
        "lldp", "test_a_renamed_renumbered_and_restarted_switch_stays_one",
        "discovery/protocols/test_lldp.py",
    ),
    "mdns": SourceTests(
        "discovery/mdns/test_discoverer.py",
        "integration/test_identity.py::test_a_device_that_is_renamed_stays_the_child_it_is",
    ),
    "modbus": _peers(
        "modbus", "test_a_meter_stays_one_child_renamed_restarted_and_elsewhere",
        "discovery/polled/test_modbus.py",
    ),
    "mqtt-births": SourceTests(
        BIRTHS, f"discovery/peers/test_mqtt_births.py::{HOME_ASSISTANT}", f"{BIRTHS}::{PLUG}"
    ),
    "neighbours": SourceTests(
        NEIGHBOURS, NO_NAME,
        *[f"{NEIGHBOURS}::test_a_neighbour_that_is_renumbered_and_restarted_stays_the_same"] * 2,
    ),
    "opc-ua": _peers(
        "opc_ua", "test_a_server_stays_one_child_renamed_restarted_and_elsewhere",
        "discovery/polled/test_opc_ua.py",
    ),
    "profinet": _peers("profinet", SAME_CHILD),
    "snmp": _peers(
        "snmp", "test_a_switch_stays_one_child_renamed_restarted_and_elsewhere",
        "discovery/polled/test_snmp.py",
    ),
    "ssdp": _peers("ssdp", SAME_CHILD),
    "ws-discovery": _peers("ws_discovery", SAME_CHILD),
}  # fmt: skip
NOT_OF_THE_LAN = {"static"}


def test_each_source_is_listed() -> None:
    assert set(SOURCES) | NOT_OF_THE_LAN == set(ours().names(DISCOVERERS))


@pytest.mark.parametrize("source", SOURCES)
def test_each_situation_has_a_test(source: str) -> None:
    for situation, test in SOURCES[source].by_situation().items():
        if test != NO_NAME:
            file, _, name = test.partition("::")
            assert name in _functions(file), f"{situation}: {test}"


@pytest.mark.parametrize("source", SOURCES)
def test_each_source_obeys_the_contract_of_sources(source: str) -> None:
    made = ast.parse((TESTS / SOURCES[source].flood).read_text())
    bases = [one.bases for one in made.body if isinstance(one, ast.ClassDef)]
    assert any(isinstance(base, ast.Name) and base.id == CONTRACT for of in bases for base in of)


def _functions(file: str) -> set[str]:
    made = ast.parse((TESTS / file).read_text())
    return {
        one.name for one in made.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
    }
