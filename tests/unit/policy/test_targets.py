"""Finding the one thing that an alert is about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.model.rule import TargetSpec
from responder.model.target import Lookup, LookupAnswer, Presence, Target, TargetKind
from responder.policy.targets import Ask, ClusterIdentity, Exporters, Resolved, Unresolved, resolve, telling
from responder.rules.matchers import parse_matchers
from tests import builders as make

PROD = ClusterIdentity(name="prod", labels=parse_matchers(['cluster="aks-prod"']))
ONLY = ClusterIdentity(name="only")


def find(
    labels: dict[str, str],
    *,
    kind: TargetKind = TargetKind.WORKLOAD,
    clusters: tuple[ClusterIdentity, ...] = (ONLY,),
    world: dict[str, str] | None = None,
    silent: bool = False,
) -> Resolved | Unresolved:
    """Resolve against a world of ``Kind/name`` to the owner's ``Kind/name``."""
    answers: dict[Lookup, LookupAnswer] = {}
    for _ in range(10):
        found = resolve(
            TargetSpec(kind=kind), make.alert(labels=labels), clusters=clusters, exporters=Exporters(), answers=answers
        )
        if not isinstance(found, Ask):
            return found
        for one in found.lookups:
            owner = (world or {}).get(f"{one.kind}/{one.name}")
            if silent:
                answers[one] = LookupAnswer(presence=Presence.UNKNOWN, detail="no answer")
            elif owner is None:
                answers[one] = LookupAnswer(presence=Presence.ABSENT, detail="absent")
            else:
                owner_kind, _, name = owner.partition("/")
                target = Target(
                    kind=kind,
                    cluster=one.cluster,
                    namespace=one.namespace,
                    name=name,
                    owner_kind=owner_kind if kind is TargetKind.WORKLOAD else "",
                )
                answers[one] = LookupAnswer(presence=Presence.FOUND, targets=(target,), detail=owner)
    raise AssertionError("it never comes to an end")


def test_the_exporters_own_pod_is_never_the_target() -> None:
    """kube-state-metrics' own labels stand on its alerts; the workload's label wins and the exporter's are dropped."""
    labels = {
        "namespace": "shop",
        "deployment": "api",
        "pod": "kube-prometheus-stack-kube-state-metrics-7c8b8bf58c-x4vcd",
        "container": "kube-state-metrics",
    }

    found = find(
        labels,
        world={
            "Deployment/api": "Deployment/api",
            "Pod/kube-prometheus-stack-kube-state-metrics-7c8b8bf58c-x4vcd": "Deployment/ksm",
        },
    )

    assert isinstance(found, Resolved)
    assert str(found.target) == "workload/shop/api"


def test_only_the_exporters_labels_is_no_target() -> None:
    """Nothing is left: unresolved, and it says why."""
    found = find({"namespace": "shop", "pod": "kube-state-metrics-7c8b-x4vcd", "job": "kube-state-metrics"})

    assert isinstance(found, Unresolved)
    assert "pod" in found.detail
    assert "exporter's own" in found.detail


def test_exported_labels_come_first() -> None:
    """``exported_namespace`` is the alert's, ``namespace`` the exporter's."""
    found = find(
        {"exported_namespace": "shop", "namespace": "monitoring", "deployment": "api"}, world={"Deployment/api": "Deployment/api"}
    )

    assert isinstance(found, Resolved)
    assert found.target.namespace == "shop"


def test_azures_controller_is_followed_to_its_owner() -> None:
    """``controller`` is a ReplicaSet's name without its kind."""
    found = find({"namespace": "shop", "controller": "api-7d4f9"}, world={"controller/api-7d4f9": "Deployment/api"})

    assert isinstance(found, Resolved)
    assert (found.target.owner_kind, found.target.name) == ("Deployment", "api")


@pytest.mark.parametrize(
    "labels",
    [{"namespace": "shop", "job": "x", "instance": "10.0.0.1:80", "container": "c"}, {"namespace": "shop"}, {}],
    ids=["job and instance", "namespace", "nothing"],
)
def test_what_names_no_workload_is_unresolved(labels: dict[str, str]) -> None:
    """Job, instance and container never name a target."""
    assert isinstance(find(labels), Unresolved)


def test_a_cluster_that_does_not_answer_leaves_the_literal_target() -> None:
    """It is asked again; nothing is guessed meanwhile."""
    found = find({"namespace": "shop", "deployment": "api"}, silent=True)

    assert isinstance(found, Unresolved)
    assert found.unknown
    assert found.narrowest.identity == "only/workload/shop/Deployment/api"


@pytest.mark.parametrize(
    ("labels", "clusters", "name"),
    [
        ({"cluster": "aks-prod"}, (PROD, ONLY), "prod"),
        ({}, (PROD,), "prod"),
        ({"cluster": "elsewhere"}, (PROD,), None),
        ({}, (PROD, ONLY), None),
        ({"cluster": "only"}, (PROD, ONLY), "only"),
    ],
    ids=["by label", "the only one", "fits none: never the only one", "two and no label", "by name"],
)
def test_exactly_one_cluster_must_fit(labels: dict[str, str], clusters: tuple[ClusterIdentity, ...], name: str | None) -> None:
    """A label that fits none is unresolved."""
    found = find(
        {"namespace": "shop", "deployment": "api", **labels}, clusters=clusters, world={"Deployment/api": "Deployment/api"}
    )

    assert (found.target.cluster if isinstance(found, Resolved) else None) == name


def test_a_claim_that_two_workloads_mount_is_not_guessed() -> None:
    """More than one is unresolved."""
    lookup = Lookup(kind="PersistentVolumeClaim", cluster="only", namespace="shop", name="data")
    targets = tuple(
        Target(kind=TargetKind.WORKLOAD, cluster="only", namespace="shop", name=name, owner_kind="Deployment")
        for name in ("a", "b")
    )

    found = resolve(
        TargetSpec(kind=TargetKind.WORKLOAD),
        make.alert(labels={"namespace": "shop", "persistentvolumeclaim": "data"}),
        clusters=(ONLY,),
        exporters=Exporters(),
        answers={lookup: LookupAnswer(presence=Presence.FOUND, targets=targets)},
    )

    assert isinstance(found, Unresolved)
    assert "several" in found.detail


def test_a_nodes_address_names_the_node() -> None:
    """``instance`` is a node when it is one's name or address."""
    lookup = Lookup(kind="node_address", cluster="only", namespace="", name="10.0.0.4")
    node = Target(kind=TargetKind.NODE, cluster="only", name="n1")

    found = resolve(
        TargetSpec(kind=TargetKind.NODE),
        make.alert(labels={"instance": "10.0.0.4:9100", "job": "node-exporter"}),
        clusters=(ONLY,),
        exporters=Exporters(),
        answers={lookup: LookupAnswer(presence=Presence.FOUND, targets=(node,))},
    )

    assert isinstance(found, Resolved)
    assert found.target == node


SAID = st.dictionaries(
    st.sampled_from(
        (
            "namespace",
            "pod",
            "deployment",
            "exported_pod",
            "exported_namespace",
            "job",
            "instance",
            "container",
            "service",
            "node",
            "cluster",
            "nodepool",
        )
    ),
    st.sampled_from(("", "shop", "api", "kube-state-metrics", "kube-state-metrics-1-x", "10.0.0.1:80", "aks-prod")),
)
OTHERS = st.dictionaries(st.sampled_from(("number", "reason", "severity", "uid", "le", "queue")), st.text(max_size=4))


@given(SAID, OTHERS, OTHERS, st.sampled_from(list(TargetKind)), st.sampled_from(((ONLY,), (PROD,), (PROD, ONLY), ())))
def test_alerts_that_name_the_same_thing_have_the_same_target(
    said: dict[str, str], one: dict[str, str], other: dict[str, str], kind: TargetKind, clusters: tuple[ClusterIdentity, ...]
) -> None:
    """What was found for one is taken for the other: a thousand alerts of a storm resolve their target once."""
    spec = TargetSpec(kind=kind)
    names = telling(spec, clusters)

    found = [
        resolve(spec, make.alert(name="Same", labels={**rest, **said}), clusters=clusters, exporters=Exporters(), answers={})
        for rest in (one, other)
    ]

    assert (names is None) == (kind is TargetKind.NONE)
    assert names is None or found[0] == found[1]


def test_where_any_label_may_count_no_answer_is_shared() -> None:
    """A template may name any label."""
    assert telling(TargetSpec(kind=TargetKind.WORKLOAD, name="${labels.queue}"), (ONLY,)) is None
