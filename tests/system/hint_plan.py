"""How each command that we print is run on a booted gateway: the state it is for, and its words.

A command is planned by the words that it begins with, where CHILD is any child; the longest entry
counts.  A new command without an entry fails tests/test_hints.py, and one that does not end as it
should fails tests/system/test_hints.py, which runs them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from tests.support.hints import complaint, hints, of_the_system


class Stage(IntEnum):
    """What is so while a command runs, in this order."""

    SERVED = 1  # children are online, the broker runs, and two clouds are configured
    ASKED = 2  # as before, and the child was rejected before each command
    REJECTING = 3  # as at first
    STOPPED = 4  # no daemon runs
    LAST = 5  # the daemon runs again, and may be restarted


@dataclass(frozen=True, slots=True)
class Way:
    """How a command is run.

    fills: what stands for its words, beside SAMPLES.  typed: on a terminal, a line for each prompt.
    given: on the standard input; "WORDS" stands for those of the recovery key.
    refused: a pattern of what it says where it is refused, or a unit is not active, as nothing of
        the kind is there; "" where it must succeed.  endless: whether it goes on until Ctrl-C.
    """

    stage: Stage = Stage.SERVED
    fills: Mapping[str, str] = field(default_factory=dict)
    typed: Sequence[tuple[str, str]] = ()
    given: str = ""
    refused: str = ""
    endless: bool = False


SAMPLES: Mapping[str, str] = {
    "ID": "CHILD", "{}": "CHILD", "%s": "CHILD", "CLOUD": "huawei", "KEY": "credential",
    "SLOT": "SLOT", "WORD": "host", "CODE": "71547125-b4e7-4854-8600-85d92a401a33",
    "FILE": "/root/new-file", "TH20-0001A7": "CHILD",
    "east": "huawei", "cloud-name": "alibaba", "NAME": "gatewayd",
}  # fmt: skip
"""What stands for what an operator fills in; CHILD and SLOT are those of the gateway."""

STOPPED, LAST, ASKED = Stage.STOPPED, Stage.LAST, Stage.ASKED
NO_TPM = "TPM"
NO_SITE = "has no site on etcd"
NONE_FAILED = r"\A(?!(?s:.*)Active: failed)"
"""What is started or stopped just now is not active, and says so by its status."""
PLAN: Mapping[str, Way] = {
    # children
    "gatewayctl approve": Way(ASKED),
    "gatewayctl reject": Way(Stage.REJECTING),
    "gatewayctl forget": Way(LAST, typed=(("[y/N]", "y"),)),
    "gatewayctl forget CHILD --dormant": Way(refused="is not dormant at"),
    "gatewayctl move CHILD --cancel": Way(refused="is not moving"),
    "gatewayctl move CHILD --to": Way(  # no platform is there
        refused="is at cloud alibaba already|No cloud|cannot be used now"),
    "gatewayctl move --list": Way(),
    "gatewayctl move --rule": Way(refused="has admitted no child"),
    "gatewayctl explain": Way(),
    "gatewayctl list": Way(),
    "gatewayctl watch": Way(endless=True),
    "gatewayctl log": Way(),
    "gatewayctl dump": Way(),
    "gatewayctl metrics": Way(refused="No metrics are written"),  # by default
    "gatewayctl top": Way(),
    "gatewayctl retry": Way(refused="not failed or waiting"),
    "gatewayctl reregister": Way(refused="not registered or failed"),
    "gatewayctl permit-join": Way(),
    "gatewayctl discover": Way(),
    "gatewayctl repin": Way(refused="has shown no other key"),
    "gatewayctl split": Way(refused="shows nothing that another shows"),
    "gatewayctl merge": Way(refused="Nothing identifies|one device already"),
    "gatewayctl reload": Way(),
    "gatewayctl credential": Way(refused="not handed over"),
    "gatewayctl messages": Way(),
    "gatewayctl messages --watch": Way(endless=True),
    "gatewayctl messages --follow": Way(endless=True),
    # rules
    "gatewayctl rules list": Way(),
    "gatewayctl rules check": Way(),
    "gatewayctl rules suggest": Way(refused="--provider"),  # where there are two clouds
    "gatewayctl rules test": Way(fills={"FILE": "/root/sightings"}),
    # clouds
    "gatewayctl clouds": Way(),
    "gatewayctl preflight": Way(fills={"NAME": "huawei"}, refused="failed"),  # no platform is there
    "gatewayctl preflight plant": Way(refused="'plant' is not configured"),  # of another page
    "gatewayctl broker-config": Way(refused="No cloud of the kind"),
    "gatewayctl ca make": Way(refused="--replace"),
    "gatewayctl ca make --cloud": Way(fills={"{}": "huawei"}, refused="--replace"),
    "gatewayctl ca make --replace": Way(),
    "gatewayctl console alibaba": Way(refused="Use --region|access key cannot be read"),
    "gatewayctl console huawei prepare": Way(refused="Use --region|access key cannot be read"),
    "gatewayctl huawei ca prove": Way(),
    "gatewayctl huawei ca prove --cloud": Way(fills={"{}": "huawei"}),
    "gatewayctl ca show": Way(),
    "gatewayctl ca revoked --cloud": Way(fills={"{}": "huawei"}),
    "gatewayctl ca make --cloud plant": Way(refused="no such cloud"),  # of another page
    "gatewayctl ca revoked --cloud plant": Way(refused="no such cloud"),
    "gatewayctl ca renew": Way(refused="does not belong to this cloud"),
    "gatewayctl ca import": Way(refused="cannot be read"),
    "gatewayctl certificate import": Way(refused="Name the file|cannot be read"),
    "gatewayctl certificate remove": Way(refused="Name the device|No certificate was imported"),
    "gatewayctl certificate remove --cloud": Way(
        fills={"%s": "huawei"}, refused="No certificate was imported"),
    "gatewayctl huawei template lint": Way(fills={"FILE": "/root/template.json"}),
    "gatewayctl huawei template new": Way(
        typed=(("Product ID", "6742bf260f2f9030e44210d8"), ("node ID", "common_name"),
               ("name", ""), ("Tag", ""), ("policy", ""), ("Name", ""))),
    "gatewayctl huawei template new --product": Way(),
    # the broker
    "gatewayctl door authority": Way(),
    "gatewayctl door certificate": Way(fills={"request.pem": "/root/request.pem"}),
    "gatewayctl door password": Way(fills={"password": "/root/new-file"}),
    "gatewayctl door program": Way(),
    # a site: this gateway has none on etcd
    "gatewayctl site status": Way(),
    "gatewayctl site found": Way(refused=NO_SITE),
    "gatewayctl site join": Way(refused=NO_SITE),
    "gatewayctl site accept": Way(refused=NO_SITE),
    "gatewayctl site drain": Way(refused=NO_SITE),
    "gatewayctl site resume": Way(refused=NO_SITE),
    "gatewayctl site remove": Way(refused="Use --yes"),
    "gatewayctl site owner": Way(),
    # setup, and the store
    "gatewayctl setup": Way(  # it would show children arriving for a minute
        typed=(("Which is to change", ""), ("Secrets: ", "")), endless=True),
    "gatewayctl setup --answers": Way(fills={"FILE": "/root/answers.toml"}),
    "gatewayctl store status": Way(),
    "gatewayctl store reseal": Way(),
    "gatewayctl store accept-rollback": Way(),
    "gatewayctl store accept-machine": Way(),
    "gatewayctl vault add-recovery": Way(),
    # the vault of a stopped gateway
    "gatewayctl vault status": Way(STOPPED),
    "gatewayctl vault make-key": Way(STOPPED),
    "gatewayctl vault init": Way(STOPPED, typed=(("File with the public key", ""),)),
    "gatewayctl vault init --protect": Way(STOPPED, typed=(("File with the public key", ""),)),
    "gatewayctl vault rotate": Way(STOPPED),
    "gatewayctl vault reseal": Way(STOPPED, fills={"{}": "credential"}),
    "gatewayctl vault reseal tpm2": Way(STOPPED, refused=NO_TPM),
    "gatewayctl vault reseal credential --protect host+tpm2": Way(STOPPED, refused=NO_TPM),
    "gatewayctl vault remove-slot": Way(STOPPED, fills={"{}": "SLOT"}),
    "gatewayctl vault recover": Way(STOPPED, given="WORDS"),
    "gatewayctl vault accept": Way(STOPPED),
    "gatewayctl vault accept-machine": Way(STOPPED),
    "gatewayd --check-config": Way(fills={"try.toml": "/srv/try.toml"}),
    # the system
    "systemctl status": Way(LAST),
    "systemctl status gatewayd-broker": Way(LAST, refused=NONE_FAILED),
    "systemctl start gatewayd": Way(LAST),
    "systemctl stop gatewayd": Way(LAST),
    "systemctl restart gatewayd": Way(LAST),
    "systemctl daemon-reload": Way(LAST),
    "busctl call": Way(LAST, refused="not pending"),
    "busctl introspect": Way(LAST),
    "busctl status": Way(LAST, fills={"NAME": "org.gatewayd1"}),
    "journalctl": Way(LAST),
}  # fmt: skip


def entry_of(words: Sequence[str]) -> str:
    """Return the entry by which a command is planned; "" for none."""
    line = " ".join("CHILD" if SAMPLES.get(word) == "CHILD" else word for word in words)
    return max((start for start in PLAN if f"{line} ".startswith(f"{start} ")), key=len, default="")


def filled(words: Sequence[str], way: Way, child: str, slot: str) -> list[str]:
    """Return a command with what stands for what an operator fills in."""
    own = {"CHILD": child, "SLOT": slot}
    entry = entry_of(words).split()
    name = [child if word == "CHILD" else word for word in entry]  # the rest of the command stays
    found = (way.fills.get(word, SAMPLES.get(word, word)) for word in words[len(entry) :])
    values = (own.get(word, child if word.startswith("child-") else word) for word in found)
    return [*name, *values]


def to_run() -> list[tuple[str, ...]]:
    """Return every command that is printed, once; a name of a command in a sentence is none."""
    ours = {hint.words for hint in hints() if not complaint(hint)}
    return sorted(ours | {hint.words for hint in of_the_system()})
