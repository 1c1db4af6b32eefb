"""``responder send-test``: posts a test alert of every kind to a running service, and shows what would have happened."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console

from responder.cli.client import ServiceError, call
from responder.cli.samples import Sample, samples
from responder.model.alert import SourceKind

LISTED_WITHIN_SECONDS = 20.0
DEFAULT_NAME = "send-test"
"""Where no source of a format is configured: the formats that need no entry are posted under this name."""

out = Console(soft_wrap=True, highlight=False)


@dataclass(slots=True, kw_only=True)
class Sent:
    """One test alert: where it was posted, what came of it, and what would come of a real one."""

    kind: str
    source: str
    name: str
    posted: bool = False
    listed: bool = False
    problem: str = ""
    skipped: str = ""
    explained: Mapping[str, Any] = field(default_factory=dict)

    @property
    def well(self) -> bool:
        """Tell whether it went through, or could not be posted for a good reason."""
        return bool(self.skipped) or (self.posted and self.listed and not self.problem)


def command(
    url: Annotated[str, typer.Option("--url", envvar="RESPONDER_URL", help="The running service.")] = "http://127.0.0.1:8080",
    source: Annotated[
        str, typer.Option("--source", help="Only to this source, by its name; default: to all that are configured.")
    ] = "",
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", help="Only this kind, such as firing, prometheus or NodePoolRollingFailed. Repeatable."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            help="name=value for Prometheus' alerts, so that your rules and targets are found: --label namespace=shop. Repeatable.",
        ),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Post a test alert of every kind and show what would have happened. Tests are listed and never acted on. Exits 1 when one did not arrive.

    The token (RESPONDER_TOKEN) needs the roles send and view.
    """
    labels = dict(_pair(one) for one in label or [])
    mark = f"test-{uuid.uuid4().hex[:12]}"
    chosen = [one for one in samples(now=datetime.now(tz=UTC), mark=mark, labels=labels) if not kind or one.kind in kind]
    if not chosen:
        known = sorted({one.kind for one in samples(now=datetime.now(tz=UTC), mark=mark, labels={})})
        raise typer.BadParameter(f"--kind {', '.join(kind or [])}: known are {', '.join(known)}")
    sources = call("GET", "/v1/sources", url=url)["sources"]
    if source and source not in {one["name"] for one in sources}:
        raise typer.BadParameter(f"--source {source}: configured are {', '.join(one['name'] for one in sources) or 'none'}")
    sent = [_post(one, place, url=url) for one in chosen for place in _places(one, sources, only=source)]
    _wait_until_listed(sent, mark, url=url)
    if as_json:
        sys.stdout.write(json.dumps({"mark": mark, "sent": [_row(one) for one in sent]}, indent=2, default=str) + "\n")
    else:
        _show(sent)
    raise typer.Exit(0 if sent and all(one.well for one in sent) else 1)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"--label {text}: expected name=value")
    return name, value


def _places(one: Sample, sources: Sequence[Mapping[str, Any]], *, only: str) -> list[Mapping[str, Any]]:
    """Return the sources that take this format; where none is configured, the format's own path under a name of ours."""
    fitting = [place for place in sources if one.source in place["formats"] and (not only or place["name"] == only)]
    if fitting or only:
        return fitting
    if one.source == SourceKind.EVENT_GRID:
        return [{"name": "", "skipped": "no source of kind event_grid is configured"}]
    return [{"name": DEFAULT_NAME}]


def _post(one: Sample, place: Mapping[str, Any], *, url: str) -> Sent:
    sent = Sent(kind=one.kind, source=one.source, name=str(place["name"]))
    try:
        sent.explained = call("POST", f"/v1/explain?source={one.source}", url=url, body=one.body)
        if place.get("skipped"):
            sent.skipped = str(place["skipped"])
        elif place.get("signed"):
            sent.skipped = "only Azure can post here (tokens that Entra ID signs): az monitor action-group test-notifications create, see azure setup-guide"
        else:
            call("POST", f"/v1/alerts/{one.source}/{quote(sent.name)}", url=url, body=one.body)
            sent.posted = True
    except ServiceError as error:
        sent.problem = str(error)
    return sent


def _wait_until_listed(sent: Sequence[Sent], mark: str, *, url: str) -> None:
    """Wait until every posted test is in the list of tests."""
    waiting = [one for one in sent if one.posted]
    ends_at = time.monotonic() + LISTED_WITHIN_SECONDS
    while waiting:
        found = call("GET", "/v1/alerts?why=test_alert&limit=1000", url=url)["alerts"]
        seen = {
            (one["source"], one["source_name"], said.removeprefix(f"{mark}-") if said != mark else one["status"])
            for one in found
            if (said := one["labels"].get("responder_test") or one["annotations"].get("responder_test", "")).startswith(mark)
        }
        for one in waiting:
            over = (one.source, one.name, "resolved") in seen and one.kind == "firing"  # the same firing, ended already
            one.listed = over or (one.source, one.name, one.kind) in seen
        waiting = [one for one in waiting if not one.listed]
        if waiting and time.monotonic() > ends_at:
            for one in waiting:
                one.problem = (
                    f"taken, but not among the tests after {LISTED_WITHIN_SECONDS:g} s: responder doctor says what stands still"
                )
            return
        if waiting:
            time.sleep(0.2)


def _row(one: Sent) -> dict[str, Any]:
    return {
        "kind": one.kind, "source": one.source, "name": one.name, "posted": one.posted, "listed": one.listed, "well": one.well,
        "problem": one.problem, "skipped": one.skipped, "explained": one.explained,
    }  # fmt: skip


def _show(sent: Sequence[Sent]) -> None:
    for one in sent:
        mark, style = ("problem", "red") if not one.well else ("not posted", "yellow") if one.skipped else ("received", "green")
        out.print(f"{mark:<10} {one.source}/{one.name or '-'}  {one.kind}", style=style, markup=False)
        if one.problem or one.skipped:
            out.print(f"           {one.problem or one.skipped}", markup=False)
        for alert in one.explained.get("alerts", []):
            matched = [rule for rule in alert["rules"] if rule["matched"]]
            out.print(f"           {alert['name']}, {alert['status']}, {alert['severity']}", style="dim", markup=False)
            for rule in matched:
                out.print(f"           + {rule['rule']} ({rule['mode']}): target {rule['target']}, {rule['how']}", markup=False)
            out.print(f"           → were it real: {alert.get('would') or alert['outcome']}", markup=False)
    posted, skipped = sum(one.posted for one in sent), sum(bool(one.skipped) for one in sent)
    bad = sum(not one.well for one in sent)
    out.print(
        f"{posted} posted, {skipped} not posted, {bad} with a problem. Nothing was done about any of them.",
        style="bold" if bad else "",
    )
