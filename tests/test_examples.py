"""The examples of docs/how-to, each installed as a package, pass the contracts of their ports.

An example is copied first, so that nothing of this tree is in its way but gatewayd itself.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gatewayd.simulator.bus import PrivateBus
from gatewayd.simulator.site import POLICY, Site

TOP = Path(__file__).parent.parent
EXAMPLES = sorted(path for path in (TOP / "docs/examples").iterdir() if path.is_dir())
PAGES = {
    "gatewayd-devicefile": "add-a-discoverer",
    "gatewayd-jsonstore": "add-a-secret-store",
    "gatewayd-toycloud": "add-a-cloud",
}


WITH_A_TOY = """\
[gateway]
state_directory = "{directory}/state"
[bus]
address = "{bus}"
[discovery]
settle = 0
[secretstore.vault]
key = "development-file"
[cloud.toy]
kind = "toycloud"
host = "127.0.0.1"
port = {port}
products = ["meter"]
[[discovery.static.devices]]
key = "one"
serial = "PM-0001"
attributes = {{ "txt.serial" = "PM-0001" }}
"""
RULE = """\
[[rule]]
name = "meters"
match = { source = "static" }
extract = { serial = "txt.serial" }
action = "register"
provider = "toy"
product = "meter"
device_name = "{serial}"
"""


class InstalledExample:
    """An example, installed into a directory.

    packages: where it is installed.  tests: the directory of its tests, without its source.
    """

    def __init__(self, example: Path, directory: Path) -> None:
        self.tests, self.packages = directory / "tests", directory / "packages"
        source = directory / "source"
        shutil.copytree(example, source, ignore=shutil.ignore_patterns("__pycache__"))
        pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation")
        self._succeed(*pip, "--target", str(self.packages), str(source), cwd=directory)
        self.tests.mkdir()
        for name in ("pyproject.toml", *(path.name for path in source.glob("test_*.py"))):
            shutil.move(source / name, self.tests)
        shutil.rmtree(source)

    def run(self, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run Python where the package and gatewayd are installed."""
        return subprocess.run(
            [sys.executable, *words],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": f"{self.packages}:{TOP}", "PYTEST_ADDOPTS": ""},
            capture_output=True,
            text=True,
            check=False,
        )

    def _succeed(self, *words: str, cwd: Path) -> None:
        ended = self.run(*words, cwd=cwd)
        assert ended.returncode == 0, ended.stdout + ended.stderr

    def pass_contract(self) -> None:
        """Run its own tests, which inherit the contract of its port."""
        options = ("-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function")
        # a directory of its own, as pytest fails now and then where others clean up the common one
        own = ("--basetemp", str(self.tests.parent / "pytest"))
        self._succeed("-m", "pytest", "-q", *options, *own, "-W", "error", cwd=self.tests)

    def check_config(self, text: str) -> subprocess.CompletedProcess[str]:
        """Have gatewayd check a configuration that names it, as the page does."""
        (self.tests / "try.toml").write_text(text)
        words = ("-m", "gatewayd", "--check-config", "--config", "try.toml")
        return self.run(*words, cwd=self.tests)

    def rewrite(self, pattern: str, text: str) -> None:
        """Change its module, as a release for another gatewayd would be."""
        (module,) = self.packages.glob("gatewayd_*/__init__.py")
        changed, count = re.subn(pattern, text, module.read_text())
        assert count == 1
        module.write_text(changed)


def tried(page: str) -> str:
    """Return the configuration that a page prints with `cat`, and then checks."""
    text = (TOP / f"docs/how-to/{page}.md").read_text()
    found = re.search(r"    \$ cat try.toml\n(.*?)    \$ ", text, re.DOTALL)
    assert found is not None
    return "".join(line.removeprefix("    ") for line in found[1].splitlines(keepends=True))


@pytest.mark.integration
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_installed_and_passes_its_contract(example: Path, tmp_path: Path) -> None:
    installed, configuration = InstalledExample(example, tmp_path), tried(PAGES[example.name])
    installed.pass_contract()
    checked = installed.check_config(configuration)
    assert (checked.returncode, checked.stdout) == (0, "The configuration is valid.\n")
    installed.rewrite(r'port_version: ClassVar\[str\] = "1\.0"', 'port_version = "2.0"')
    refused = installed.check_config(configuration)
    assert refused.returncode == 78
    assert f"of {example.name}) was written for version 2.0 of gatewayd." in refused.stdout


def example_tests(installed: InstalledExample, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module of an example's tests, which has the cloud that it is tried with."""
    monkeypatch.syspath_prepend(installed.packages)
    (file,) = installed.tests.glob("test_*.py")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.integration
async def test_gatewayd_brings_a_child_online_by_an_installed_plug_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = TOP / "docs/examples/gatewayd-toycloud"
    installed = await asyncio.to_thread(InstalledExample, example, tmp_path)
    cloud = (await asyncio.to_thread(example_tests, installed, monkeypatch)).ToyTestbed()
    await cloud.start()
    former = await Site.start_python((), "gatewayd", ["--version"], None)
    assert await former.wait() == 0
    monkeypatch.setenv("PYTHONPATH", f"{installed.packages}:{TOP}")
    with PrivateBus(POLICY) as bus:
        site = Site(tmp_path, bus=bus.address)
        port = cloud.provider._settings.port
        text = WITH_A_TOY.format(directory=tmp_path, bus=bus.address, port=port)
        await asyncio.to_thread(site.configure, text, RULE)
        await site.start()
        try:
            await site.until(lambda: _states(site, ["online"]), "the child to be online")
            assert cloud.connections() == 1
        finally:
            await site.stop()
            cloud.stop()


async def _states(site: Site, wanted: list[str]) -> bool:
    return [row[1] for row in await site.call("ListDevices")] == wanted
