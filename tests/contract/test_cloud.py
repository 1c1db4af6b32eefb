"""What ``ports.Cloud`` promises, held by the adapter with the unmodified SDKs against the AKS double over TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from responder.clusters.aks import AksCloud, AzureAccess, Identity
from responder.clusters.aks.errors import translated
from responder.clusters.aks.identity import AKS_SCOPE, ARM_SCOPE
from responder.model.action import Verb
from responder.model.cloud import CloudAsk, Life, OperationState
from responder.model.errors import (
    ContestedError,
    ForbiddenError,
    GoneError,
    OccupiedError,
    RejectedError,
    RemoteError,
    ThrottledError,
    TransientError,
)
from responder.policy.roles import LOG_READ, MACHINE_READS, OPERATION_READ
from responder.sandbox.aks import Fault
from tests.azure import Azure, access, azure, scale, verb

WITHIN = timedelta(seconds=8)


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Azure]:
    """A managed cluster with two pools."""
    async with azure(tmp_path) as one:
        yield one


async def test_a_cluster_is_read_with_its_pools_machines_health_and_windows(made: Azure) -> None:
    """The equivalent of ``az aks show``, and what is beside it, in one answer."""
    made.aks.maintenance = [
        {"name": "default", "properties": {"timeInWeek": [{"day": "Sunday", "hourSlots": [1, 2]}]}},
    ]
    machine = next(iter(made.aks.pools["work"].machines.values()))

    found = await made.cloud.read(CloudAsk(machine=machine.resource_id.replace("MC_", "mc_"), machines=("work",), health=True))

    assert (found.provisioning_state, found.power_state, found.operation, found.health) == (
        "Succeeded",
        "Running",
        None,
        "Available",
    )
    assert [(one.name, one.mode, one.count) for one in found.pools] == [("system", "System", 2), ("work", "User", 3)]
    assert len(found.machines["work"]) == 3
    assert found.machine is not None
    assert (found.machine.name, found.machine.pool, found.machine.life) == (machine.name, "work", Life.RUNNING)
    assert [one.says for one in found.maintenance] == ["Sunday: [1, 2]"]
    assert not found.gaps


@pytest.mark.parametrize(
    ("power", "life"),
    [("running", Life.RUNNING), ("deallocated", Life.STOPPED), ("stopped", Life.STOPPED), ("stopping", Life.UNKNOWN)],
)
async def test_a_machine_is_dead_only_when_its_own_instance_view_says_so(made: Azure, power: str, life: Life) -> None:
    """Stopped and deallocated are proof; on the way there is not."""
    machine = next(iter(made.aks.pools["work"].machines.values()))
    machine.power = power

    found = await made.cloud.read(CloudAsk(machine=machine.resource_id))

    assert found.machine is not None
    assert found.machine.life is life


async def test_a_machine_that_does_not_exist_is_deleted(made: Azure) -> None:
    """404 of the instance view is an answer and not an error; alone it proves nothing: the lists of its pools must have been read and lack it."""
    machine = next(iter(made.aks.pools["work"].machines.values()))

    alone = await made.cloud.read(CloudAsk(machine=machine.resource_id + "99"))
    both = await made.cloud.read(CloudAsk(machine=machine.resource_id + "99", machines=tuple(made.aks.pools), fresh=True))

    assert alone.machine is not None
    assert alone.machine.life is Life.UNKNOWN
    assert both.machine is not None
    assert both.machine.life is Life.DELETED


async def test_what_cannot_be_read_beside_the_cluster_is_a_gap(made: Azure) -> None:
    """A missing permission on Resource Health must not hide the provisioning state."""
    made.double.denied = {"Microsoft.ResourceHealth/availabilityStatuses/read"}

    found = await made.cloud.read(CloudAsk(health=True))

    assert found.provisioning_state == "Succeeded"
    assert "does not have authorization" in found.gaps["health"]


async def test_many_who_ask_at_once_ask_arm_once(made: Azure) -> None:
    """ARM's limits are shared by the whole subscription."""
    await asyncio.gather(*(made.cloud.read(CloudAsk()) for _ in range(20)))

    assert len(made.double.asked) == 2  # the cluster and its pools
    assert made.double.entra.asked.total() == 1


async def test_a_scale_is_begun_followed_and_ends(made: Azure) -> None:
    """The pool that was read is written back with one value changed, under its ETag."""
    pool = (await made.cloud.read(CloudAsk())).pool("work")
    assert pool is not None

    begun = await made.cloud.write(scale(4, etag=pool.etag), within=WITHIN)
    before = await made.cloud.follow(begun.token, within=WITHIN)
    seen = await made.cloud.read(CloudAsk(fresh=True, health=True))
    await made.pass_time()
    after = await made.cloud.follow(begun.token, within=WITHIN)

    assert (before.state, after.state) == (OperationState.RUNNING, OperationState.SUCCEEDED)
    assert seen.operation is not None
    assert (seen.operation.name, seen.operation.on, seen.operation.exact, seen.operation.ours) == ("Scaling", "work", True, True)
    (put,) = made.double.writes()
    assert put.headers["If-Match"] == pool.etag
    assert put.body["properties"]["count"] == 4
    assert put.body["properties"]["vmSize"] == "Standard_D4s_v5"
    assert "provisioningState" not in put.body["properties"]
    work = (await made.cloud.read(CloudAsk())).pool("work")
    assert work is not None
    assert (work.count, len(made.aks.pools["work"].machines)) == (4, 4)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, ThrottledError),
        (503, TransientError),
        (500, TransientError),
        (404, GoneError),
        (403, ForbiddenError),
        (200, TransientError),
    ],
)
async def test_whatever_an_operations_address_answers_is_one_of_our_errors(
    made: Azure, status: int, kind: type[RemoteError]
) -> None:
    """The SDK raises statuses of a look at an operation outside its own family of errors; 200 here is JSON without a status."""
    begun = await made.cloud.write(scale(4), within=WITHIN)
    made.double.faults.append(
        Fault(path="/operations/", status=status, times=9, headers={"Retry-After": "7"} if status == 429 else {})
    )

    with pytest.raises(kind) as caught:
        await made.cloud.follow(begun.token, within=WITHIN)

    assert type(caught.value) is kind
    if isinstance(caught.value, ThrottledError):
        assert caught.value.retry_after == timedelta(seconds=7)


async def test_an_operation_is_taken_up_by_its_token_in_another_life(made: Azure) -> None:
    """The token is all that a restarted process has."""
    begun = await made.cloud.write(scale(4), within=WITHIN)
    await made.cloud.close()
    await made.pass_time()

    again = made.again()
    found = await again.follow(begun.token, within=WITHIN)
    await again.close()

    assert found.state is OperationState.SUCCEEDED
    assert len(made.double.writes()) == 1


async def test_an_operation_that_fails_says_its_code(made: Azure) -> None:
    """It answers with status 200: only the code tells."""
    made.aks.quota = 5
    begun = await made.cloud.write(scale(4), within=WITHIN)
    await made.pass_time()

    found = await made.cloud.follow(begun.token, within=WITHIN)

    assert (found.state, found.code) == (OperationState.FAILED, "QuotaExceeded")
    assert "Cores quota" in found.message


async def test_a_start_that_fails_says_its_code(made: Azure) -> None:
    """It has a Location and no status of its own: it ends with an error's status, which the SDK raises as no AzureError."""
    made.aks.power = "Stopped"
    made.aks.fails["Microsoft.ContainerService/managedClusters/start/action"] = ("AllocationFailed", "no room in this zone")
    begun = await made.cloud.write(verb(Verb.CLUSTER_START), within=WITHIN)
    await made.pass_time()

    found = await made.cloud.follow(begun.token, within=WITHIN)

    assert (found.state, found.code, found.message) == (OperationState.FAILED, "AllocationFailed", "no room in this zone")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, GoneError), (403, ForbiddenError), (429, ThrottledError), (503, TransientError)],
    ids=["forgotten", "forbidden", "throttled", "in trouble"],
)
async def test_trouble_with_asking_for_a_start_is_no_end_of_it(made: Azure, status: int, kind: type[RemoteError]) -> None:
    """It says by the status of its Location that it failed, and these four say nothing of it."""
    made.aks.power = "Stopped"
    begun = await made.cloud.write(verb(Verb.CLUSTER_START), within=WITHIN)
    made.double.faults.append(Fault(path="/operationresults/", status=status, times=3))

    with pytest.raises(kind) as caught:
        await made.cloud.follow(begun.token, within=WITHIN)

    assert caught.value.status == status


async def test_an_operation_that_succeeded_is_not_asked_for_its_result(made: Azure) -> None:
    """What it made is seen in the pool; trouble with one more request would make a success look like a failure."""
    begun = await made.cloud.write(
        verb(Verb.DELETE_MACHINE, pool="work", machine=next(iter(made.aks.pools["work"].machines))), within=WITHIN
    )
    await made.pass_time()
    made.double.faults.append(Fault(path="/operationresults/", status=503, times=9))

    found = await made.cloud.follow(begun.token, within=WITHIN)

    assert found.state is OperationState.SUCCEEDED


@pytest.mark.parametrize(
    ("one", "before", "kind"),
    [
        (Verb.CLUSTER_START, "Stopped", ""),
        (Verb.CLUSTER_RECONCILE, "Running", ""),
        (Verb.CLUSTER_ABORT, "Running", "stop"),
        (Verb.DELETE_MACHINE, "Running", ""),
    ],
)
async def test_every_other_write_is_one_request_and_ends(made: Azure, one: Verb, before: str, kind: str) -> None:
    """Started, reconciled, aborted, deleted: each begins once and is followed to its end."""
    made.aks.power = before
    if kind:
        made.aks.begin("stuck", state="Upgrading", finish=_nothing)
    name = next(iter(made.aks.pools["work"].machines))
    write = verb(one, pool="work", machine=name) if one is Verb.DELETE_MACHINE else verb(one)

    begun = await made.cloud.write(write, within=WITHIN)
    await made.pass_time()
    found = await made.cloud.follow(begun.token, within=WITHIN)

    assert found.state is OperationState.SUCCEEDED
    assert len(made.double.writes()) == 1
    read = await made.cloud.read(CloudAsk(fresh=True))
    assert read.power_state == "Running"
    assert read.operation is None
    assert (name in made.aks.pools["work"].machines) is (one is not Verb.DELETE_MACHINE)


async def _nothing() -> None:
    return None


async def test_a_cluster_is_never_put_back_without_a_precondition(made: Azure) -> None:
    """Reconciling PUTs what was just read: between the two somebody may have changed it, and ARM is asked to refuse then."""
    await made.cloud.write(verb(Verb.CLUSTER_RECONCILE), within=WITHIN)

    (put,) = made.double.writes()
    assert {name.lower(): value for name, value in put.headers.items()}["if-match"].strip('"')


async def test_a_second_operation_is_refused_as_occupied(made: Azure) -> None:
    """409 OperationNotAllowed, which the SDK calls ResourceExistsError."""
    await made.cloud.write(scale(4), within=WITHIN)

    with pytest.raises(OccupiedError, match="in progress") as caught:
        await made.cloud.write(verb(Verb.CLUSTER_RECONCILE), within=WITHIN)

    assert caught.value.retry_after == timedelta(seconds=30)


async def test_a_stale_etag_is_contested(made: Azure) -> None:
    """412: somebody else changed the pool since it was read."""
    with pytest.raises(ContestedError, match="PreconditionFailed"):
        await made.cloud.write(scale(4, etag='"older"'), within=WITHIN)


async def test_aborting_what_has_finished_is_contested(made: Azure) -> None:
    """409 too, but nothing is in progress: look again."""
    with pytest.raises(ContestedError, match="no operation in progress"):
        await made.cloud.write(verb(Verb.CLUSTER_ABORT), within=WITHIN)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, TransientError),
        (500, TransientError),
        (503, TransientError),
        (429, ThrottledError),
        (403, ForbiddenError),
        (404, GoneError),
        (400, RejectedError),
    ],
)
async def test_a_write_that_is_answered_so_was_sent_once(made: Azure, status: int, kind: type[RemoteError]) -> None:
    """The SDK repeats nothing of ours, also where the answer has Retry-After."""
    made.double.faults.append(Fault(path="deleteMachines", status=status, headers={"Retry-After": "1"}, times=99))
    name = next(iter(made.aks.pools["work"].machines))

    with pytest.raises(kind) as caught:
        await made.cloud.write(verb(Verb.DELETE_MACHINE, pool="work", machine=name), within=WITHIN)

    assert type(caught.value) is kind
    assert len(made.double.writes()) == 1


@pytest.mark.parametrize("status", [200, 202])
def test_an_answer_that_cannot_be_read_does_not_say_that_nothing_was_begun(status: int) -> None:
    """ARM took it, or what stands before ARM did; a write that is sent at most once stays noted, and is looked for."""

    class UnreadableError(Exception):
        status_code = status
        response = object()

    found = translated(UnreadableError("JSON is invalid"), operation="delete", target="prod")

    assert type(found) is TransientError


async def test_a_write_whose_answer_is_lost_is_not_sent_again(made: Azure) -> None:
    """It took effect; nobody but the world can say so."""
    made.double.faults.append(Fault(path="deleteMachines", after=True))
    name = next(iter(made.aks.pools["work"].machines))

    with pytest.raises(TransientError):
        await made.cloud.write(verb(Verb.DELETE_MACHINE, pool="work", machine=name), within=WITHIN)

    assert len(made.double.writes()) == 1
    assert made.aks.running is not None


async def test_a_read_is_repeated_while_it_fails_transiently(made: Azure) -> None:
    """A GET may be asked again."""
    made.double.faults.append(Fault(path="/managedClusters/prod$", status=503))

    found = await made.cloud.read(CloudAsk())

    assert found.provisioning_state == "Succeeded"


async def test_a_throttled_client_asks_nothing_for_as_long_as_it_is_told(made: Azure) -> None:
    """The limit is the client's: asking for something else would not help."""
    made.double.faults.append(Fault(path="listClusterUserCredential", status=429, headers={"Retry-After": "20"}, times=9))
    with pytest.raises(ThrottledError):
        await made.cloud.user_credential()
    before = len(made.double.asked)

    with pytest.raises(ThrottledError) as caught:
        await made.cloud.write(scale(4), within=WITHIN)

    assert caught.value.retry_after is not None
    assert caught.value.retry_after > timedelta(seconds=15)
    assert len(made.double.asked) == before


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"Retry-After": "40"}, 40),
        ({"Retry-After": "Wed, 25 Nov 2026 01:00:40 GMT", "Date": "Wed, 25 Nov 2026 01:00:00 GMT"}, 40),
        ({"x-ms-retry-after-ms": "39500"}, 40),
        ({"Retry-After": "86400"}, 86400),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-3"}, None),
        ({}, None),
    ],
)
def test_arm_says_in_several_forms_how_long_it_wants_to_be_left_alone(headers: dict[str, str], pause: int | None) -> None:
    """Seconds, an HTTP date by the answer's own clock, or milliseconds; nonsense is no pause and no error of another kind."""

    class Answered:
        status_code = 429

    response = Answered()
    response.headers = headers  # type: ignore[attr-defined]
    error = Answered()
    error.response = response  # type: ignore[attr-defined]

    found = translated(error, operation="read", target="prod")  # type: ignore[arg-type]

    assert isinstance(found, ThrottledError)
    assert found.retry_after == (None if pause is None else timedelta(seconds=pause))


async def test_all_clusters_of_a_subscription_are_quiet_when_one_was_throttled(made: Azure) -> None:
    """ARM's limits are the subscription's: another cluster's client asking on would only prolong it. Afterwards it is asked again."""
    made.double.faults.append(Fault(path="listClusterUserCredential", status=429, headers={"Retry-After": "300"}, times=9))
    other = AksCloud("other", made.double.cluster("other").resource_id, made.identity, now=made.world.now)
    with pytest.raises(ThrottledError):
        await made.cloud.user_credential()
    before = len(made.double.asked)

    with pytest.raises(ThrottledError):
        await other.read(CloudAsk())
    asked = len(made.double.asked)
    made.world.forward(301)
    found = await other.read(CloudAsk())
    await other.close()

    assert asked == before
    assert found.provisioning_state == "Succeeded"


async def test_a_write_that_is_not_answered_ends_in_its_time(made: Azure) -> None:
    """Every wait has a bound."""
    made.double.faults.append(Fault(path="/start$", delay=30))

    with pytest.raises(TransientError, match="no answer within"):
        await made.cloud.write(verb(Verb.CLUSTER_START), within=timedelta(milliseconds=300))


async def test_a_command_runs_in_the_cluster(made: Azure) -> None:
    """What it printed comes back; it is no write of ours."""
    made.aks.output = (0, "NAME STATUS\naks-work-12345678-vmss000002 NotReady\n")

    found = await made.cloud.run_command("kubectl get nodes", within=WITHIN)

    assert (found.exit_code, made.aks.ran) == (0, ["kubectl get nodes"])
    assert "NotReady" in found.logs


async def test_permissions_are_told_action_by_action(made: Azure) -> None:
    """What a role takes away again (notActions) is not granted."""
    missing = "Microsoft.ContainerService/managedClusters/agentPools/deleteMachines/action"
    made.double.denied = {missing}

    found = await made.cloud.permitted(["Microsoft.ContainerService/managedClusters/read", missing])

    assert found == {"Microsoft.ContainerService/managedClusters/read": True, missing: False}


async def test_what_lies_on_other_scopes_is_tried_there(made: Azure) -> None:
    """Machines are in the node resource group, operations and the activity log on the subscription: the cluster's own roles say nothing of them."""
    machine, operation, log = MACHINE_READS[0], OPERATION_READ, LOG_READ
    subscription = f"/subscriptions/{made.aks.subscription}"

    granted = await made.cloud.tried()
    made.double.denied = {machine, operation, log}
    again = made.again()
    missing = dict(await again.tried())
    await again.close()

    assert granted == {machine: "", operation: "", log: ""}
    assert missing.pop(machine).startswith(f"{subscription}/resourcegroups/mc_")
    assert missing == {operation: subscription, log: subscription}


async def test_a_cluster_without_machines_has_nothing_to_try_with(made: Azure) -> None:
    """An empty answer is no missing permission."""
    for pool in made.aks.pools.values():
        pool.machines.clear()

    assert set(await made.cloud.tried()) == {OPERATION_READ, LOG_READ}


async def test_an_identity_that_entra_does_not_know_is_forbidden(made: Azure) -> None:
    """The message is Entra's own sentence, so that the platform team can look for it."""
    made.double.entra.assertion = "another one"

    with pytest.raises(ForbiddenError, match="AADSTS70021"):
        await made.cloud.read(CloudAsk())


async def test_ten_cold_calls_ask_entra_once(made: Azure) -> None:
    """The SDK alone would ask ten times."""
    await asyncio.gather(*(made.identity.token(AKS_SCOPE) for _ in range(10)))

    assert made.double.entra.asked == {AKS_SCOPE.removesuffix("/.default"): 1}


async def test_an_identity_is_warmed_and_says_what_is_wrong(made: Azure, tmp_path: Path) -> None:
    """Warming never fails the start; a token that cannot be had is an error when it is needed."""
    broken = Identity(access(made.double, tmp_path, credential="workload_identity", token_file=str(tmp_path / "none")))
    made.double.entra.down = 503

    await broken.warm(ARM_SCOPE)

    with pytest.raises(RemoteError):
        await broken.token(ARM_SCOPE)
    await broken.close()


async def test_a_pod_without_workload_identity_is_told_so(made: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commonest mistake of an installation has its own sentence."""
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    bare = Identity(AzureAccess())

    with pytest.raises(ForbiddenError, match=r"azure\.workload\.identity/use"):
        await bare.token(ARM_SCOPE)


async def test_a_managed_identity_is_asked_of_the_machine(made: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    """IMDS, where the service runs on a virtual machine."""
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", made.double.metadata_url)
    machine = Identity(AzureAccess(credential="managed_identity"))

    token = await machine.token(ARM_SCOPE)
    await machine.close()

    assert made.double.entra.audience(token) == "https://management.azure.com"


def test_only_the_id_of_a_managed_cluster_is_taken() -> None:
    """A typing error is found when the settings are read."""
    with pytest.raises(ValueError, match="is not the id of an AKS cluster"):
        AksCloud("prod", "/subscriptions/x/resourceGroups/y", Identity(AzureAccess()), now=lambda: None)  # type: ignore[arg-type, return-value]
