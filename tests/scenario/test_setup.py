"""Setting up and trying out: the guide's script, and a test alert of every kind, as a person runs them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from responder.cli.main import app
from responder.cli.samples import samples
from responder.model.errors import ResponderError
from responder.sources import SOURCES
from tests.builders import NOON
from tests.fakes.entra import CLIENT_ID, TENANT, Entra
from tests.scenario.conftest import World

OURS = "00000000-0000-0000-0000-00000000000a"
CLUSTER = f"/subscriptions/{OURS}/resourceGroups/rg-prod/providers/Microsoft.ContainerService/managedClusters/aks-prod"
CHART = Path(__file__).resolve().parents[2] / "helm"
WHOLE: dict[str, Any] = {
    "http": {
        "public_url": "https://responder.contoso.com/",
        "tokens": [{"name": "a", "roles": ["send"], "secret": {"env": "T"}}],
        "entra": {"tenant": TENANT, "audiences": [f"api://{CLIENT_ID}", CLIENT_ID]},
    },
    "azure": {"credential": "workload_identity"},
    "clusters": {"prod": {"in_cluster": True, "resource_id": CLUSTER}},
    "sources": {
        "secure": {"kind": "azure_monitor", "entra": {}, "subscriptions": [OURS], "ask": {}},
        "plain": {"kind": "azure_monitor"},
        "grid": {"kind": "event_grid", "topics": [f"/subscriptions/{OURS}"], "entra": {}},
        "bus": {"kind": "service_bus", "namespace": "contoso.servicebus.windows.net", "queue": "alerts"},
        "road": {
            "kind": "service_bus",
            "namespace": "other.servicebus.windows.net",
            "topic": "events",
            "subscription": "responder",
        },
    },
}
AZ = """#!/usr/bin/env bash
# A double of az: writes down what it is asked, one line each in one write (a pipe runs two at once), and answers every query with its own name.
line=$(printf '%q ' "$@"); printf '%s\\n' "$line" >> "$AZ_LOG"
for one in "$@"; do case "$one" in --query) echo "answer";; esac; done
case "$*" in *" show "*"--output none"*) exit 3;; esac
"""


def cli(*arguments: str, **env: str) -> tuple[int, str, str]:
    """Run the command line in this process; return its exit code and what it prints. A process of its own costs seconds."""
    done = CliRunner().invoke(app, list(arguments), env=env)
    if isinstance(done.exception, ResponderError):  # said by ``main``, which is round it
        return 1, done.stdout, str(done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def guide(folder: Path, config: dict[str, Any], *options: str) -> tuple[int, str, str]:
    path = folder / "responder.yaml"
    path.write_text(yaml.safe_dump(config))
    return cli("azure", "setup-guide", "--config", str(path), *options)


def ran(folder: Path, script: str, **env: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run a script with doubles of az, curl, kubectl and responder; return it and what they were asked."""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    for name in ("az", "responder", "curl", "kubectl"):
        (tools / name).write_text(AZ)
        (tools / name).chmod(0o755)
    log = folder / "az.log"
    log.write_text("")
    given = {"PATH": f"{tools}:{os.environ['PATH']}", "AZ_LOG": str(log), "CHART": str(CHART), **env}
    done = subprocess.run([str(shutil.which("bash"))], input=script, capture_output=True, text=True, check=False, env=given)
    return done, log.read_text().splitlines()


def test_the_guide_is_a_script_that_runs_with_this_installations_names(tmp_path: Path) -> None:
    """Every variable is set before it is used, every name is ours, and no secret is printed."""
    code, script, said = guide(tmp_path, WHOLE, "--release", "resp", "--namespace", "ops")

    assert (code, said) == (0, "")
    result, asked = ran(tmp_path, script, WEBHOOK_TOKEN="t0k3n", RESPONDER_TOKEN="x", RESPONDER_URL="http://127.0.0.1:1")
    assert result.returncode == 0, result.stderr
    text = "\n".join(asked)
    for part in (
        "--subject system:serviceaccount:ops:resp",
        "--action webhook responder https://responder.contoso.com/v1/alerts/azure-monitor/secure useaadauth answer api://"
        + CLIENT_ID,
        r"https://responder.contoso.com/v1/alerts/azure-monitor/plain\?token=t0k3n usecommonalertschema",
        "--endpoint https://responder.contoso.com/v1/alerts/event-grid/grid --azure-active-directory-tenant-id " + TENANT,
        f"--topic-type Microsoft.ContainerService.ManagedClusters --source {CLUSTER}",
        "microsoft.resourcenotifications.healthresources",
        f"--subject-begins-with /subscriptions/{OURS}/resourceGroups/answer/",
        "servicebus queue create --name alerts --namespace-name contoso",
        r"Azure\ Service\ Bus\ Data\ Receiver --scope answer/queues/alerts",
        "topic subscription create --name responder --topic-name events --namespace-name other",
        f"Monitoring\\ Reader --scope /subscriptions/{OURS}",
        "ActionGroupsSecureWebhook",
        "AzureEventGridSecureWebhookSubscriber",
        "test-notifications create --action-group ag-resp-secure",
    ):
        assert part in text, part
    assert "t0k3n" not in script
    assert "?" not in "".join(line for line in script.splitlines() if line.startswith("#")), "comments say what they mean"
    for line in (one for one in asked if "appRoles" in one):
        assert json.loads(
            subprocess.run(["bash", "-c", f'set -- {line}; echo "${{@: -1}}"'], capture_output=True, text=True, check=True).stdout
        )


def test_the_guide_gives_each_role_where_azure_looks_for_it(tmp_path: Path) -> None:
    """Machines are in the node resource group, operations lie on the subscription, writes are for armed rules and only on the clusters they are armed for."""
    other = CLUSTER.replace(OURS, "00000000-0000-0000-0000-00000000000b").replace("aks-prod", "aks-test")
    config = {
        **WHOLE,
        "clusters": {**WHOLE["clusters"], "test": {"resource_id": other}},
        "home": {"cluster": "prod"},
        "act": [{"rule": "node-not-ready", "where": ['cluster="test"']}],
        "channels": {"people": {"kind": "teams", "url": {"env": "T"}}},
        "policies": {"on-call": {"levels": [{"channels": ["people"]}]}},
        "routes": {"default": "on-call"},
    }
    shadow = guide(tmp_path, WHOLE)[1]
    code, script, said = guide(tmp_path, config)

    assert (code, said) == (0, "")
    result, asked = ran(tmp_path, script, WEBHOOK_TOKEN="t", RESPONDER_TOKEN="x", RESPONDER_URL="u")

    assert result.returncode == 0, result.stderr
    given = {line.split("--role ")[1].split(" --output")[0] for line in asked if "assignment create" in line}
    group = "/subscriptions/{}/resourceGroups/answer"
    assert {f"Responder\\ AKS\\ reader --scope {one}" for one in (CLUSTER, other)} <= given
    assert {f"Responder\\ AKS\\ operations\\ reader --scope {one.rsplit('/', 6)[0]}" for one in (CLUSTER, other)} <= given
    assert {f"Responder\\ machine\\ reader --scope {group.format(one.split('/')[2])}" for one in (CLUSTER, other)} <= given
    assert [one for one in given if "pools" in one] == [f"Responder\\ AKS\\ pools --scope {other}"]
    made = [line for line in asked if "definition create" in line]
    assert all(OURS in line and "00000000000b" in line and "/SUBSCRIPTION" not in line for line in made), made
    assert "# node-not-ready/replace" in script
    assert "rbac --config responder.yaml --cluster test --user answer " in asked
    assert "--context test apply --filename - " in asked
    assert not [line for line in asked if "--cluster prod" in line], "where it runs, the chart gives it its roles"
    assert "Responder AKS pools" not in shadow


def test_what_the_configuration_does_not_say_is_asked_for(tmp_path: Path) -> None:
    """Exit code 1, named on stderr and as a variable that stops the script; with it in the environment the script goes on."""
    config = {
        "http": {"authentication": False},
        "sources": {
            "ag": {"kind": "azure_monitor"},
            "bus": {"kind": "service_bus", "connection_string": {"env": "T"}, "queue": "q"},
        },
    }

    code, script, said = guide(tmp_path, config)
    stopped, _ = ran(tmp_path, script)
    env = {"SUBSCRIPTION": OURS, "GROUP": "g", "PUBLIC_URL": "https://x.example", "BUS_BUS": "b", "WEBHOOK_TOKEN": "t"}
    went, asked = ran(tmp_path, script, RESPONDER_TOKEN="x", RESPONDER_URL="u", **env)

    assert code == 1
    assert [line.split(" ", 1)[0] for line in said.splitlines()] == ["SUBSCRIPTION", "GROUP", "PUBLIC_URL", "BUS_BUS"]
    assert stopped.returncode != 0
    assert "SUBSCRIPTION" in stopped.stderr
    assert went.returncode == 0, went.stderr
    assert any(r"https://x.example/v1/alerts/azure-monitor/ag\?token=t" in line for line in asked)


def test_names_from_the_configuration_are_never_commands(tmp_path: Path) -> None:
    """Sources, queues, clusters and addresses may be called anything; the script names them and runs nothing of them."""
    run = f"touch {tmp_path / 'owned'}"
    evil = f"q'; {run}; '$({run})`{run}`\"; {run}; \"\n{run}\n"
    config = {
        "http": {**WHOLE["http"], "public_url": f"https://x.example/$({run})'\"{evil}"},
        "azure": {},
        "clusters": {
            evil: {"in_cluster": True, "resource_id": CLUSTER.replace("aks-prod", f"$({run.replace('/', '')})'")},
            f"{evil}2": {"resource_id": CLUSTER.replace("aks-prod", f"$({run.replace('/', '')})'2")},
        },
        "sources": {
            evil: {"kind": "service_bus", "namespace": f"{evil}.servicebus.windows.net", "queue": evil},
            f"{evil}2": {"kind": "azure_monitor", "subscriptions": [OURS], "ask": {}},
            f"{evil}3": {"kind": "event_grid", "topics": [f"/subscriptions/{OURS}"], "entra": {}},
            f"{evil}4": {"kind": "service_bus", "connection_string": {"env": "T"}, "topic": evil, "subscription": evil},
        },
    }
    _, script, said = guide(tmp_path, config, "--release", evil, "--namespace", evil)

    unsaid = {line.split(" ", 1)[0]: "b" for line in said.splitlines() if line.startswith(("BUS_", "SUB", "GROUP"))}
    result, asked = ran(tmp_path, script, RESPONDER_TOKEN="x", RESPONDER_URL="u", WEBHOOK_TOKEN="t", **unsaid)

    assert "az servicebus" in script, said
    assert result.returncode == 0, result.stderr
    assert len(asked) > 20
    assert not (tmp_path / "owned").exists()


def test_the_guide_as_json_has_the_same_steps(tmp_path: Path) -> None:
    """For other programs; and a file that is not there is exit code 1, an unknown option 2."""
    found = json.loads(guide(tmp_path, WHOLE, "--json")[1])
    missing, _, said = cli("azure", "setup-guide", "--config", "/nowhere")

    assert [step["title"] for step in found["steps"]][:4] == [
        "Names", "Identity, federated with the service account", "Roles of the identity", "Entra application for secure webhooks",
    ]  # fmt: skip
    assert found["missing"] == []
    assert (missing, "/nowhere cannot be read" in said) == (1, True)
    assert guide(tmp_path, WHOLE, "--nonsense")[0] == 2


def test_roles_are_for_the_cluster_that_is_meant(tmp_path: Path) -> None:
    """The only one, or the one that is named; a name that is not configured is no cluster in which nothing is armed."""
    config = {
        "http": {"authentication": False},
        "clusters": {"prod": {"kubeconfig": "k"}},
        "act": [{"rule": "pod-crash-loop", "where": ['cluster="prod"', 'namespace="shop"']}],
        "channels": {"people": {"kind": "teams", "url": {"env": "T"}}},
        "policies": {"on-call": {"levels": [{"channels": ["people"]}]}},
        "routes": {"default": "on-call"},
    }
    path = tmp_path / "responder.yaml"
    path.write_text(yaml.safe_dump(config))
    only, roles, _ = cli("rbac", "--config", str(path))
    wrong, _, said = cli("rbac", "--config", str(path), "--cluster", "prdo")
    path.write_text(yaml.safe_dump({**config, "clusters": {"prod": {}, "test": {}}}))
    unsaid, _, asked = cli("rbac", "--config", str(path))
    named, other, _ = cli("rbac", "--config", str(path), "--cluster", "test")

    assert (only, wrong, unsaid, named) == (0, 2, 2, 0)
    assert "namespace: shop" in roles
    assert "configured are prod" in said
    assert "prod, test" in asked
    assert "patch" not in other


def test_every_sample_is_understood_as_a_test_and_is_one_of_its_own() -> None:
    """No two share an instance but a firing and its end; all bear the mark."""
    found = samples(now=NOON, mark="test-1", labels={"namespace": "shop"})
    alerts = [SOURCES[one.source](one.body, source_name="s", received_at=NOON).alerts[0] for one in found]

    assert all(one.test for one in alerts)
    assert len({one.instance for one in alerts}) == len(found) - 1
    assert all((one.labels.get("responder_test") or one.annotations["responder_test"]).startswith("test-1") for one in alerts)
    assert alerts[0].labels["namespace"] == "shop"
    assert {one.kind for one in found} >= {
        "servicehealth", "metricstaticthreshold", "metricsdynamicthreshold", "logalertv2", "smartalert", "webtestalert", "logalertv1numresult",
        "logalertv1metricmeasurement", "resourcehealth", "activitylog", "actualcostbudget", "forecastedbudget", "prometheus",
    }  # fmt: skip


async def sent(world: World, *options: str, token: str = "all") -> tuple[int, Any, str]:
    code, out, err = await asyncio.to_thread(cli, "send-test", *options, RESPONDER_URL=world.parts.url, RESPONDER_TOKEN=token)
    return code, json.loads(out) if "--json" in options and out else out, err


async def test_a_test_alert_of_every_kind_arrives_and_nothing_is_done(world: World) -> None:
    """Twice, for the second run is no repeat of the first; a rule that is armed would have matched, and its target is found."""
    world.cluster.deployment("shop", "api", image="x")
    world.config["sources"] = {
        "prometheus": {"kind": "alertmanager"}, "group": {"kind": "azure_monitor"}, "grid": {"kind": "event_grid", "topics": [f"/subscriptions/{OURS}"]},
    }  # fmt: skip
    await world.start()

    code, first, said = await sent(
        world, "--json", "--label", "namespace=shop", "--label", "deployment=api", "--label", "cluster=sandbox"
    )
    again, text, _ = await sent(world, "--kind", "firing", "--kind", "NodePoolRollingFailed")

    assert code == 0, [one for one in first["sent"] if not one["well"]] or said
    assert len(first["sent"]) == 21
    firing = next(one for one in first["sent"] if one["kind"] == "firing")["explained"]["alerts"][0]
    assert "workload/shop/Deployment/api" in firing["would"]
    assert firing["outcome"] == "a sender's test: recorded, never acted on"
    assert again == 0
    assert "were it real: joins or opens" in text
    assert "2 posted, 0 not posted, 0 with a problem" in text
    assert await world.incidents() == []
    assert await world.parts.store.incidents(unclosed=False, limit=9) == []


async def test_what_only_azure_can_post_is_said_and_is_no_failure(world: World) -> None:
    """A secure webhook takes no token of a person's."""
    async with Entra() as entra:
        world.config["http"]["entra"] = entra.settings()
        world.config["sources"] = {"secure": {"kind": "azure_monitor", "entra": {}}}
        await world.start()

        code, found, _ = await sent(world, "--json", "--source", "secure")
        everything, all_of_it, _ = await sent(world, "--json")
        wrong, _, said = await sent(world, "--source", "nobody")
        bad, _, _ = await sent(world, "--label", "nonsense")

    assert code == 0
    assert {one["skipped"].split(":")[0] for one in found["sent"]} == {"only Azure can post here (tokens that Entra ID signs)"}
    assert everything == 0
    assert {one["name"] for one in all_of_it["sent"]} == {"secure", "send-test", ""}
    assert (wrong, bad) == (2, 2)
    assert "configured are secure" in said


async def test_a_service_that_refuses_is_a_problem_with_its_words(world: World) -> None:
    """A token that may look and not send: exit code 1; nobody there: the same."""
    await world.start()

    code, out, _ = await sent(world, "--kind", "firing", token="viewer")
    nobody, _, said = await asyncio.to_thread(cli, "send-test", RESPONDER_URL="http://127.0.0.1:1", RESPONDER_TOKEN="x")

    assert code == 1
    assert "may not send as send-test" in out
    assert nobody == 1
    assert "is the service running there?" in said
