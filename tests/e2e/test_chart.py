"""The chart, by a real helm: linted, rendered, compared, and its permissions judged by a real API server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from responder.actions.catalogue import catalogue
from responder.policy.rbac import WIDE, permissions_of
from responder.rules.load import load_rules
from responder.settings import load_settings
from tests.e2e.conftest import ROOT, ControlPlane, require

CHART = ROOT / "helm"
SHIPPED = load_rules([ROOT / "rules"], catalogue=catalogue().names).rules
SNAPSHOTS = Path(__file__).parent / "chart"


def helm(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    binary = require("helm", within_assets="helm")
    return subprocess.run([binary, *arguments], capture_output=True, text=True, check=check)


def rendered(*arguments: str) -> list[dict[str, Any]]:
    out = helm("template", "night", str(CHART), "--namespace", "responder", *arguments).stdout
    return [one for one in yaml.safe_load_all(out) if one]


def one(kind: str, documents: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


ARMED = ("--set-json", 'config.act=["pod-crash-loop"]', "--set-json", 'rbac.write.namespaces=["shop"]')


def test_the_chart_is_lint_free() -> None:
    """Strict."""
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART)).stdout


@pytest.mark.parametrize("name", ["default", "armed"])
def test_the_rendered_chart_is_the_reviewed_one(name: str) -> None:
    """A change of what is installed is seen in review; the snapshot is made by hand, with helm template."""
    out = helm("template", "night", str(CHART), "--namespace", "responder", *(ARMED if name == "armed" else ())).stdout

    assert list(yaml.safe_load_all(out)) == list(yaml.safe_load_all((SNAPSHOTS / f"{name}.yaml").read_text()))


def test_one_replica_recreate_block_volume_and_a_locked_down_pod() -> None:
    """SQLite is one process; nothing but /data and /tmp is written."""
    documents = rendered()
    spec = one("Deployment", documents)["spec"]
    pod = spec["template"]["spec"]
    container = pod["containers"][0]

    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert one("PersistentVolumeClaim", documents)["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")} == {"/data", "/tmp"}
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)
    assert one("PodDisruptionBudget", documents)["spec"]["maxUnavailable"] == 1
    assert one("NetworkPolicy", documents)["spec"]["policyTypes"] == ["Ingress", "Egress"]


SHARED = ("--set", "config.store.url.file=/etc/responder/secrets/database-url", "--set", "replicas=3")


def test_on_postgresql_any_number_of_replicas_rolls_and_keeps_nothing_in_the_pod(tmp_path: Path) -> None:
    """No volume, no Recreate; the rendered configuration is one that the program takes."""
    documents = rendered(*SHARED)
    spec = one("Deployment", documents)["spec"]
    pod = spec["template"]["spec"]
    path = tmp_path / "responder.yaml"
    path.write_text(one("ConfigMap", documents)["data"]["responder.yaml"])

    assert (spec["replicas"], spec["strategy"]["rollingUpdate"]) == (3, {"maxUnavailable": 0, "maxSurge": 1})
    assert not [document for document in documents if document["kind"] == "PersistentVolumeClaim"]
    assert "data" not in {volume["name"] for volume in pod["volumes"]}
    assert len(pod["topologySpreadConstraints"]) == 2
    assert one("PodDisruptionBudget", documents)["spec"]["maxUnavailable"] == 1
    assert {"port": 5432, "protocol": "TCP"} in one("NetworkPolicy", documents)["spec"]["egress"][1]["ports"]
    settings = load_settings(path)
    assert (settings.store.kind, settings.store.url is not None) == ("postgresql", True)


def test_secrets_are_only_referred_to() -> None:
    """No Secret is made, none is inline, and none may be read through the API."""
    documents = rendered()

    assert not [document for document in documents if document["kind"] == "Secret"]
    assert "secrets" not in json.dumps([document.get("rules") for document in documents if "Role" in document["kind"]])


def test_in_shadow_nothing_may_be_written() -> None:
    """The default installation only reads."""
    verbs = {
        verb
        for document in rendered()
        for rule in document.get("rules", [])
        if "Role" in document["kind"]
        for verb in rule["verbs"]
        if rule["apiGroups"] != ["authorization.k8s.io"]
    }

    assert verbs == {"get", "list", "watch"}


def granted(role: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {
        (verb, group, resource)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


@pytest.mark.parametrize("name", [rule.name for rule in SHIPPED])
def test_arming_a_rule_grants_exactly_what_its_ladder_writes(name: str) -> None:
    """Each action lists its permissions; a role is the union over the armed rules, and nothing more."""
    (rule,) = [rule for rule in SHIPPED if rule.name == name]
    needed = {(one.verb, one.group, one.resource) for one in permissions_of(rule, catalogue())}
    documents = rendered("--set-json", f'config.act=["{name}"]', "--set-json", 'rbac.write.namespaces=["shop"]')
    writing = [one for one in documents if one["kind"] in {"Role", "ClusterRole"} and one["metadata"]["name"] == "night-write"]

    assert [one["metadata"].get("namespace") for one in writing] == (
        [] if not needed else [None] if rule.target.kind in WIDE else ["shop"]
    )
    assert not needed or granted(writing[0]) == needed


def test_namespaces_alone_grant_nothing() -> None:
    """What is in shadow needs only to look, wherever it could be armed."""
    kinds = {one["kind"] for one in rendered("--set-json", 'rbac.write.namespaces=["shop"]', "--set", "rbac.write.all=true")}

    assert "Role" not in kinds
    assert [one["metadata"]["name"] for one in rendered("--set", "rbac.write.all=true") if one["kind"] == "ClusterRole"] == [
        "night-read"
    ]


def test_a_rule_of_ones_own_brings_its_permissions_or_is_refused() -> None:
    """The chart cannot derive them; it says which command does."""
    done = helm("template", "night", str(CHART), "--set-json", 'config.act=["mine"]', check=False)
    given = '[{"apiGroups":["apps"],"resources":["deployments/scale"],"verbs":["patch"]}]'
    own = ("--set-json", 'config.act=[{"rule":"mine"}]', "--set-json", f"rbac.write.permissions={given}")

    assert done.returncode != 0
    assert "responder rbac" in done.stderr
    assert granted(one("Role", rendered(*own, "--set-json", 'rbac.write.namespaces=["shop"]'))) == {
        ("patch", "apps", "deployments/scale")
    }


def test_the_configuration_in_the_chart_is_one_that_the_program_takes(tmp_path: Path) -> None:
    """The rendered responder.yaml is loaded by the very loader."""
    config = one("ConfigMap", rendered())["data"]["responder.yaml"]
    path = tmp_path / "responder.yaml"
    path.write_text(config)

    settings = load_settings(path)

    assert settings.store.path == "/data/responder.sqlite"
    assert settings.clusters["default"].in_cluster


@pytest.mark.parametrize(
    "arguments",
    [
        ("--set", "replicas=2"),
        ("--set", "config.store.kind=postgresql"),
        ("--set", "config.store.url.inline=postgresql://ana:secret@db/x"),
        ("--set", "config.store.path=/tmp/x"),
        ("--set", "image.digest=latest"),
        ("--set", "typo=1"),
        ("--set-json", "config.http.tokens=[]"),
    ],
    ids=[
        "two replicas on SQLite",
        "PostgreSQL without a URL",
        "a URL in the values",
        "a path outside the volume",
        "a digest that is none",
        "an unknown key",
        "no tokens",
    ],
)
def test_bad_values_are_refused(arguments: tuple[str, ...]) -> None:
    """By the values schema, before anything is installed."""
    done = helm("template", "night", str(CHART), *arguments, check=False)

    assert done.returncode != 0
    assert "schema" in done.stderr or "values" in done.stderr


async def test_a_real_api_server_takes_the_chart_and_holds_its_permissions(control_plane: ControlPlane) -> None:
    """Installed by helm; the service account can read everywhere, write in shop only, and read no secret."""

    def kubectl(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [control_plane.kubectl, "--kubeconfig", str(control_plane.kubeconfig), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )

    assert kubectl("create", "namespace", "shop").returncode == 0
    helm(
        "install",
        "night",
        str(CHART),
        "--namespace",
        "responder",
        "--create-namespace",
        "--kubeconfig",
        str(control_plane.kubeconfig),
        *ARMED,
    )

    def can(*question: str) -> bool:
        return kubectl("auth", "can-i", *question, "--as=system:serviceaccount:responder:night").stdout.strip() == "yes"

    assert can("list", "pods", "-A")
    assert can("get", "pods", "--subresource=log", "-n", "other")
    assert can("patch", "deployments", "-n", "shop")
    assert can("delete", "pods", "-n", "shop")
    assert not can("create", "pods", "--subresource=eviction", "-n", "shop")  # no rung of the armed rule evicts
    assert not can("patch", "deployments", "-n", "other")
    assert not can("get", "secrets", "-n", "shop")
    assert not can("delete", "namespaces", "shop")
