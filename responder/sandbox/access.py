"""Who may do what: rights that can be restricted, their refusals in the API's words, and the access reviews that ask for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from responder.sandbox.answers import ApiFailure, Object, Resource, forbidden

ANY = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What somebody may do, as a rule of a Role does. ``namespace``: "" for all of them (a ClusterRole)."""

    verbs: tuple[str, ...]
    resources: tuple[str, ...]
    groups: tuple[str, ...] = (ANY,)
    names: tuple[str, ...] = ()
    namespace: str = ""

    def allows(self, verb: str, group: str, resource: str, namespace: str, name: str) -> bool:
        """Tell whether it covers a request; ``resource`` is ``pods`` or ``pods/eviction``."""
        return (
            (ANY in self.verbs or verb in self.verbs)
            and (ANY in self.resources or resource in self.resources)
            and (ANY in self.groups or group in self.groups)
            and (not self.names or name in self.names)
            and self.namespace in {"", namespace}
        )


@dataclass(slots=True)
class Access:
    """The users of the cluster.

    Attributes:
        user: Who asks, without a token that is known.
        forbidden: ``patch deployments``: verbs on resources that everybody is refused.
        users: Token to name.
        rules: Name to rules; whoever has no entry may do everything.
    """

    user: str = "responder"
    forbidden: set[str] = field(default_factory=set)
    users: dict[str, str] = field(default_factory=dict)
    rules: dict[str, Sequence[Rule]] = field(default_factory=dict)

    def who(self, token: str) -> str:
        """Return whose token it is."""
        return self.users.get(token, self.user)

    def allows(self, user: str, verb: str, group: str, resource: str, namespace: str = "", name: str = "") -> bool:
        """Tell whether somebody may do something."""
        if f"{verb} {resource}" in self.forbidden:
            return False
        mine = self.rules.get(user)
        return mine is None or any(one.allows(verb, group, resource, namespace, name) for one in mine)

    def check(self, user: str, verb: str, of: Resource, namespace: str = "", name: str = "", sub: str = "") -> None:
        """Let somebody do something.

        Raises:
            ApiFailure: 403 in the API's words.
        """
        resource = f"{of.plural}/{sub}" if sub else of.plural
        if not self.allows(user, verb, of.group, resource, namespace, name):
            raise refused(user, verb, of, resource, namespace, name)

    def review(self, user: str, body: Object) -> Object:
        """Answer a SelfSubjectAccessReview."""
        spec = body.get("spec") or {}
        asked: Mapping[str, str] | None = spec.get("resourceAttributes")
        allowed = True
        if asked is not None:
            sub = asked.get("subresource")
            resource = f"{asked.get('resource', '')}/{sub}" if sub else asked.get("resource", "")
            allowed = self.allows(
                user, asked.get("verb", ""), asked.get("group", ""), resource, asked.get("namespace", ""), asked.get("name", "")
            )
        return {
            "kind": "SelfSubjectAccessReview",
            "apiVersion": "authorization.k8s.io/v1",
            "metadata": {},
            "spec": spec,
            "status": {"allowed": allowed},
        }


def refused(user: str, verb: str, of: Resource, resource: str, namespace: str, name: str) -> ApiFailure:
    """Return the 403 of a right that is missing."""
    scope = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    why = f'User "{user}" cannot {verb} resource "{resource}" in API group "{of.group}" {scope}'
    return forbidden(of, name, why)
