"""What a start loads, and what it leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from responder.cli.serving import CONFIG, asked

HEAVY = (
    "kubernetes_asyncio.client.models",
    "alembic",
    "prompt_toolkit",
    "pygments",
    "rich",
    "azure",
    "typer",
    "responder.sandbox",
    "asyncpg",
)


def loaded(program: str) -> set[str]:
    """Return the modules that are there after a program ran in a process of its own."""
    text = f"{program}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_the_service_loads_only_what_it_runs_on() -> None:
    """Each of these costs a start a twentieth of a second or more, and 2 to 40 MiB for months."""
    assert loaded("import responder.cli.serving") & set(HEAVY) == set()


def test_what_was_left_out_is_whole_for_whoever_asks_for_it() -> None:
    """The stand-ins are gone afterwards: the libraries' own doors open as ever, and give the very same classes."""
    program = """
import responder.cli.serving
from responder.clusters.kubernetes.kubeconfig import Configuration
import kubernetes_asyncio, cel.cli, rich.console
assert kubernetes_asyncio.client.CoreV1Api and kubernetes_asyncio.client.Configuration is Configuration
assert cel.cli.app
"""
    assert "kubernetes_asyncio.client.models" in loaded(program)


@pytest.mark.parametrize(
    ("arguments", "config"),
    [
        (["serve"], CONFIG),
        (["serve", "--config", "a.yaml"], Path("a.yaml")),
        (["serve", "--config=a.yaml"], Path("a.yaml")),
        (["serve", "--help"], None),
        (["serve", "--config"], None),
        (["serve", "--config", "--help"], None),
        (["serve", "a.yaml"], None),
        (["check", "rules/"], None),
        ([], None),
    ],
    ids=["default", "given", "joined", "help", "no value", "help for a value", "mistake", "another command", "nothing"],
)  # fmt: skip
def test_only_a_plain_serve_takes_the_short_way(
    arguments: list[str], config: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Help and mistakes are the command line's to answer."""
    monkeypatch.delenv("RESPONDER_CONFIG", raising=False)

    assert asked(arguments) == config


def test_the_environment_names_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the option's help says."""
    monkeypatch.setenv("RESPONDER_CONFIG", "/b.yaml")

    assert asked(["serve"]) == Path("/b.yaml")
