"""AKS by ARM: the unmodified azure-mgmt-containerservice and azure-identity, translated at this border. Source: azure.md 2, kubernetes.md A13.

The SDKs are imported when first used: they cost 0.3 s of CPU and 40 MB that an installation without Azure does not pay.
"""

from responder.clusters.aks.cloud import AksCloud
from responder.clusters.aks.identity import AzureAccess, Identity
from responder.clusters.aks.kube import entra_access

__all__ = ["AksCloud", "AzureAccess", "Identity", "entra_access"]
