"""``responder demo``: the main job, live, on a sandbox cluster. The real service over real HTTP; only the cluster and the receivers are doubles.

Every claim at its end is checked against what the cluster, the receivers and the API saw; the exit code is 0 only if all of it happened. Each act is a
module of its own: what must be there before, the trouble, what is waited for, and its claims. All acts are on stage at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape

from responder.cli.demo.node import NodeAct
from responder.cli.demo.pool import PoolAct
from responder.cli.demo.queue import ServiceBusAct
from responder.cli.demo.stage import SPEED, Act, Stage, staged
from responder.cli.demo.workloads import WorkloadsAct
from responder.telemetry import configure_logging


def acts() -> tuple[Act, ...]:
    """Return what is played, in the order of the claims."""
    return (WorkloadsAct(), ServiceBusAct(), NodeAct(), PoolAct())


def run(*, keep: bool) -> int:
    """Run the demonstration and return the exit code."""
    return asyncio.run(_run(keep=keep))


async def _run(*, keep: bool) -> int:
    out = Console(soft_wrap=True, highlight=False)
    with tempfile.TemporaryDirectory(prefix="responder-demo-") as name:
        folder = Path(name)
        with (folder / "log.jsonl").open("w") as log:
            configure_logging(stream=log)
            async with staged(out, folder) as stage:
                failed = await _play(stage)
                if keep:
                    await _keep(stage)
        return 1 if failed else 0


async def _play(stage: Stage) -> list[str]:
    out = stage.out
    began = asyncio.get_running_loop().time()
    out.rule("[bold]Responder: a real service, a sandbox cluster, no internet")
    out.print(f"The clock runs {SPEED:g} times faster than real time; waits of minutes take seconds.")
    playing = acts()
    for act in playing:
        await act.before(stage)
    out.print("All workloads are healthy. Now trouble begins.\n")
    for act in playing:
        await act.trouble(stage)
    for act in playing:
        await act.ends(stage)
    out.rule("[bold]Incident reports")
    for name in (name for act in playing for name in act.reports):
        incident = await stage.incident(name)
        if incident is not None:
            out.print(Markdown(await stage.parts.reporter.markdown(incident)))
            out.print()
    claims = [claim for act in playing for claim in await act.claims(stage)]
    seconds = asyncio.get_running_loop().time() - began
    out.rule("[bold]What had to happen")
    for what, happened in claims:
        out.print(f"[{'green' if happened else 'bold red'}]{'yes' if happened else 'NO '}[/] {escape(what)}")
    out.print(f"\n{seconds:.0f} s of real time.")
    return [what for what, happened in claims if not happened]


async def _keep(stage: Stage) -> None:
    stage.out.rule("[bold]Kept running; Ctrl-C ends it")
    stage.out.print(f"export RESPONDER_URL={stage.parts.url} RESPONDER_TOKEN={stage.token}", markup=False)
    stage.out.print(f"Pages: {stage.parts.url}/ (any user name, the token as password)", markup=False)
    sys.stdout.flush()
    with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):
        await asyncio.Event().wait()
