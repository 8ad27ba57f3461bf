"""Clients that nobody here wrote, against the emulator: each script of tests/foreign, in an environment of its own.

The environments are made once and kept: beside .venv, or in the folder that FOREIGN_ENVS names. Where nothing
can be installed, FOREIGN_ENVS=skip leaves these tests out.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from beam_openai.emulator import Emulator

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "tests" / "foreign").glob("check_*.py"))
PACKAGES = {"modern": "openai", "legacy": "openai==0.28.1"}
WHERE = os.environ.get("FOREIGN_ENVS", "")

pytestmark = pytest.mark.skipif(WHERE == "skip", reason="FOREIGN_ENVS=skip")


@pytest.fixture(scope="module")
def server():
    with Emulator() as emulator:
        yield emulator


@pytest.fixture(scope="module")
def python():
    """The interpreter of the environment of that name, in which its package is installed."""
    return lambda name: installed(Path(WHERE or ROOT) / f".venv-foreign-{name}", PACKAGES[name])


def installed(folder, package):
    interpreter, done = folder / "bin" / "python", folder / "installed"
    what = f"{package} for Python {sys.version}"
    if done.is_file() and done.read_text() == what:
        return interpreter
    shutil.rmtree(folder, ignore_errors=True)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries=1", package]
    for command in ([sys.executable, "-m", "venv", folder], [interpreter, *install]):
        run = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=600)
        if run.returncode != 0:
            pytest.fail(
                f"{package} could not be installed in {folder}, for these clients are tested as they are published. "
                f"Without a network, set FOREIGN_ENVS=skip to leave them out.\n{run.stdout}{run.stderr}",
                pytrace=False,
            )
    done.write_text(what)
    return interpreter


def environment():
    """Ours, without what would lead a client elsewhere."""
    left_out = ("OPENAI_", "PYTHONPATH", "PYTHONHOME")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return {**kept, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PYTHONDONTWRITEBYTECODE": "1"}


def test_there_are_scripts_for_each_client():
    assert {client(script) for script in SCRIPTS} == set(PACKAGES)


def client(script):
    return "legacy" if script.stem.startswith("check_legacy") else "modern"


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_a_foreign_client_is_content(server, python, script):
    command = [python(client(script)), script, server.base_url]
    run = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300)
    assert run.returncode == 0, f"{script.name} against {server.base_url}:\n{run.stdout}{run.stderr}"
    assert "as it should be" in run.stdout
