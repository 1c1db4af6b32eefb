"""A loopback Kubernetes API, and receivers of pages: for the demo, drills and tests.

It is a cluster, not a script: it knows nothing of the demo, and speaks the Kubernetes REST API over HTTP. Imports nothing from
``clusters``, so that a shared misunderstanding cannot hide. Calibrated against kubernetes.md A1 to A10 and A16, and against a real
control plane: ``tests/calibration`` sends the same requests to both. What it leaves out: schemas (unknown fields are kept), protobuf
bodies (``kubectl create`` and ``auth can-i`` send them; everything else of kubectl works), volumes, CronJobs, preemption, ``exec``.
"""

from responder.sandbox.behaviour import Behaviour, NodeBehaviour
from responder.sandbox.cluster import SandboxCluster, Timings
from responder.sandbox.controllers.nodes import NodeTimes
from responder.sandbox.receivers import PagerDutyReceiver, TeamsReceiver, WebhookReceiver

__all__ = [
    "Behaviour",
    "NodeBehaviour",
    "NodeTimes",
    "PagerDutyReceiver",
    "SandboxCluster",
    "TeamsReceiver",
    "Timings",
    "WebhookReceiver",
]
