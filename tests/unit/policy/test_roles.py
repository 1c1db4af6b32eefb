"""The role definitions that ship with the chart are what the actions need, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from responder.policy.roles import OPERATION_READ, cloud_needs, role_definitions, roles_for
from responder.rules.arming import ActEntry, parse_act
from tests import builders as make

FILES = Path(__file__).parents[3] / "helm" / "files" / "azure"


@pytest.mark.parametrize("name", ["reader", "operations-reader", "machine-reader", "pools", "clusters", "last-resort"])
def test_a_shipped_role_is_what_the_catalogue_needs(name: str) -> None:
    """``responder azure roles --into helm/files/azure`` writes them when this fails."""
    assert json.loads((FILES / f"{name}.json").read_text()) == role_definitions(make.CATALOGUE)[name]


def test_no_role_grants_more_than_named_actions() -> None:
    """No wildcard, and no right to delete a pool or a cluster."""
    granted = [one for role in role_definitions(make.CATALOGUE).values() for one in role["Actions"]]

    assert granted
    assert not [one for one in granted if "*" in one or one.endswith("/delete")]


def test_only_armed_rules_need_writes() -> None:
    """Shadow only reads; the rungs are named so that people know what a missing permission costs."""
    rule = make.rule(ladder=[{"do": {"node_pool.scale": {"by": 1, "pool": "work"}}, "name": "grow", "within": "9m"}])
    write = "Microsoft.ContainerService/managedClusters/agentPools/write"

    assert write not in cloud_needs([rule], (), make.CATALOGUE, cluster="prod")
    needed = cloud_needs([rule], (ActEntry(rule="crash"),), make.CATALOGUE, cluster="prod")
    assert needed[write] == ("crash/grow",)
    assert needed[OPERATION_READ] == ("crash/grow",)
    assert roles_for(needed, make.CATALOGUE) == ("reader", "operations-reader", "machine-reader", "pools")


def test_what_is_armed_elsewhere_needs_nothing_here() -> None:
    """A rule that is armed for one cluster is no reason to look for its permissions on another."""
    rule = make.rule(ladder=[{"do": {"node_pool.scale": {"by": 1, "pool": "work"}}, "name": "grow", "within": "9m"}])
    act = (parse_act({"rule": "crash", "where": ['cluster="prod"']}),)

    assert "crash/grow" in {one for rungs in cloud_needs([rule], act, make.CATALOGUE, cluster="prod").values() for one in rungs}
    assert set(cloud_needs([rule], act, make.CATALOGUE, cluster="test").values()) == {("reading",)}
