"""``responder deadletter``: messages that a Service Bus source gave up. Speaks to Service Bus itself, so no running service is needed."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from responder.app import bus_of, identity_of
from responder.model.errors import SettingsError
from responder.settings import ServiceBusSettings, load_settings
from responder.sources.service_bus.bus import Bus
from responder.sources.service_bus.deadletters import MOST, DeadLetter, listed, resubmitted

app = typer.Typer(help="List, show or send again messages that a Service Bus source gave up.", no_args_is_help=True)
out = Console(soft_wrap=True, highlight=False)

Config = Annotated[Path, typer.Option("--config", envvar="RESPONDER_CONFIG", help="responder.yaml.")]
Source = Annotated[str, typer.Option("--source", help="Its name under sources:; may be left out when there is one.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
CONFIG = Path("/etc/responder/responder.yaml")


def _bus(config: Path, source: str) -> Bus:
    settings = load_settings(config)
    sources = {name: one for name, one in settings.sources.items() if isinstance(one, ServiceBusSettings)}
    if not sources:
        raise SettingsError(f"{config} has no source of kind service_bus; dead letters are those of such sources")
    if source and source not in sources:
        raise SettingsError(f"there is no Service Bus source {source}; sources has {', '.join(sources)}")
    if not source and len(sources) > 1:
        raise SettingsError(f"there are several sources; choose one with --source: {', '.join(sources)}")
    return bus_of(sources[source or next(iter(sources))], identity_of(settings))


def _print(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


@app.command("list")
def list_command(
    config: Config = CONFIG,
    source: Source = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most to list, oldest first.")] = 100,
    *,
    as_json: Json = False,
) -> None:
    """List dead letters with why they were given up."""
    bus = _bus(config, source)
    found = asyncio.run(_listed(bus, limit, 0))
    if as_json:
        _print({"entity": bus.access.entity, "dead_letters": [asdict(one) for one in found]})
        return
    if not found:
        out.print(f"{bus.access.entity} has no dead letters", markup=False)
        return
    table = Table("number", "since", "message id", "reason", "what happened")
    for one in found:
        table.add_row(str(one.sequence), str(one.enqueued_at)[:19], one.message_id, one.reason, one.description)
    out.print(table)


async def _listed(bus: Bus, limit: int, after: int) -> list[DeadLetter]:
    try:
        return await listed(bus, limit=limit, after=after)
    finally:
        await bus.close()


@app.command("show")
def show(
    number: Annotated[int, typer.Argument(help="The number that list prints.")],
    config: Config = CONFIG,
    source: Source = "",
    *,
    as_json: Json = False,
) -> None:
    """Show one dead letter whole."""
    bus = _bus(config, source)
    found = [one for one in asyncio.run(_listed(bus, 1, number - 1)) if one.sequence == number]
    if not found:
        raise SettingsError(f"{bus.access.entity} has no dead letter {number}; responder deadletter list prints those there are")
    one = found[0]
    if as_json:
        _print(asdict(one))
        return
    for name, value in asdict(one).items():
        if name != "body":
            out.print(f"{name:<13}{value}", markup=False)
    out.print()
    out.print(one.body, markup=False)


@app.command("resubmit")
def resubmit(
    numbers: Annotated[list[int] | None, typer.Argument(help="The numbers that list prints.")] = None,
    config: Config = CONFIG,
    source: Source = "",
    *,
    everything: Annotated[bool, typer.Option("--all", help="All there are now.")] = False,
    as_json: Json = False,
) -> None:
    """Send dead letters again, once their cause is removed. Through a topic, every subscription gets them."""
    if bool(numbers) == everything:
        raise typer.BadParameter("name the numbers that responder deadletter list prints, or --all")
    bus = _bus(config, source)

    def told(one: DeadLetter) -> None:
        if not as_json:
            out.print(f"{one.sequence} {one.message_id}: sent again ({one.reason})", markup=False)

    async def run() -> list[DeadLetter]:
        try:
            return await resubmitted(bus, None if everything else numbers, told=told)
        finally:
            await bus.close()

    done = asyncio.run(run())
    missing = sorted(set(numbers or []) - {one.sequence for one in done})
    if as_json:
        _print({"resubmitted": [one.sequence for one in done], "not_there": missing})
    else:
        if len(done) == MOST:
            out.print(f"{MOST} were sent again, and there may be more: run it once more", markup=False)
        for number in missing:
            out.print(
                f"{number}: not in the dead-letter queue, or held by somebody else now; list again", style="red", markup=False
            )
        if not done and not missing:
            out.print(f"{bus.access.entity} has no dead letters", markup=False)
    if missing:
        raise typer.Exit(1)
