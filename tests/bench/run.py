"""``make bench``: measures all figures, or those that are named, and writes the README's table with ``--write``.

``python -m tests.bench.run [--write] [figure …]``; sizes: ``figures.Sizes``. ``tests/bench/figures.json`` keeps what each figure's last run saw, so that
the table can be made from several.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import measure
from tests.bench.figures import FIGURES, Sizes

KEPT = Path(__file__).with_name("figures.json")
BEGIN, END = "<!-- bench -->\n", "<!-- /bench -->\n"


def table(kept: dict[str, Any]) -> str:
    """Return the rows of all figures that were run, as Markdown, and with which sizes."""
    lines = ["| Figure | Seen | Goal | |", "| --- | --- | --- | --- |"]
    for name in FIGURES:
        for row in kept.get(name, {}).get("rows", ()):
            met = {True: "met", False: "**missed**", None: ""}[row["met"]]
            lines.append(f"| {row['figure']} | {row['seen']} | {row['goal']} | {met} |")
    rounds = sorted({one["sizes"]["rounds"] for one in kept.values()})
    runs = sorted({one["at"][:10] for one in kept.values()})
    said = (
        "one round each"
        if rounds == [1]
        else f"medians of {' to '.join(map(str, rounds))} interleaved rounds (latency, kill -9 and the steady load: one run)"
    )
    return (
        "\n".join(lines)
        + f"\n\nRun {', '.join(runs)}, {said}, on two cores that others used too; the floor is `tests/bench/floor.py`: the least that any service must do "
        "which never loses an alert. `make bench` runs five rounds, the storm with 100,000 alerts.\n"
    )


def main() -> None:
    """Run."""
    names = [one for one in sys.argv[1:] if not one.startswith("-")] or list(FIGURES)
    sizes = Sizes.given()
    kept: dict[str, Any] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for name in names:
        print(f"{name}: {FIGURES[name].__doc__}", flush=True)  # noqa: T201
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="responder-bench-") as folder:
            rows = FIGURES[name](Path(folder), sizes)
        for row in rows:
            print(f"  {row.figure}: {row.seen} (goal {row.goal})", flush=True)  # noqa: T201
        at = datetime.now(UTC).isoformat(timespec="seconds")
        kept[name] = {
            "at": at,
            "took_seconds": round(time.perf_counter() - began),
            "sizes": asdict(sizes),
            "rows": [asdict(row) for row in rows],
        }
        KEPT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    if "--write" in sys.argv:
        readme = measure.ROOT / "README.md"
        before, _, rest = readme.read_text().partition(BEGIN)
        readme.write_text(before + BEGIN + table(kept) + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
