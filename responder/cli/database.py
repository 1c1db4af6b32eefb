"""``responder db``: the store itself, with or without a running service."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from responder.clock import SystemClock
from responder.settings import load_settings
from responder.stores import Administration

db_app = typer.Typer(help="Migrate, check or export the store.", no_args_is_help=True)
out = Console(soft_wrap=True, highlight=False)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Config = Annotated[Path, typer.Option("--config", envvar="RESPONDER_CONFIG", help="responder.yaml: its store is meant.")]
DEFAULT = Path("/etc/responder/responder.yaml")


def _store(config: Path) -> Administration:
    store = load_settings(config).store
    if store.url is not None:
        return Administration(SystemClock(), url=store.url.read().get_secret_value())
    return Administration(SystemClock(), path=Path(store.path))


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


@db_app.command("migrate")
def migrate(config: Config = DEFAULT, *, as_json: Json = False) -> None:
    """Bring the schema up to date, as every start does: migrations only add, so the release before may go on beside it."""
    done = asyncio.run(_store(config).migrate())
    if as_json:
        _print_json(asdict(done))
    elif done.before == done.after:
        ahead = f"; this release knows {done.known} and can work with it" if done.after > done.known else ""
        out.print(f"the schema is {done.after} already{ahead}", markup=False)
    else:
        out.print(f"the schema was {done.before or 'not there'} and is {done.after} now", markup=False)


@db_app.command("check")
def check(config: Config = DEFAULT, *, as_json: Json = False) -> None:
    """Look the store over: schema, integrity, states that cannot be read, what is overdue or orphaned. Changes nothing; exits 1 on a finding."""
    found = asyncio.run(_store(config).inspect())
    if as_json:
        _print_json(asdict(found))
    else:
        for one in found.findings:
            out.print(f"{one.what} ({one.count}): {one.detail}", style="red", markup=False)
            out.print(f"  {one.advice}", markup=False)
        rows = ", ".join(f"{count} {table}" for table, count in found.rows.items() if count) or "no rows"
        out.print(f"schema {found.schema or '-'} (this release: {found.known}); {rows}", markup=False)
        out.print(
            f"{len(found.findings)} finding{'s' if len(found.findings) > 1 else ''}" if found.findings else "nothing is wrong",
            markup=False,
        )
    if found.findings:
        raise typer.Exit(1)


@db_app.command("export")
def export(
    config: Config = DEFAULT,
    to: Annotated[
        Path | None, typer.Option("--out", help="Write to this file (new) and say how much; else to standard output.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Write all tables out as of one moment, one JSON object a line: for a backup that people and other programs can read."""
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(to.open("xb")) if to is not None else sys.stdout.buffer
        except FileExistsError:
            raise typer.BadParameter(f"{to} is there already") from None
        rows = asyncio.run(_store(config).export(stream.write))
        stream.flush()
    if to is None:
        return
    if as_json:
        _print_json({"out": str(to), "rows": rows})
    else:
        out.print(f"{sum(rows.values())} rows of {len(rows)} tables are in {to}", markup=False)
