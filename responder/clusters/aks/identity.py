"""Our one identity in Azure: one credential for everything, asked once at a time, warmed at start, closed last.

Source: azure.md 2.4: azure-identity caches tokens in each instance and has no single flight (ten cold calls are ten requests), and
DefaultAzureCredential does not hand an authority on, so on AKS WorkloadIdentityCredential is named explicitly.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from responder.loading import loaded
from responder.model.errors import ForbiddenError, RemoteError, TransientError
from responder.telemetry import logger

SYSTEM = "entra"
TOKEN_WITHIN = timedelta(seconds=15)
ARM_SCOPE = "https://management.azure.com/.default"
AKS_SCOPE = "6dae42f8-4368-4678-94ff-3960e28e3630/.default"
"""The application that AKS' API servers stand for with Entra integration. Source: AKS documentation, kubelogin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureAccess:
    """How Azure is reached.

    Attributes:
        credential: ``workload_identity``, ``managed_identity``, ``environment``, ``cli`` or ``default``.
        client_id, tenant_id, token_file: Of the identity, where the environment does not say.
        authority: Entra's address; "" for the public one.
        endpoint: ARM's address; "" for the public one.
        scope: Of tokens for ARM; "" for the public one.
        ca_file: A CA bundle to trust instead of the public ones, where a proxy opens TLS.
    """

    credential: str = "workload_identity"
    client_id: str = ""
    tenant_id: str = ""
    token_file: str = ""
    authority: str = ""
    endpoint: str = ""
    scope: str = ""
    ca_file: str = ""


class Identity:
    """A credential in the form that the Azure SDKs take, with one flight per scope and a bound on every wait.

    ``get_token``, ``get_token_info`` and ``close`` are the SDKs' own names (``AsyncTokenCredential``). What they raise is the SDK's;
    ``token`` is ours.

    Attributes:
        quiet: Until when ARM wants to be left alone with a subscription, by its id: its limits are per subscription and caller, and every cluster of one
            shares them.
    """

    def __init__(self, access: AzureAccess) -> None:
        """Take how to reach Azure; nothing is asked yet."""
        self.access = access
        self.quiet: dict[str, datetime] = {}
        self._credential: Any = None
        self._flights: dict[tuple[str, ...], asyncio.Lock] = {}

    async def _made(self) -> Any:
        if self._credential is None:
            module = await loaded("azure.identity.aio")
            if self._credential is None:
                self._credential = _credential(module, self.access)
        return self._credential

    async def get_token(self, *scopes: str, **options: Any) -> Any:
        """Return an access token; see ``azure.core.credentials_async.AsyncTokenCredential``."""
        async with self._flight(scopes), asyncio.timeout(TOKEN_WITHIN.total_seconds()):
            return await (await self._made()).get_token(*scopes, **options)

    async def get_token_info(self, *scopes: str, options: Any = None) -> Any:
        """Return an access token; see ``azure.core.credentials_async.AsyncSupportsTokenInfo``."""
        async with self._flight(scopes), asyncio.timeout(TOKEN_WITHIN.total_seconds()):
            return await (await self._made()).get_token_info(*scopes, options=options)

    def _flight(self, scopes: tuple[str, ...]) -> asyncio.Lock:
        return self._flights.setdefault(scopes, asyncio.Lock())

    async def token(self, scope: str) -> str:
        """Return an access token.

        Raises:
            ForbiddenError: Entra does not know us, or the identity is not set up.
            TransientError: Entra does not answer.
        """
        core = await loaded("azure.core.exceptions")
        try:
            return str((await self.get_token(scope)).token)
        except core.ClientAuthenticationError as error:  # also what no network looks like
            kind: type[RemoteError] = TransientError if _looks_like_network(error) else ForbiddenError
            raise kind(_first_line(error), system=SYSTEM, operation="ask for a token for", target=scope) from error
        except (core.AzureError, TimeoutError, OSError, ValueError) as error:
            said = _first_line(error) or f"no answer within {TOKEN_WITHIN.total_seconds():g} s"
            raise TransientError(said, system=SYSTEM, operation="ask for a token for", target=scope) from error

    async def warm(self, *scopes: str) -> None:
        """Get tokens before they are needed; never raises, what fails is logged and tried again when needed."""
        for scope in scopes:
            try:
                await self.token(scope)
            except RemoteError as error:
                logger().warning("identity_unusable", scope=scope, problem=str(error))

    async def close(self) -> None:
        """Release the credential; idempotent."""
        credential, self._credential = self._credential, None
        if credential is not None:
            with contextlib.suppress(TimeoutError, Exception):
                async with asyncio.timeout(3):
                    await credential.close()


def _credential(module: Any, access: AzureAccess) -> Any:
    """Make the credential that the configuration names.

    Raises:
        ForbiddenError: What it needs is neither configured nor in the environment.
    """
    common: dict[str, Any] = {"retry_total": 1, "connection_timeout": 5, "read_timeout": 10}
    if access.authority:
        common["authority"] = access.authority
    if access.ca_file:
        common["connection_verify"] = access.ca_file
    if access.authority.startswith("https://127.") or access.authority.startswith("https://localhost"):
        common["disable_instance_discovery"] = True
    client = {"client_id": access.client_id} if access.client_id else {}
    tenant = {"tenant_id": access.tenant_id} if access.tenant_id else {}
    file = {"token_file_path": access.token_file} if access.token_file else {}
    try:
        match access.credential:
            case "workload_identity":
                return module.WorkloadIdentityCredential(**client, **tenant, **file, **common)
            case "managed_identity":
                return module.ManagedIdentityCredential(**client)
            case "environment":
                return module.EnvironmentCredential(**common)
            case "cli":
                return module.AzureCliCredential(**tenant, process_timeout=10)
            case _:
                given = {"managed_identity_client_id": access.client_id, "workload_identity_client_id": access.client_id}
                return module.DefaultAzureCredential(**(given if access.client_id else {}))
    except ValueError as error:
        hint = "is the pod labelled azure.workload.identity/use, its service account annotated with the client id?"
        raise ForbiddenError(
            f"{_first_line(error)}; {hint}", system=SYSTEM, operation="make", target=access.credential
        ) from error


def _looks_like_network(error: BaseException) -> bool:
    """Tell whether Entra refused us, or was never reached: the SDK says both with one exception."""
    return getattr(error, "response", None) is None and "AADSTS" not in str(error)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]
