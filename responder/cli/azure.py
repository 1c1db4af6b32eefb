"""``responder azure``: setting an installation up in Azure. Calls nothing there."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from responder.actions.catalogue import catalogue
from responder.cli.azure_guide import RoleNeed, guide
from responder.model.errors import SettingsError
from responder.policy.roles import cloud_needs, role_definitions, roles_for
from responder.rules.load import load_rules
from responder.settings import Settings, load_settings

app = typer.Typer(help="Set an installation up in Azure.", no_args_is_help=True)
err = Console(stderr=True, soft_wrap=True, highlight=False)


@app.callback()
def group() -> None:
    """Set an installation up in Azure."""


@app.command("setup-guide")
def setup_guide(
    config: Annotated[Path, typer.Option("--config", envvar="RESPONDER_CONFIG", help="responder.yaml.")] = Path(
        "/etc/responder/responder.yaml"
    ),
    release: Annotated[str, typer.Option("--release", help="The helm release: the service account's name.")] = "responder",
    namespace: Annotated[str, typer.Option("--namespace", help="Its namespace.")] = "responder",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the az commands that set this installation up, with its names filled in, as a bash script.

    What responder.yaml does not say is a variable that the script asks for; each is named on stderr, and the exit code is 1.
    """
    settings = load_settings(config)
    found = guide(settings, release=release, namespace=namespace, roles=_roles_of(settings))
    if as_json:
        missing = [{"variable": variable, "what": what} for variable, what in found.missing]
        sys.stdout.write(json.dumps({"steps": [asdict(one) for one in found.steps], "missing": missing}, indent=2) + "\n")
    else:
        sys.stdout.write(found.script())
    for variable, what in found.missing:
        err.print(f"{variable} is not in {config}: {what}", markup=False)
    raise typer.Exit(1 if found.missing else 0)


def _roles_of(settings: Settings) -> dict[str, list[RoleNeed]]:
    """Return the roles that each cluster's reading and armed rules need.

    Raises:
        SettingsError: The rules are not good.
    """
    known = catalogue()
    try:
        rules = load_rules(settings.paths(), catalogue=known.names, overrides=settings.rules).rules
    except ExceptionGroup as group:
        raise SettingsError("; ".join(str(one) for one in group.exceptions)) from group
    definitions = role_definitions(known)
    found: dict[str, list[RoleNeed]] = {}
    for name in settings.clusters:
        needed = cloud_needs(rules, settings.act_entries(), known, cluster=name)
        found[name] = []
        for file in roles_for(needed, known):
            role = definitions[file]
            rungs = dict.fromkeys(rung for action in role["Actions"] for rung in needed.get(action, ()))
            found[name].append(RoleNeed(file=file, name=role["Name"], rungs=tuple(rungs)))
    return found


@app.command("roles")
def roles(
    into: Annotated[Path | None, typer.Option("--into", help="Write one file a role here; else all are printed.")] = None,
    scope: Annotated[
        str, typer.Option("--scope", help="Where they may be assigned: a subscription's or resource group's id.")
    ] = "/subscriptions/SUBSCRIPTION",
) -> None:
    """Print the least custom roles as JSON, in the form that ``az role definition create --role-definition`` takes.

    They are derived from the actions; the chart ships them in files/azure.
    """
    found = role_definitions(catalogue(), scope=scope)
    if into is None:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    into.mkdir(parents=True, exist_ok=True)
    for name, role in found.items():
        (into / f"{name}.json").write_text(json.dumps(role, indent=2) + "\n")
        err.print(f"{into / name}.json: {role['Description']}", markup=False)
