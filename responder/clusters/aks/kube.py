"""An AKS cluster's API server by the cluster's resource id: address and CA from ARM, tokens from Entra, no kubeconfig.

Source: Microsoft.ContainerService listClusterUserCredential; kubelogin, whose work this does without the sub-process.
"""

from __future__ import annotations

import base64
import binascii
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import yaml

from responder.clusters.aks.cloud import AksCloud
from responder.clusters.aks.identity import AKS_SCOPE, Identity
from responder.model.errors import TransientError


def entra_access(
    cloud: AksCloud, identity: Identity
) -> tuple[Callable[[], Awaitable[tuple[str, str]]], Callable[[], Awaitable[str]]]:
    """Return how to find the API server (address and CA file, "" for the public CAs) and how to get a token for it.

    Both are asked when the cluster is first spoken to, and again when it refuses us: the service starts without ARM.
    """
    kept: list[Path] = []  # one for all times: a cluster that is silent for days is asked for every half minute

    async def find() -> tuple[str, str]:
        server, authority = _endpoint(await cloud.user_credential(), cloud.name)
        if not authority:
            return server, ""
        if not kept:
            kept.append(Path(tempfile.mkdtemp(prefix="responder-ca-")))
        path = kept[0] / "ca.pem"
        path.write_bytes(authority)
        return server, str(path)

    async def token() -> str:
        return await identity.token(AKS_SCOPE)

    return find, token


def _endpoint(kubeconfig: bytes, name: str) -> tuple[str, bytes]:
    def broken(why: object) -> TransientError:
        return TransientError(
            f"a kubeconfig that is not understood: {why}", system="arm", operation="listClusterUserCredential of", target=name
        )

    try:
        parsed: Any = yaml.safe_load(kubeconfig)
        cluster = parsed["clusters"][0]["cluster"]
        server = str(cluster["server"])
        authority = base64.b64decode(cluster.get("certificate-authority-data") or "")
    except (yaml.YAMLError, KeyError, IndexError, TypeError, binascii.Error) as error:
        raise broken(repr(error)) from error
    return server, authority
