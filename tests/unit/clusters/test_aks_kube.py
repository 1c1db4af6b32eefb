"""How an AKS cluster's API server is found: asked again and again while it is silent, it leaves no litter."""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from responder.clusters.aks import entra_access
from responder.model.errors import TransientError


class Said:
    """What ARM says of a cluster's credential."""

    name = "prod"

    def __init__(self, authority: bytes = b"a CA") -> None:
        self.authority = authority
        self.document: Any = None

    async def user_credential(self) -> bytes:
        cluster = {"server": "https://prod", "certificate-authority-data": base64.b64encode(self.authority).decode()}
        return json.dumps({"clusters": [{"cluster": cluster}]} if self.document is None else self.document).encode()


async def test_a_cluster_that_is_silent_for_days_leaves_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for every half minute; the root of the container is read-only, and what is there for temporary files is small."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    said = Said()
    find, _ = entra_access(said, None)  # type: ignore[arg-type]

    server, first = await find()
    said.authority = b"a rotated CA"
    found = [await find() for _ in range(20)]

    assert server == "https://prod"
    assert {path for _, path in found} == {first}
    assert Path(first).read_bytes() == b"a rotated CA"
    assert len([one for one in tmp_path.rglob("*") if one.is_file()]) == 1


async def test_a_credential_that_is_none_is_an_error_of_ours() -> None:
    """It says what was asked of whom; the service starts without it and asks again."""
    said = Said()
    said.document = {"clusters": []}
    find, _ = entra_access(said, None)  # type: ignore[arg-type]

    with pytest.raises(TransientError, match="listClusterUserCredential of prod"):
        await find()
