"""A Ray for one job on this machine, without the processes that such a job has no use for.

`ray.init` starts for every session a log monitor, an autoscaler's monitor and an API server, and
Ray Data three actors with a Python process each, of half a second to a second of CPU apiece. What
they do is of use where several jobs or nodes share a cluster; a cluster that is joined is left as
it is.

Ray has no options for this. What is replaced here is private to Ray, and where a version has it
elsewhere its processes are started as usual.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import ray
import ray._private.node
import ray._private.utils
from ray.data._internal import stats
from ray.data._internal.cluster_autoscaler import default_autoscaling_coordinator as coordinator
from ray.data._internal.execution.operators import actor_pool_map_operator
from ray.data._internal.utils import cached_ray_internals

from vidembed.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A worker that writes a part is idle until the next; Ray's own second is over by then, and the next
# one would begin with Ray Data's imports, a second of CPU for each part.
_SYSTEM = {"idle_worker_killing_time_threshold_ms": 600_000}


@contextmanager
def started(**options: Any) -> Iterator[None]:
    """A session on this machine, which ends with the block. options: of `ray.init`.

    Raises what that raises, and RunError where Ray does not come up in the time that it allows.
    """
    try:
        with _few_processes():
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                _system_config=_SYSTEM,
                **options,
            )
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise RunError(
            "Ray did not start within half a minute: the machine is too busy. Run it again, or "
            "join a Ray that is up (--ray-address)"
        ) from error
    try:
        with _without_actors():
            yield
    finally:
        ray.shutdown()


@contextmanager
def _few_processes() -> Iterator[None]:
    """What is started meanwhile is GCS, raylet, and the raylet's two agents, of which one serves
    the metrics.
    """
    with ExitStack() as stack:
        for name in ("start_log_monitor", "start_monitor", "start_api_server"):
            replace(stack, ray._private.node.Node, name, lambda *_, **__: None)
        # It would import the dashboard's libraries into the driver to see whether they are there;
        # vidembed depends on them.
        replace(stack, ray._private.utils, "get_dashboard_dependency_error", lambda: None)
        yield


@contextmanager
def _without_actors() -> Iterator[None]:
    """Ray Data's own actors live in the driver, which alone calls them."""
    with ExitStack() as stack:
        statistics = _once(lambda: _Here(stats._StatsActor.__ray_metadata__.modified_class()))
        replace(stack, stats, "get_or_create_stats_actor", statistics)
        arbiter = _once(lambda: _Here(_coordinator(stack)))
        replace(stack, coordinator, "get_or_create_autoscaling_coordinator", arbiter)
        tracker = _ActorLocations(ray.get_runtime_context().get_node_id())
        for module in (actor_pool_map_operator, cached_ray_internals):
            replace(stack, module, "get_or_create_actor_location_tracker", lambda: tracker)
        yield


def replace(stack: ExitStack, owner: Any, name: str, new: Callable[..., Any]) -> None:
    """Until `stack` closes, what is private to Ray and called `name`, where this version has it."""
    if hasattr(owner, name):
        stack.enter_context(patch.object(owner, name, new))


def _once(make: Callable[[], Any]) -> Callable[[], Any]:
    made: list[Any] = []
    lock = threading.Lock()

    def get() -> Any:
        with lock:
            if not made:
                made.append(make())
            return made[0]

    return get


def _coordinator(stack: ExitStack) -> Any:
    """The coordinator, whose thread ends soon after the session does."""
    made = coordinator._AutoscalingCoordinatorActor()
    tick, over = made._tick, threading.Event()

    def tick_or_end() -> None:
        if over.is_set():
            raise SystemExit
        tick()

    made._tick = tick_or_end
    stack.callback(over.set)
    return made


class _Here:
    """An actor's handle, as far as Ray Data uses one, to an object of this process."""

    def __init__(self, target: Any) -> None:
        self._target = target
        # An actor does one thing at a time.
        self._lock = threading.RLock()

    def __getattr__(self, name: str) -> _Method:
        return _Method(getattr(self._target, name), self._lock)


class _Method:
    def __init__(self, method: Callable[..., Any], lock: threading.RLock) -> None:
        self._method, self._lock = method, lock

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            found = self._method(*args, **kwargs)
        return None if found is None else ray.put(found)


class _ActorLocations:
    """Says where actors are: all on the one node that there is. Actors that are to tell where they
    have come up get a copy.
    """

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id

    @property
    def update_actor_location(self) -> _Method:
        return _Method(lambda *_: None, threading.RLock())

    @property
    def get_actor_locations(self) -> _Method:
        return _Method(lambda ids: dict.fromkeys(ids, self._node_id), threading.RLock())
