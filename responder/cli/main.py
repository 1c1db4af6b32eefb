"""All commands."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from xml.sax.saxutils import escape

import typer
from rich.console import Console
from rich.markdown import Markdown

from responder import __version__
from responder.actions.catalogue import catalogue
from responder.app import assembled
from responder.cli import azure, deadletter, doctor, rbac, send_test
from responder.cli.client import ServiceError, call
from responder.cli.database import db_app
from responder.cli.serving import CONFIG, run
from responder.clock import SystemClock
from responder.model.alert import SourceKind
from responder.model.errors import ResponderError, RuleError, SettingsError
from responder.policy.rehearse import Played, rehearse
from responder.rules import jsonschema
from responder.rules.load import load_rules, test_files
from responder.rules.testfile import load_tests
from responder.settings import armed_nowhere, load_settings, masked, unknown_rules
from responder.stores import open_memory

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Alerts in, proven recoveries or pages out."
)
incidents_app = typer.Typer(help="List incidents, or tell one something.", invoke_without_command=True)
app.add_typer(incidents_app, name="incidents")
app.add_typer(db_app, name="db")
app.add_typer(deadletter.app, name="deadletter")
app.command("rbac")(rbac.command)
app.command("doctor")(doctor.command)
app.command("send-test")(send_test.command)
app.add_typer(azure.app, name="azure")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Url = Annotated[str, typer.Option("--url", envvar="RESPONDER_URL", help="The running service.")]
Id = Annotated[str, typer.Argument(help="Its id, as responder incidents lists it.")]
Why = Annotated[str, typer.Option("--why", help="Kept on the timeline, for whoever reads it later.")]
Config = Annotated[Path, typer.Option("--config", envvar="RESPONDER_CONFIG", help="responder.yaml.")]
LOCAL = "http://127.0.0.1:8080"
MOST_LISTED = 1000
"""Source: the API's own limit."""

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except ResponderError as error:
        err.print(f"responder: {error}", markup=False)
        sys.exit(1)


def _print(value: Any, *, as_json: bool, show: Callable[[], None]) -> None:
    if as_json:
        sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")
    else:
        show()


@app.command("version")
def version(*, as_json: Json = False) -> None:
    """Print the version."""
    _print({"version": __version__}, as_json=as_json, show=lambda: out.print(__version__))


@app.command("serve")
def serve_command(config: Config = CONFIG) -> None:
    """Run the service until SIGTERM or SIGINT."""
    run(config)


@app.command("check")
def check(
    paths: Annotated[list[Path] | None, typer.Argument(help="Rule files or folders.")] = None,
    config: Annotated[Path | None, typer.Option("--config", envvar="RESPONDER_CONFIG", help="Check responder.yaml too.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Check rules (and the configuration): every error at once, as file:line:column."""
    problems: list[dict[str, Any]] = []
    warnings: list[str] = []
    rules: list[str] = []
    effective: Any = None
    settings = None
    if config is not None:
        try:
            settings = load_settings(config)
            effective = masked(settings)
        except SettingsError as error:
            problems += [{"problem": line} for line in str(error).splitlines()]
    where = list(paths or []) or (list(settings.paths()) if settings is not None else [])
    if not where and config is None:
        raise typer.BadParameter("name rule files or folders, or --config")
    try:
        loaded = load_rules(where, catalogue=catalogue().names, overrides=settings.rules if settings else None)
        rules = [rule.name for rule in loaded.rules]
        warnings = [str(one) for one in loaded.warnings]
        if settings is not None and not paths:
            warnings += armed_nowhere(settings)
            if unknown := unknown_rules(settings, rules):
                problems.append({"problem": f"{config}: {unknown}"})
    except ExceptionGroup as group:
        for one in group.exceptions:
            where_in = (
                {"file": one.file, "line": one.line, "column": one.column, "path": one.path} if isinstance(one, RuleError) else {}
            )
            problems.append({**where_in, "problem": str(one)})

    def show() -> None:
        for one in problems:
            out.print(str(one["problem"]), style="red", markup=False)
        for line in warnings:
            out.print(f"warning: {line}", style="yellow", markup=False)
        if effective is not None:
            out.print_json(json.dumps(effective, default=str))
        if not problems:
            out.print(f"{len(rules)} rules are good: {', '.join(rules)}", markup=False)
        else:
            out.print(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}", style="bold red")

    _print({"problems": problems, "warnings": warnings, "rules": rules, "settings": effective}, as_json=as_json, show=show)
    if problems:
        raise typer.Exit(1)


@app.command("test")
def play_tests(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Folders of rules with their *.test.yaml, or test files (their folder's rules are loaded)."),
    ],
    junit: Annotated[Path | None, typer.Option(help="Write a JUnit report here too.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Play rule tests on virtual time, through the same judgement as in production."""
    played: list[Played] = []
    problems: list[str] = []
    known = catalogue()
    for path in paths:
        if not path.exists():
            problems.append(f"{path}: there is no such file or directory")
            continue
        try:
            loaded = load_rules([path if path.is_dir() else path.parent], catalogue=known.names)
            for file in test_files(path):
                played += [rehearse(one, loaded.rules, known) for one in load_tests(file, checks=known.names.checks)]
        except ExceptionGroup as group:
            problems += [str(one) for one in group.exceptions]
    failed = [one for one in played if one.problems]

    def show() -> None:
        for line in problems:
            out.print(line, style="red", markup=False)
        for one in played:
            mark, style = ("FAIL", "red") if one.problems else ("ok", "green")
            out.print(f"{mark:<4} {Path(one.test.file).name}: {one.test.test.name}", style=style, markup=False)
            if one.problems:
                for line in one.problems:
                    out.print(f"     {line}", markup=False)
                out.print("     what happened:", markup=False)
                for event in one.happened:
                    out.print(f"       {event}", style="dim", markup=False)
                for at, incident, state in one.states:
                    out.print(f"       {int(at.total_seconds())}s {incident} {state}", style="dim", markup=False)
        out.print(f"{len(played) - len(failed)} of {len(played)} rule tests passed")

    rows = [{"file": one.test.file, "name": one.test.test.name, "problems": one.problems} for one in played]
    _print({"tests": rows, "problems": problems}, as_json=as_json, show=show)
    if junit is not None:
        junit.write_text(_junit(played), encoding="utf-8")
    if failed or problems or not played:
        raise typer.Exit(1)


def _junit(played: list[Played]) -> str:
    failed = sum(1 for one in played if one.problems)
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        f'<testsuite name="responder rules" tests="{len(played)}" failures="{failed}">',
    ]
    for one in played:
        name = escape(one.test.test.name, {'"': "&quot;"})
        lines.append(f'  <testcase classname="{escape(Path(one.test.file).name)}" name="{name}">')
        if one.problems:
            lines.append(f"    <failure>{escape(chr(10).join(one.problems))}</failure>")
        lines.append("  </testcase>")
    return "\n".join([*lines, "</testsuite>", ""])


@app.command("explain")
def explain(
    payload: Annotated[Path, typer.Argument(help="A payload as its sender sends it; - for standard input.")],
    source: Annotated[str, typer.Option(help="alertmanager, azure-monitor or event-grid; found out when left out.")] = "",
    config: Annotated[
        Path | None, typer.Option("--config", envvar="RESPONDER_CONFIG", help="Explain without a running service.")
    ] = None,
    url: Url = LOCAL,
    *,
    as_json: Json = False,
) -> None:
    """Say what a payload would lead to, and for each rule why it matched or not."""
    if source and source not in set(SourceKind):
        raise typer.BadParameter(f"--source {source}: use alertmanager, azure-monitor or event-grid, or leave it out")
    try:
        text = sys.stdin.read() if str(payload) == "-" else payload.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{payload} cannot be read: {error}") from error
    try:
        body = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{payload} is not JSON: {error}") from error
    if config is not None:
        found = asyncio.run(_explained(config, body, source))
    else:
        found = call("POST", f"/v1/explain?source={source}" if source else "/v1/explain", url=url, body=body)
    _print(found, as_json=as_json, show=lambda: _show_explained(found))
    if not found["understood"]:
        raise typer.Exit(1)


async def _explained(config: Path, body: Any, source: str) -> Any:
    clock = SystemClock()
    async with assembled(load_settings(config), store=open_memory(clock), clock=clock) as parts:
        return await parts.explainer.explain(body, source=SourceKind(source) if source else None)


def _show_explained(found: Any) -> None:
    out.print(
        f"{found['source']}, shape {found['shape']}" + ("" if found["understood"] else f": not understood, {found['why_not']}"),
        markup=False,
    )
    for gap in found["gaps"]:
        out.print(f"gap: {gap}", style="yellow", markup=False)
    for one in found["alerts"]:
        out.print()
        out.print(
            f"{one['name'] or '(no name)'}: {one['status']}, {one['severity']} (sender: {one['sender_severity'] or '-'})",
            style="bold",
            markup=False,
        )
        out.print("labels: " + ", ".join(f"{name}={value}" for name, value in one["labels"].items()), markup=False)
        for rule in one["rules"]:
            if rule["matched"]:
                out.print(
                    f"  + {rule['rule']} ({rule['mode']}): target {rule['target']}, {rule['how']}", style="green", markup=False
                )
                for asked in rule["looked_up"]:
                    out.print(f"      asked {asked['asked']}: {asked['answer']} {asked['detail']}", style="dim", markup=False)
                if rule["when"]:
                    out.print(f"      leads when {rule['when']}", style="dim", markup=False)
            else:
                out.print(f"  - {rule['rule']}: {'; '.join(rule['why'])}", style="dim", markup=False)
        out.print(f"  → {one['outcome']}", markup=False)


@incidents_app.callback()
def incidents(
    context: typer.Context,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Closed ones too.")] = False,
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """List incidents."""
    if context.invoked_subcommand is not None:
        return
    found = call("GET", f"/v1/incidents?all={'true' if everything else 'false'}&limit={MOST_LISTED}", url=url)

    def show() -> None:
        for one in found["incidents"]:
            who = (
                f"{one['acknowledged_by']} has it"
                if one["acknowledged_by"]
                else f"level {one['paged']} called"
                if one["paged"]
                else "nobody called"
            )
            where = f" in {one['cluster']}" if one["cluster"] else ""
            style = "dim" if one["phase"] in {"recovered", "closed"} else "bold"
            out.print(f"{one['id']}  {one['target']}{where}", style=style, markup=False)
            opened = f"{one['opened_at'][:16].replace('T', ' ')} UTC"
            out.print(f"    {one['severity']}, {one['mode']}, {one['rule'] or 'no rule'}, opened {opened}; {who}", markup=False)
            out.print(f"    {one['state']}", markup=False)
            if one["asks"]:
                out.print(f"    asked: {one['asks']}", style="yellow", markup=False)
        if not found["incidents"]:
            out.print("there was no incident yet" if everything else "nothing is open")
        if len(found["incidents"]) >= MOST_LISTED:
            out.print(f"only the newest {MOST_LISTED} are listed", style="yellow")

    _print(found, as_json=as_json, show=show)


def _tell(incident: str, what: str, body: dict[str, Any], url: str, *, as_json: bool) -> None:
    found = call("POST", f"/v1/incidents/{incident}/{what}", url=url, body=body)
    _print(found, as_json=as_json, show=lambda: out.print(f"{incident}: {what} was said by {found['by']}", markup=False))


@incidents_app.command("close")
def close(incident: Id, why: Why = "", url: Url = LOCAL, *, as_json: Json = False) -> None:
    """Close an incident; an action in flight stops before its next write."""
    _tell(incident, "close", {"text": why}, url, as_json=as_json)


@incidents_app.command("note")
def note(
    incident: Id, text: Annotated[str, typer.Argument(help="What to note.")], url: Url = LOCAL, *, as_json: Json = False
) -> None:
    """Leave a note on the timeline."""
    _tell(incident, "note", {"text": text}, url, as_json=as_json)


@incidents_app.command("acknowledge")
def acknowledge(incident: Id, url: Url = LOCAL, *, as_json: Json = False) -> None:
    """Say that you have it: no further level is called."""
    _tell(incident, "acknowledge", {}, url, as_json=as_json)


@incidents_app.command("timeline")
def timeline(incident: Id, url: Url = LOCAL, *, as_json: Json = False) -> None:
    """Print the audit trail."""
    found = call("GET", f"/v1/incidents/{incident}/timeline", url=url)

    def show() -> None:
        for one in found["timeline"]:
            out.print(f"{str(one['at'])[:19]}  {one['reason']:<18} {one['text']}", markup=False)

    _print(found, as_json=as_json, show=show)


@app.command("pause")
def pause(incident: Id, why: Why = "", url: Url = LOCAL, *, as_json: Json = False) -> None:
    """Stop the ladder of an incident before its next write."""
    _tell(incident, "pause", {"text": why}, url, as_json=as_json)


@app.command("resume")
def resume(incident: Id, why: Why = "", url: Url = LOCAL, *, as_json: Json = False) -> None:
    """Let the ladder of an incident go on."""
    _tell(incident, "resume", {"text": why}, url, as_json=as_json)


@app.command("approve")
def approve(
    incident: Id,
    plan: Annotated[str, typer.Option("--plan", help="The plan's digest, as the question names it.")],
    url: Url = LOCAL,
    *,
    reject: Annotated[bool, typer.Option("--reject", help="Say no.")] = False,
    as_json: Json = False,
) -> None:
    """Approve (or reject) the very plan that an incident asks about."""
    _tell(incident, "reject" if reject else "approve", {"plan": plan}, url, as_json=as_json)


@app.command("report")
def report(incident: Id, url: Url = LOCAL, *, as_json: Json = False) -> None:
    """Print an incident's report."""
    if as_json:
        _print(call("GET", f"/v1/incidents/{incident}", url=url), as_json=True, show=lambda: None)
        return
    text = call("GET", f"/v1/incidents/{incident}/report", url=url)
    if out.is_terminal:
        out.print(Markdown(text))
    else:
        sys.stdout.write(text + "\n")


@app.command("mode")
def mode(
    to: Annotated[str, typer.Argument(help="off, shadow or armed; left out: print.")] = "",
    cluster: Annotated[str, typer.Option(help="One cluster only.")] = "",
    why: Annotated[str, typer.Option(help="Shown wherever the switch is.")] = "",
    url: Url = LOCAL,
    *,
    as_json: Json = False,
) -> None:
    """Print or set what may be done at all: ``off`` is the kill switch."""
    if to:
        if to not in {"off", "shadow", "armed"}:
            raise typer.BadParameter("use off, shadow or armed")
        found = call("PUT", "/v1/mode", url=url, body={"mode": to, "cluster": cluster, "why": why})
        _print(found, as_json=as_json, show=lambda: out.print(f"{found['mode']['scope']} is {to} now", markup=False))
        return
    found = call("GET", "/v1/mode", url=url)

    def show() -> None:
        if not found["modes"]:
            out.print("nothing was ever switched: what act: arms is armed")
        for one in found["modes"]:
            out.print(f"{one['scope']}: {one['mode']}, by {one['by']} {one['why']}", markup=False)

    _print(found, as_json=as_json, show=show)


@app.command("undo")
def undo(incident: Id, url: Url = LOCAL, *, as_json: Json = False) -> None:
    """Give back now what an incident still holds (a cordon, a taint, an autoscaler's floor), only where it is still ours."""
    found = call("POST", f"/v1/incidents/{incident}/undo", url=url)
    _print(found, as_json=as_json, show=lambda: out.print("\n".join(found["undone"]), markup=False))


@app.command("demo")
def demo_command(*, keep: Annotated[bool, typer.Option("--keep", help="Leave the service running at the end.")] = False) -> None:
    """Show the main job on a sandbox cluster: nothing is needed, nothing outside this machine is touched."""
    from responder.cli import demo  # noqa: PLC0415 - a service does not load the sandbox and all its doubles

    raise typer.Exit(demo.run(keep=keep))


@app.command("schema")
def schema(kind: Annotated[str, typer.Argument(help="rule or test.")] = "rule") -> None:
    """Print the JSON Schema of rule files (or rule tests), for editors."""
    if kind not in {"rule", "test"}:
        raise typer.BadParameter(f"{kind}: use rule or test")
    made = jsonschema.rule_schema(catalogue().names) if kind == "rule" else jsonschema.test_schema()
    sys.stdout.write(json.dumps(made, indent=2) + "\n")


__all__ = ["ServiceError", "app", "main"]
