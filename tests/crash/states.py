"""Collects stored states of incidents from the plots, one for each phase and reason: the corpus of a release.

``python -m tests.crash.states 0.1.0`` writes ``tests/unit/stores/states/0.1.0.jsonl``, once a release and never again for one that is out.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import text

from tests.crash.plots import PLOTS, Plot
from tests.crash.sweep import quiet

FOLDER = Path(__file__).resolve().parents[1] / "unit/stores/states"


async def collected(plot: Plot) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the states that are stored while a plot happens, the last of each phase and reason."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        world = plot.world(Path(folder))
        run = world.runner.run

        async def watched(*asked: Any) -> Any:
            result = await run(*asked)
            if asked[0].__name__ == "commit":
                for state, version in await world.runner.read(
                    lambda db: db.execute(text("select state, state_v from incidents")).all()
                ):
                    one = json.loads(state)
                    found[one["phase"], one["reason"]] = {"state_v": version, "state": one}
            return result

        await plot.begin(world)
        world.runner.run = watched  # type: ignore[method-assign, assignment]
        await world.live(plot.lasts)
    return found


def main() -> None:
    """Write the corpus of a release."""
    quiet()
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for plot in PLOTS:
        found = {**asyncio.run(collected(plot)), **found}
    FOLDER.mkdir(exist_ok=True)
    lines = [json.dumps(found[key], sort_keys=True) for key in sorted(found)]
    (FOLDER / f"{sys.argv[1]}.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
