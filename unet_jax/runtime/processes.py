"""The way into a run of several processes, on one host or on many: jax.distributed, with more to say when it fails."""

import contextlib
import functools
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
from jax._src import clusters, distributed

from unet_jax.errors import InputError, RunError, StuckError
from unet_jax.runtime import exchange, peers
from unet_jax.runtime.mesh import data_mesh
from unet_jax.runtime.peers import Peers
from unet_jax.runtime.relay import Relay
from unet_jax.runtime.watchdog import end_process, exit_now

# Seconds that the processes have to find each other, and until jax itself notices that one is lost: `peers` is faster.
MEETING, HEARTBEAT = 300, 600
# Of gRPC: what is reached directly.
NO_PROXY = "no_grpc_proxy"


class Place(NamedTuple):
    """This process among several.

    Attributes:
        coordinator: host and port of the first process, where the others can reach it.
        count: how many processes there are.
        index: this one's number, from 0.
        local: the devices of this process; None for all.
    """

    coordinator: str
    count: int
    index: int
    local: Sequence[int] | None


def join(
    coordinator: str | None = None, count: int | None = None, index: int | None = None, *, meeting: int = MEETING
) -> str:
    """Makes this process one of several, before jax has started, and waits for the others.

    Without arguments, jax finds them out from SLURM, Open MPI, Kubernetes (GKE) or a TPU's own environment. On a CPU,
    the processes' sums go through gloo.

    Args:
        coordinator: host and port of the first process, where the others can reach it.
        count: how many processes there are.
        index: this one's number, from 0.
        meeting: seconds that the others have to come.

    Returns:
        a line that says what was formed.

    Raises:
        InputError: there is no such environment, the arguments contradict each other, or the port is taken.
        StuckError: the first process cannot be reached; where the others do not come in time, the process ends with
            that line.
    """
    place = found(coordinator, count, index)
    alone = (
        f"process {place.index} of {place.count} did not meet the others at {place.coordinator} within {meeting} s: "
        "start all of them, and check that the port is free on the host of process 0, and open to the others."
    )
    try:
        _meet(place, meeting, functools.partial(end_process, alone, StuckError.exit_code))
    except RuntimeError as error:
        raise StuckError(f"{alone} ({str(error).splitlines()[0]})") from None
    devices, mesh = jax.devices(), data_mesh()
    axes = ", ".join(f"{name} {size}" for name, size in mesh.shape.items())
    return f"{place.count} processes, {len(devices)} devices ({devices[0].device_kind}), mesh: {axes}."


def end_others(
    error: RunError,
    coordinator: str | None = None,
    count: int | None = None,
    index: int | None = None,
    *,
    meeting: int = MEETING,
) -> None:
    """Ends all processes with an error that this one had, and has printed, before it met the others.

    Returns only where the others cannot be met; where they do not come in time, this process ends without them.

    Args:
        error: what they end with.
        coordinator: as of `join`, which the others call.
        count: as of `join`.
        index: as of `join`.
        meeting: as of `join`.
    """
    give_up = functools.partial(exit_now, error.exit_code)
    with contextlib.suppress(RunError, RuntimeError):
        _meet(found(coordinator, count, index), meeting, give_up, prints=False).end(str(error), error.exit_code)


def _meet(place: Place, meeting: int, give_up: Callable[[], None], *, prints: bool = True) -> Peers:
    """Waits for the others, and calls `give_up` in a thread if they do not come in time.

    Args:
        place: this process's.
        meeting: seconds that the others have to come.
        give_up: ends this process.
        prints: see `Peers`.

    Raises:
        InputError: the port is taken.
        RuntimeError: the first process cannot be reached.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It would take SIGTERM for itself, and look at it between steps alone.
    jax.config.update("jax_enable_preemption_service", False)
    watching: list[Peers] = []
    relay = _relay(place.coordinator, watching) if place.index else None
    if place.index == 0:
        _check_port(place.coordinator)
    # jax would end this process with a stack trace.
    giving_up = threading.Timer(meeting, give_up)
    giving_up.daemon = True
    giving_up.start()
    jax.distributed.initialize(
        relay.address if relay else place.coordinator,
        place.count,
        place.index,
        place.local,
        initialization_timeout=2 * meeting,
        heartbeat_timeout_seconds=HEARTBEAT,
    )
    giving_up.cancel()
    store = distributed.global_state.client
    exchange.begin(store, place.index, place.count)
    if place.index:
        # What is told to users is told once, by the first process. Warnings and errors are of each.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (to the process's end)
    leave = functools.partial(_leave, relay)
    watching.append(peers.begin(store, place.index, place.count, leave, prints=prints))
    return watching[0]


def found(coordinator: str | None, count: int | None, index: int | None) -> Place:
    """What was given, completed by what the environment says.

    Raises:
        InputError: something is missing, or contradicts the rest.
    """
    if coordinator is None:
        if count is not None or index is not None:
            raise InputError("--processes and --process are given without --coordinator=HOST:PORT of process 0.")
        coordinator, count, index, local = _detected()
    elif count is None or index is None:
        raise InputError("--coordinator needs --processes=N, how many there are, and --process=K, from 0 to N - 1.")
    else:
        local = None
    if not re.fullmatch(r".+:[0-9]+", coordinator):
        raise InputError(f"--coordinator={coordinator}: give a host and a port, such as node1:1234.")
    if not 0 <= index < count:
        raise InputError(f"--process is {index}; it must be from 0 to {count - 1}, as --processes is {count}.")
    return Place(coordinator, count, index, local)


def _detected() -> Place:
    detect = clusters.ClusterEnv.auto_detect_unset_distributed_params
    try:
        coordinator, count, index, local = detect(None, None, None, None, None, MEETING)
    except (KeyError, OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"--distributed: the scheduler's environment cannot be read ({error}): give --coordinator=HOST:PORT, "
            "--processes=N and --process=K."
        ) from None
    if coordinator is None or count is None or index is None:
        raise InputError(
            "--distributed: this is no process of SLURM, Open MPI, Kubernetes or a TPU pod: start it there, or give "
            "--coordinator=HOST:PORT, --processes=N and --process=K."
        )
    return Place(coordinator, count, index, local)


def _check_port(coordinator: str) -> None:
    """Raises InputError if the port is taken, where jaxlib's service would crash."""
    port = int(coordinator.rpartition(":")[2])
    both = socket.has_dualstack_ipv6()
    try:
        socket.create_server(
            ("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both
        ).close()
    except OSError as error:
        raise InputError(
            f"--coordinator={coordinator}: the port cannot be had ({error.strerror}): name another."
        ) from None


def _relay(coordinator: str, watching: Sequence[Peers]) -> Relay:
    if any(name.lower().endswith("_proxy") for name in os.environ):
        # What is in this machine is not reached through a proxy of the network.
        direct = os.environ.get(NO_PROXY, os.environ.get("no_proxy", ""))
        os.environ[NO_PROXY] = ",".join(filter(None, [direct, "127.0.0.1"]))

    def lost() -> None:
        for each in watching:
            each.lost(0)

    return Relay(coordinator, lost)


def _leave(relay: Relay | None) -> None:
    # jax parts with the others by itself, when Python ends.
    if relay is not None:
        relay.close()
    exchange.end()
