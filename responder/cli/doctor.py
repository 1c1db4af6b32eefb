"""``responder doctor``: examines a running installation, and says what to do about what is wrong."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from responder.cli.client import call

out = Console(soft_wrap=True, highlight=False)


def command(
    url: Annotated[str, typer.Option("--url", envvar="RESPONDER_URL", help="The running service.")] = "http://127.0.0.1:8080",
    page: Annotated[str, typer.Option("--page", help="Also send a test page through this channel; it ends by itself.")] = "",
    accept: Annotated[
        list[str] | None, typer.Option("--accept", help="A finding that is known and no failure, by its name. Repeatable.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Examine a running installation end to end: store, clusters, permissions, channels, loops, senders. Exits 1 when something is wrong."""
    found = call("GET", "/v1/doctor", url=url)
    if page:
        found["page"] = call("POST", "/v1/doctor/page", url=url, body={"channel": page})
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        table = Table(box=None, show_header=False, pad_edge=False)
        for one in found["findings"]:
            mark = "[green]ok[/]" if one["well"] else "[red]problem[/]"
            advice = f"\n→ {one['advice']}" if one["advice"] else ""
            table.add_row(mark, one["what"], f"{one['said']}{advice}".replace("[", "\\["))
        out.print(table)
        if page:
            receipt = found["page"]["receipt"]
            vouched = "a person is being called" if receipt["reached"] else "accepted; ask the person whether it arrived"
            out.print(f"test page through {page}: {receipt['answer']} ({vouched})", markup=False)
    raise typer.Exit(0 if all(one["well"] or one["what"] in (accept or []) for one in found["findings"]) else 1)
