"""Which tests are run with the newest libraries, too: those that import one by whatever way."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.importers import importers

TOP = Path(__file__).parent.parent
FILES = {
    "pyproject.toml": '[project.entry-points."toy.plugins"]\nsealed = "gatewayd.sealed:Sealed"\n',
    "gatewayd/__init__.py": "",
    "gatewayd/plain.py": "import json\n",
    "gatewayd/sealed.py": "from cryptography import x509\n",
    "gatewayd/lazy.py": "def seal():\n    from gatewayd import (\n        sealed,\n    )\n",
    "gatewayd/plugins.py": "from importlib import metadata\nfound = metadata.entry_points()\n",
    "gatewayd/tls/__init__.py": "import cryptography.x509 as x509\n",
    "gatewayd/tls/names.py": "",
    "tests/conftest.py": "import cryptography\n",
    "tests/ca/conftest.py": "from gatewayd.sealed import x509\n",
    "tests/ca/test_ca.py": "",
}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import json, cryptography\n", True),
        ("    import cryptography.x509 as x509\n", True),
        ("from gatewayd.sealed import Sealed\n", True),
        ("from gatewayd import plain, sealed\n", True),
        ("from gatewayd.lazy import seal\n", True),
        ("from gatewayd.tls.names import NAME\n", True),
        ("from gatewayd.plugins import found\n", True),
        ('COMMAND = ("python3", "-m", "gatewayd.sealed")\n', True),
        ('crypto = pytest.importorskip("cryptography")\n', True),
        ("from gatewayd.plain import json\n", False),
        ("from gatewayd import plain\n", False),
        ("import cryptographic\n", False),
        ("# cryptography is imported by others\n", False),
        ("from tests.test_it import itself\n", False),
    ],
)
def test_it_is_found_by_what_it_imports_in_turn(tmp_path: Path, text: str, *, found: bool) -> None:
    for name, content in {**FILES, "tests/test_it.py": text}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    tests = [tmp_path / "tests/test_it.py", tmp_path / "tests/ca/test_ca.py"]
    expected = [tests[1], *tests[:1]] if found else [tests[1]]
    assert importers(tmp_path, {"cryptography"}, tests) == expected


def test_of_these_tests_some_do() -> None:
    importing = [TOP / "tests/cloud/test_mqtt.py", TOP / "tests/test_plugins.py"]
    others = [TOP / "tests/network/test_http_head.py", TOP / "tests/discovery/test_queues.py"]
    assert importers(TOP, {"paho"}, [*importing, *others]) == importing
