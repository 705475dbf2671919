"""The Ray cluster that a job runs on: joined, or started and stopped."""

from __future__ import annotations

import logging
import os
import tempfile
import uuid
import warnings
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import ray._private.worker
import ray.data
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from vidembed import local_ray, sources
from vidembed.errors import ConfigError, RunError, VidembedError
from vidembed.quiet import native_stderr_to

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOG_BYTES = 1 << 20


@contextmanager
def connected(address: str | None, out: str) -> Iterator[None]:
    """A Ray session: the one that is there, the cluster at `address`, or one started here and
    stopped afterwards. Ray's own messages go to OUT/logs.
    """
    if ray.is_initialized():
        with _own_context():
            yield
        return
    with tempfile.TemporaryDirectory(prefix="vidembed-") as folder:
        log = os.path.join(folder, "driver.log")
        try:
            with native_stderr_to(log), _session(address, out), _causes_logged():
                yield
        finally:
            _keep(out, Path(log))


@contextmanager
def _causes_logged() -> Iterator[None]:
    """A job's failure is one line; what a worker said of it, with its traceback, is in the log.
    Ray tells of it too, but not before a session that ends at once.
    """
    try:
        yield
    except RunError as error:
        if isinstance(error.__cause__, ray.exceptions.RayError):
            os.write(2, f"{error.__cause__}\n".encode())
        raise


@contextmanager
def _session(address: str | None, out: str) -> Iterator[None]:
    address = address or os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # See store.milvus: a fork beside gRPC's busy threads may never come back.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
    with ExitStack() as stack:
        local_ray.replace(stack, ray._private.worker, "print_to_stdstream", _to_the_log)
        try:
            if address and address != "local":
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
                stack.callback(ray.shutdown)
            else:
                cpus = os.cpu_count() or 1
                own = local_ray.started(num_cpus=cpus, logging_level=logging.ERROR)
                stack.enter_context(own)
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise ConfigError(
                f"Ray at {address or 'local'} cannot be joined: {str(error).splitlines()[0]}"
            ) from error
        _quieten()
        stack.callback(_keep_logs, out)
        with _own_context():
            yield


def size() -> tuple[float, float]:
    """CPUs and GPUs of the cluster."""
    resources = ray.cluster_resources()
    return resources.get("CPU", 0.0), resources.get("GPU", 0.0)


def check_shared(out: str) -> None:
    """Raise ConfigError where `out` is on a disk that some node of the cluster does not see."""
    if len(_nodes()) < 2 or not sources.is_local(out):
        return
    marker = sources.join(out, f".seen-{uuid.uuid4().hex}")
    sources.write_whole(marker, b"")
    try:
        _check_seen(marker, f"{out}: on a cluster, --out")
    finally:
        sources.remove(marker)


def check_run_seen(run: str) -> None:
    """`check_shared` of a run that is only read."""
    if len(_nodes()) > 1 and sources.is_local(run):
        _check_seen(sources.join(run, "run.json"), f"{run}: on a cluster, RUN")


def _check_seen(path: str, what: str) -> None:
    nodes = _nodes()
    looks = [_sees(node["NodeID"], path) for node in nodes]
    try:
        for node, seen in zip(nodes, ray.get(looks, timeout=60), strict=True):
            if not seen:
                raise ConfigError(
                    f"node {node['NodeManagerHostname']} does not see {what} must be on s3:// or "
                    f"on a file system that every node mounts"
                )
    except ray.exceptions.GetTimeoutError as error:
        raise RunError("a node of the cluster does not answer") from error


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _sees(node_id: str, path: str) -> Any:
    look = ray.remote(num_cpus=0)(os.path.exists)
    where = NodeAffinitySchedulingStrategy(node_id=node_id, soft=False)
    return look.options(scheduling_strategy=where).remote(path)


@contextmanager
def _own_context() -> Iterator[None]:
    """Ray Data's bars and notices off, as long as the job runs; a user's session has them back."""
    context = ray.data.DataContext.get_current()
    before = context.enable_progress_bars, context.print_on_execution_start
    context.enable_progress_bars = context.print_on_execution_start = False
    with warnings.catch_warnings():
        # max_restarts and the CPUs of write tasks have no other way in yet; the version is pinned.
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        try:
            yield
        finally:
            context.enable_progress_bars, context.print_on_execution_start = before


def _quieten() -> None:
    """Keep Ray's log lines off the terminal; its own log files still have them."""
    for name in ("ray", "ray.data"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.ERROR)
        for handler in list(logger.handlers):
            if isinstance(handler, logging.StreamHandler) and not isinstance(
                handler, logging.FileHandler
            ):
                logger.removeHandler(handler)


def _to_the_log(data: dict[str, Any], **_: Any) -> None:
    """In place of what a thread of Ray's prints on standard output, where a job's result belongs:
    the traceback of each task that failed. File descriptor 2 is the log; the job names the failure.
    """
    os.write(2, "".join(f"{line}\n" for line in data["lines"]).encode())


def _keep_logs(out: str) -> None:
    """Copy the end of this session's driver and worker logs to OUT/logs."""
    session = getattr(getattr(ray._private.worker, "_global_node", None), "_session_dir", None)
    if not session:
        return
    logs = Path(session) / "logs"
    for pattern in ("ray-data/ray-data.log", "worker-*.err", "worker-*.out"):
        for path in logs.glob(pattern):
            _keep(out, path)


def _keep(out: str, path: Path) -> None:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_BYTES))
            data = file.read()
    except OSError:
        return
    # Ray heads each log with lines such as `:actor_name:`; a log of nothing else says nothing.
    if any(line and not line.startswith(b":") for line in data.splitlines()):
        # For want of a log nothing fails, least of all with another error than the one it tells of.
        with suppress(OSError, VidembedError):
            sources.write_whole(sources.join(out, "logs", path.name), data)
