"""Roles are derived from what is armed, and are the least that it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from responder.clusters.kubernetes import READS, KubernetesWatch
from responder.model.action import Permission
from responder.policy import rbac
from responder.rules.arming import parse_act
from responder.rules.load import load_rules
from tests.builders import CATALOGUE, rule

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = load_rules([ROOT / "rules"], catalogue=CATALOGUE.names).rules
PATCH = Permission(verb="patch", group="apps", resource="deployments")


def restarting(**changes: Any) -> Any:
    return rule(rule="restarting", ladder=[{"do": "workload.restart", "within": "5m"}], **changes)


def scope(*act: Any, cluster: str = "prod") -> Any:
    found = rbac.needs([restarting()], [parse_act(one) for one in act], CATALOGUE, cluster=cluster)
    return {one.permission: one.namespaces for one in found}.get(PATCH, "nothing")


@pytest.mark.parametrize(
    ("act", "where"),
    [
        ([], "nothing"),
        (["another"], "nothing"),
        (["restarting"], None),
        ([{"rule": "restarting", "where": ['namespace="shop"']}], {"shop"}),
        ([{"rule": "restarting", "where": ['namespace=~"shop|pay-1"']}], {"shop", "pay-1"}),
        ([{"rule": "restarting", "where": ['namespace=~"shop|pay"', 'namespace="pay"']}], {"pay"}),
        ([{"rule": "restarting", "where": ['namespace=~"sh.*"']}], None),
        ([{"rule": "restarting", "where": ['namespace!="kube-system"']}], None),
        ([{"rule": "restarting", "where": ['name="api"']}], None),
        ([{"rule": "restarting", "where": ['cluster="staging"']}], "nothing"),
        ([{"rule": "restarting", "where": ['cluster=~"pr.*"', 'namespace="shop"']}], {"shop"}),
        ([{"rule": "restarting", "where": ['namespace="a"']}, {"rule": "restarting", "where": ['namespace="b"']}], {"a", "b"}),
        ([{"rule": "restarting", "where": ['namespace="a"']}, "restarting"], None),
    ],
)
def test_a_permission_is_needed_where_its_rule_is_armed_and_nowhere_else(act: list[Any], where: Any) -> None:
    """A pattern that is no list of names means everywhere: a role cannot hold a pattern."""
    assert scope(*act) == where


def test_in_shadow_the_roles_only_read() -> None:
    """Nothing armed, nothing written; a self-review is a question."""
    made = rbac.manifests(rbac.needs(SHIPPED, [], CATALOGUE, cluster="prod"), reads=READS, name="r", namespace="ns")

    assert [(one["kind"], one["metadata"]["name"]) for one in made] == [
        ("ClusterRole", "r-read"),
        ("ClusterRoleBinding", "r-read"),
    ]
    writing = [one for one in made[0]["rules"] if set(one["verbs"]) - {"get", "list", "watch"}]
    assert [one["resources"] for one in writing] == [["selfsubjectaccessreviews"]]
    assert not {"secrets", "configmaps"} & {one for each in made[0]["rules"] for one in each["resources"]}


def test_each_rung_that_needs_a_permission_is_named() -> None:
    """A missing one is reported with what cannot be done without it."""
    (crash,) = [one for one in SHIPPED if one.name == "pod-crash-loop"]
    found = {one.permission: one.rungs for one in rbac.needs([crash], [parse_act("pod-crash-loop")], CATALOGUE, cluster="prod")}

    assert found[PATCH] == ("pod-crash-loop/workload.restart", "pod-crash-loop/workload.rollback")


@given(
    st.lists(
        st.sampled_from(sorted({(p.verb, p.group, p.resource) for one in SHIPPED for p in rbac.permissions_of(one, CATALOGUE)}))
    )
)
def test_policy_rules_grant_exactly_what_was_asked(asked: list[tuple[str, str, str]]) -> None:
    """Sharing a rule between resources grants no pair that nobody asked for."""
    made = rbac.policy_rules([Permission(verb=verb, group=group, resource=resource) for verb, group, resource in asked])

    assert {(v, g, r) for one in made for v in one["verbs"] for g in one["apiGroups"] for r in one["resources"]} == set(asked)


def test_the_chart_holds_the_table_that_is_derived_from_the_shipped_rules() -> None:
    """Made anew by: responder rbac --rules rules/ --chart > helm/files/permissions.yaml."""
    made = rbac.chart_table(SHIPPED, CATALOGUE, reads=READS)

    assert yaml.safe_load((ROOT / "helm" / "files" / "permissions.yaml").read_text()) == made


def test_only_what_is_followed_may_be_watched_and_nothing_is_read_that_nobody_asks_for() -> None:
    """The reading role is as narrow as the writing one: a watch needs the verb on what it follows, and no claim, ConfigMap or Secret is ever read."""
    followed = {one._path.rsplit("/", 1)[1] for one in KubernetesWatch("prod", None, now=None, sleep=None)._informers}  # type: ignore[arg-type]

    assert {one.resource for one in READS if one.verb == "watch"} == followed
    assert {one.verb for one in READS if one.resource == "events"} == {"list"}
    assert not {"persistentvolumeclaims", "configmaps", "secrets"} & {one.resource for one in READS}


def test_an_identity_from_outside_is_bound_as_a_user() -> None:
    """An AKS cluster that is reached by its resource id knows us by our object id, in every binding."""
    made = rbac.manifests(rbac.needs(SHIPPED, [], CATALOGUE, cluster="prod"), reads=READS, name="r", namespace="ns", user="oid")

    subjects = [one["subjects"] for one in made if one["kind"].endswith("Binding")]
    assert subjects == [[{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "oid"}]] * len(subjects)
    assert subjects
