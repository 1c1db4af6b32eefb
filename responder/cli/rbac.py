"""``responder rbac``: the least roles that what is armed needs, ready for kubectl or the chart. Asks no cluster."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from responder.actions.catalogue import catalogue
from responder.clusters.kubernetes import READS
from responder.model.errors import RuleError, SettingsError
from responder.policy import rbac
from responder.rules.arming import ActEntry, parse_act
from responder.rules.load import load_rules
from responder.settings import Settings, load_settings

err = Console(stderr=True, soft_wrap=True, highlight=False)


def command(
    rules: Annotated[list[Path] | None, typer.Option("--rules", help="Rule files or folders; else those of --config.")] = None,
    config: Annotated[Path | None, typer.Option("--config", envvar="RESPONDER_CONFIG", help="What is armed, and where.")] = None,
    arm: Annotated[
        list[str] | None, typer.Option("--arm", help="Arm this rule too: a name, NAME=NAMESPACE, or 'all'. Repeatable.")
    ] = None,
    cluster: Annotated[
        str, typer.Option(help="Its name in clusters:; left out: the only one, or the one with in_cluster: true.")
    ] = "",
    account: Annotated[str, typer.Option(help="The service account's name.")] = "responder",
    namespace: Annotated[str, typer.Option(help="The service account's namespace.")] = "responder",
    user: Annotated[
        str,
        typer.Option(
            help="Bind this user instead of a service account: for a cluster that is reached by resource_id, the object id of our Entra identity."
        ),
    ] = "",
    *,
    chart: Annotated[
        bool, typer.Option("--chart", help="Print helm/files/permissions.yaml instead: every rule, armed or not.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the least Role and ClusterRole for what is armed; while nothing is, they only read."""
    settings = load_settings(config) if config is not None else None
    where = list(rules or []) or (list(settings.paths()) if settings is not None else [])
    if not where:
        raise typer.BadParameter("name rule files or folders with --rules, or a configuration with --config")
    cluster = _cluster(settings, cluster)
    known = catalogue()
    try:
        loaded = load_rules(where, catalogue=known.names, overrides=settings.rules if settings else None).rules
    except ExceptionGroup as group:
        for one in group.exceptions:
            err.print(str(one), style="red", markup=False)
        if group.subgroup(RuleError) is None:
            raise
        raise typer.Exit(1) from None
    if chart:
        _write(rbac.chart_table(loaded, known, reads=READS), as_json=as_json, many=False)
        return
    names = [rule.name for rule in loaded]
    act = (*(settings.act_entries() if settings else ()), *_armed(arm or [], names))
    needed = rbac.needs(loaded, act, known, cluster=cluster)
    for one in needed:
        there = "everywhere" if one.namespaces is None else f"in {', '.join(sorted(one.namespaces))}"
        err.print(f"{one.permission.verb} {one.permission.resource} {there}: {', '.join(one.rungs)}", style="dim", markup=False)
    if not needed:
        err.print("nothing is armed (--config with act:, or --arm RULE): these roles only read", style="dim")
    made = rbac.manifests(needed, reads=READS, name=account, namespace=namespace, user=user)
    _write({"apiVersion": "v1", "kind": "List", "items": made} if as_json else made, as_json=as_json, many=True)


def _cluster(settings: Settings | None, named: str) -> str:
    """Return which cluster the roles are for: what is armed may differ from one to the next."""
    if settings is None or not settings.clusters:
        return named or "default"
    every = list(settings.clusters)
    if named and named not in every:
        raise typer.BadParameter(f"--cluster {named}: configured are {', '.join(every)}")
    inside = [name for name, one in settings.clusters.items() if one.in_cluster]
    found = named or (every[0] if len(every) == 1 else inside[0] if len(inside) == 1 else "")
    if not found:
        raise typer.BadParameter(f"name one with --cluster: {', '.join(every)}")
    return found


def _armed(given: list[str], names: list[str]) -> list[ActEntry]:
    found: list[ActEntry] = []
    for one in given:
        name, _, namespace = one.partition("=")
        if name != "all" and name not in names:
            raise SettingsError(f"--arm {one}: there is no rule {name}; known are {', '.join(sorted(names))}")
        found += [
            parse_act({"rule": rule, "where": [f'namespace="{namespace}"']} if namespace else rule)
            for rule in (names if name == "all" else [name])
        ]
    return found


def _write(value: Any, *, as_json: bool, many: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(value, indent=2) + "\n")
    elif many:
        sys.stdout.write(yaml.safe_dump_all(value, sort_keys=False, explicit_start=True))
    else:
        sys.stdout.write(yaml.safe_dump(value, sort_keys=False, width=140))
