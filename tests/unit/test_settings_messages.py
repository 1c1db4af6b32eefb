"""What is said about a ``responder.yaml`` that cannot be used: where, what is wrong, what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from responder.app import bus_of, identity_of, shared_secret
from responder.cli.main import app
from responder.http.auth import Role, token
from responder.model.errors import SettingsError
from responder.settings import ServiceBusSettings, load_settings

GOOD = """http: {tokens: [{name: ops, roles: [view], secret: {env: OPS}}]}
clusters: {prod: {kubeconfig: /nowhere}}
channels: {t: {kind: teams, url: {env: TEAMS}}}
policies: {p: {levels: [{channels: [t]}]}}
routes: {default: p}
"""


def said(folder: Path, text: str) -> str:
    path = folder / "responder.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("retension: {alerts: 3d}", "6:1: retension: unknown key; did you mean retention?"),
        ("retention: {alert: 3d}", "6:13: retention.alert: unknown key; did you mean alerts?"),
        ("sources: {a: {kind: alertmanager, asks: {}}}", "6:35: sources.a.asks: unknown key; did you mean ask?"),
        ("sources: {a: {kind: prometheus}}", "6:14: sources.a: kind 'prometheus' is not known here; expected 'webhook'"),
        ("limits: {unhealthy_nodes: 30}", "6:27: limits.unhealthy_nodes: 30 is not a share; expected for example 30%"),
        ("limits: {in_flight: -1}", "6:21: limits.in_flight: -1 is too small; expected at least 0"),
        ("limits:", "6:8: limits: is empty; expected a mapping with the keys group_wait"),
        ("heartbeat: {url: https://hc.example/s3cret}", "6:18: heartbeat.url: expected {file: PATH} or {env: NAME}"),
        ("home: {cluster: prud}", "6:17: home.cluster: there is no cluster prud; clusters has prod"),
        ("rules: {pod-crash-loop: {ownr: me}}", "6:26: rules.pod-crash-loop.ownr: unknown key; did you mean owner?"),
    ],
    ids=["key", "nested key", "key of a source", "kind of a source", "share", "too small", "empty", "inline secret", "no such cluster", "override"],
)  # fmt: skip
def test_a_mistake_is_told_where_it_stands_with_what_was_expected(tmp_path: Path, more: str, message: str) -> None:
    """In the same words as a rule's; what could be a secret is not repeated."""
    told = said(tmp_path, f"{GOOD}{more}\n")

    assert told.startswith(f"responder.yaml:{message}")
    assert "s3cret" not in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("roles: [view]", "roles: [everything]", "http.tokens.0.roles.0: 'everything' is not known here; expected 'send'"),
        ("roles: [view]", "roles: []", "http.tokens.0.roles: is empty; expected at least one"),
        ("{env: OPS}", "hunter2", "http.tokens.0.secret: expected {file: PATH} or {env: NAME}; secrets are never written inline"),
        ("url: {env: TEAMS}", "token: {env: TEAMS}", "channels.t: kind teams needs url"),
        ("default: p", "default: q", "routes.default: there is no policy q; policies has p"),
        ("default: p", "high: p", "routes.high: no such severity"),
        ("levels: [{channels: [t]}]", "level: 3", "policies.p.level"),
    ],
    ids=["role", "no role", "inline token", "channel without an address", "no such policy", "no such severity", "misspelt required key"],
)  # fmt: skip
def test_a_wrong_value_is_told_before_anything_starts(tmp_path: Path, old: str, new: str, message: str) -> None:
    """``responder check`` needs no secret to find it; a line and a column are named."""
    told = said(tmp_path, GOOD.replace(old, new))

    assert message in told
    assert not told.startswith("responder.yaml:1:1: ")
    assert "hunter2" not in told


def test_check_finds_an_armed_rule_that_does_not_exist(tmp_path: Path) -> None:
    """``act:`` is what acts at night; serve would refuse to start, so that check must say so before."""
    (tmp_path / "responder.yaml").write_text(f"{GOOD}act: [pod-crash-lop]\n")

    found = CliRunner().invoke(app, ["check", "--config", str(tmp_path / "responder.yaml")])

    assert found.exit_code == 1
    assert "act: there is no rule pod-crash-lop; known are " in found.output


def test_check_warns_of_arming_for_a_cluster_that_is_not_configured(tmp_path: Path) -> None:
    """A mistyped cluster arms nothing: nobody is harmed and nobody is helped, and nothing would say so."""
    (tmp_path / "responder.yaml").write_text(f"{GOOD}act: [{{rule: pod-crash-loop, where: ['cluster=\"prud\"']}}]\n")

    found = CliRunner().invoke(app, ["check", "--config", str(tmp_path / "responder.yaml")])

    assert found.exit_code == 0
    assert (
        'warning: act: pod-crash-loop where cluster="prud" arms nothing: there is no cluster prud; clusters has prod'
        in found.output
    )


@pytest.mark.parametrize("content", [None, "no certificate\n"], ids=["not there", "no certificate"])
def test_a_ca_bundle_that_cannot_be_used_is_named_before_anything_is_asked(tmp_path: Path, content: str | None) -> None:
    """The SDKs would say, at every call, that a file is not there, and not which."""
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_text(content)
    (tmp_path / "responder.yaml").write_text(f"{GOOD}azure: {{ca_file: {bundle}}}\n")

    with pytest.raises(SettingsError, match=f"azure.ca_file {bundle} cannot be used"):
        identity_of(load_settings(tmp_path / "responder.yaml"))
    with pytest.raises(SettingsError, match=f"ca_file {bundle} cannot be used"):
        bus_of(ServiceBusSettings(namespace="n", queue="alerts", ca_file=str(bundle)))


def test_two_tokens_with_one_secret_are_refused() -> None:
    """Who approves is on record by the token's name; with a shared secret it would be a guess."""
    same = [token("ops", "s3cret", [Role.VIEW]), token("lead", "s3cret", [Role.APPROVE]), token("ci", "other", [Role.SEND])]

    assert shared_secret(same) == "ops and lead"
    assert shared_secret(same[1:]) == ""
