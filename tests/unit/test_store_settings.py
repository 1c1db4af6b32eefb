"""``store:`` in responder.yaml: SQLite by path, PostgreSQL by a URL that is a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from responder.model.errors import SettingsError
from responder.settings import Settings, load_settings, masked


def loaded(folder: Path, store: Any, **more: Any) -> Settings:
    path = folder / "responder.yaml"
    path.write_text(yaml.safe_dump({"store": store, "http": {"listen": "127.0.0.1:0", "authentication": False}, **more}))
    return load_settings(path)


def test_the_url_is_read_from_where_it_is_named_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL holds a password."""
    monkeypatch.setenv("DATABASE", "postgresql://ana:s3cret@db/responder")

    settings = loaded(tmp_path, {"url": {"env": "DATABASE"}})

    assert settings.store.kind == "postgresql"
    assert settings.store.url is not None
    assert settings.store.url.read().get_secret_value() == "postgresql://ana:s3cret@db/responder"
    assert "s3cret" not in str(masked(settings))


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ({"url": "postgresql://ana:s3cret@db/x"}, "url"),
        ({"kind": "postgresql"}, "needs url"),
        ({"kind": "sqlite", "url": {"env": "X"}}, "PostgreSQL's"),
        ({"path": "/data/x", "url": {"env": "X"}}, "one of them"),
        ({"url": {"env": "X"}, "pool": 1}, "pool"),
    ],
    ids=["inline", "no url", "two kinds", "path and url", "a pool of one"],
)
def test_a_store_that_is_neither_or_both_is_refused(tmp_path: Path, store: Any, said: str) -> None:
    """With its place and what was expected."""
    with pytest.raises(SettingsError, match=said):
        loaded(tmp_path, store)


def test_a_sped_up_clock_and_postgresql_are_refused(tmp_path: Path) -> None:
    """The database's clock is everybody's, and runs at its own speed."""
    with pytest.raises(SettingsError, match="clock"):
        loaded(tmp_path, {"url": {"env": "X"}}, clock=20)
