"""The command line, as one meets it who mistypes, and who reads it at night."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from responder.cli.main import MOST_LISTED, app

MODULE = importlib.import_module("responder.cli.main")  # its name in the package is the function that runs it

INCIDENT = {
    "id": "inc-1m8az0g1n-6b3a907a", "phase": "waiting", "mode": "armed", "state": "Waiting: another disruptive rung runs " + "far and wide " * 9,
    "severity": "error", "cluster": "prod", "target": "workload/shop/payments-with-a-name-that-is-long", "rule": "pod-crash-loop",
    "opened_at": "2026-11-26T03:39:51.001000Z", "acknowledged_by": "", "paged": 1, "asks": "Approve replace: responder approve … --plan 0123",
}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["explain", "nowhere.json"], 2, "nowhere.json cannot be read"),
        (["explain", "nowhere.json", "--source", "nagios"], 2, "nagios"),
        (["test", "nowhere"], 1, "nowhere: there is no such file or directory"),
        (["schema", "rules"], 2, "use rule or test"),
        (["mode", "of"], 2, "use off, shadow or armed"),
    ],
    ids=["no payload", "no such source", "no tests", "no such schema", "no such mode"],
)
def test_a_mistyped_argument_is_named(arguments: list[str], code: int, said: str) -> None:
    """Whoever mistypes reads what, and what is possible; never a traceback."""
    found = CliRunner().invoke(app, arguments)

    assert found.exit_code == code
    assert said in found.output
    assert "Traceback" not in found.output


def test_the_list_of_incidents_shows_ids_whole_however_narrow_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id is there to be copied into the next command, and what is asked of people stands with it."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(MODULE, "call", lambda *_, **__: {"incidents": [INCIDENT]})

    found = CliRunner().invoke(app, ["incidents"])

    for whole in (
        INCIDENT["id"],
        INCIDENT["target"],
        str(INCIDENT["state"]).strip(),
        "level 1 called",
        INCIDENT["asks"],
        "03:39 UTC",
    ):
        assert str(whole) in found.output


def test_a_list_that_is_cut_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a storm nobody takes the newest incidents for all."""
    asked: list[str] = []

    def call(_method: str, path: str, **_: Any) -> Any:
        asked.append(path)
        return {"incidents": [INCIDENT] * MOST_LISTED}

    monkeypatch.setattr(MODULE, "call", call)

    found = CliRunner().invoke(app, ["incidents"])

    assert f"limit={MOST_LISTED}" in asked[0]
    assert f"only the newest {MOST_LISTED} are listed" in found.output


def test_an_empty_list_says_that_nothing_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty table could be anything."""
    monkeypatch.setattr(MODULE, "call", lambda *_, **__: {"incidents": []})

    assert "nothing is open" in CliRunner().invoke(app, ["incidents"]).output


def test_a_payload_that_is_no_text_is_named(tmp_path: Path) -> None:
    """A screenshot passed for a payload."""
    (tmp_path / "shot.png").write_bytes(b"\x89PNG\xff\xfe")

    found = CliRunner().invoke(app, ["explain", str(tmp_path / "shot.png")])

    assert found.exit_code == 2
    assert "shot.png" in "".join(found.output.replace("│", "").split())  # a long path is broken into lines
