"""What people see: the Teams card and the report page, rendered to pictures by a real browser."""

from __future__ import annotations

import html
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

from responder.model.alert import Severity
from responder.model.notice import Notice, NoticeKind, TriedRung
from responder.model.reason import Reason
from responder.notifiers.teams import card
from tests.builders import NOON
from tests.e2e.conftest import ROOT, require

PICTURES = ROOT / ".e2e" / "pictures"


def notice() -> Notice:
    """Return a page about an exhausted ladder."""
    return Notice(
        kind=NoticeKind.PAGE, incident="inc-06bq3k9x2p-7f3a", opening=1, level=1, dedup_key="inc-06bq3k9x2p-7f3a/1/1", at=NOON, severity=Severity.ERROR,
        title="Containers that keep crashing: workload/shop/payments", state="Nothing more is done automatically: no rung is left; people have it",
        reason=Reason.EXHAUSTED, rule="pod-crash-loop", owner="platform", target="workload/shop/payments", cluster="aks-prod", opened_at=NOON - timedelta(minutes=8),
        seen=("cause: crash in container payments, exit code 3", "0 of 2 pods ready, 2 failing", "health: unhealthy"),
        tried=(TriedRung(rung="workload.restart", action="workload.restart", outcome="done, not proven", detail="not proven in time", at=NOON - timedelta(minutes=7)),
               TriedRung(rung="workload.rollback", action="workload.rollback", outcome="skipped", detail="new_revision is false")),
        alerts=("KubePodCrashLooping (alertmanager/prometheus) firing",),
        links=(("Acknowledge", "https://responder.example/incidents/x/acknowledge"), ("Report", "https://responder.example/incidents/x"), ("Runbook", "https://runbooks.example/")),
    )  # fmt: skip


def page(made: dict[str, Any]) -> str:
    """Return a plain page that lays the card out as Teams does: what a host needs of Adaptive Cards 1.2."""
    colours = {"attention": "#c4314b", "warning": "#a1661d", "good": "#237b4b", "accent": "#4f52b2"}
    parts: list[str] = []

    def block(one: dict[str, Any]) -> None:
        match one["type"]:
            case "Container":
                parts.append(
                    f'<div style="background:{colours[one["style"]]}18;border-left:6px solid {colours[one["style"]]};padding:10px 12px;margin:-12px -12px 8px">'
                )
                for inner in one["items"]:
                    block(inner)
                parts.append("</div>")
            case "TextBlock":
                weight = 600 if one.get("weight") == "Bolder" else 400
                size = 18 if one.get("size") == "Medium" else 14
                said = html.escape(one["text"]).replace("\n\n", "<br>").replace("\\", "")
                parts.append(
                    f'<div style="font-weight:{weight};font-size:{size}px;margin-top:{0 if one.get("spacing") == "None" else 8}px">{said}</div>'
                )
            case "FactSet":
                rows = "".join(
                    f"<tr><td style='font-weight:600;padding-right:14px'>{html.escape(f['title'])}</td><td>{html.escape(f['value'])}</td></tr>"
                    for f in one["facts"]
                )
                parts.append(f"<table>{rows}</table>")
            case other:
                raise AssertionError(f"a card element that 1.2 hosts need not know: {other}")

    for one in made["body"]:
        block(one)
    buttons = "".join(
        f'<span style="border:1px solid #888;border-radius:4px;padding:6px 14px;margin-right:8px">{html.escape(a["title"])}</span>'
        for a in made["actions"]
    )
    style = "font:14px 'Segoe UI',system-ui,sans-serif;width:640px;border:1px solid #ccc;border-radius:6px;padding:12px;overflow:hidden"
    return f'<!doctype html><meta charset="utf-8"><body style="background:#f5f5f5"><div style="{style};background:#fff">{"".join(parts)}<p>{buttons}</p></div>'


def picture(text: str, name: str, folder: Path) -> bytes:
    """Render HTML with Chromium and return the PNG."""
    chromium = require("chromium", env="RESPONDER_E2E_CHROMIUM")
    PICTURES.mkdir(parents=True, exist_ok=True)
    source = folder / f"{name}.html"
    source.write_text(text, encoding="utf-8")
    out = PICTURES / f"{name}.png"
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    subprocess.run(
        [
            chromium,
            *flags,
            f"--user-data-dir={folder / 'profile'}",
            "--window-size=720,760",
            f"--screenshot={out}",
            source.as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=90,
    )
    return out.read_bytes()


def test_the_teams_card_can_be_looked_at(tmp_path: Path) -> None:
    """The picture is made (``.e2e/pictures``), and it is not blank."""
    png = picture(page(card(notice())), "teams-card", tmp_path)

    assert png.startswith(b"\x89PNG")
    assert len(png) > 15_000
