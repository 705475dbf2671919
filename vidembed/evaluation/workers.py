"""Where the work of a comparison is done: in this process, or spread over a Ray cluster."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from ctypes.util import find_library
from typing import TYPE_CHECKING, Any, Protocol

from vidembed.errors import ConfigError, RunError, VidembedError
from vidembed.evaluation.sift import Cpu, Gpu

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from vidembed.config import EvaluateConfig
    from vidembed.store.run import Run

# Products of two numbers, of which a core does some 40 thousand million a second. Less is done
# before a Ray session has been started.
SMALL = 1e11
# Tasks for each worker, so that the last of them do not wait long for one.
_TASKS = 4


class Workers(Protocol):
    """Calls of `call(device, shared, task)`, in any order."""

    def shares(self, loads: Sequence[Any]) -> list[Sequence[Any]]:
        """Neighbouring loads put together, a list for each task."""

    def each(
        self, call: Callable[[Cpu | Gpu, Any, Any], Any], shared: Any, tasks: Iterable[Any]
    ) -> Iterator[Any]:
        """The results as they come. Raises what a call raises."""


class Here:
    """In this process, one after the other."""

    def __init__(self, block_bytes: int, *, gpu: bool) -> None:
        self._device = Gpu(block_bytes) if gpu else Cpu(block_bytes)

    def shares(self, loads: Sequence[Any]) -> list[Sequence[Any]]:
        return [loads] if loads else []

    def each(
        self, call: Callable[[Cpu | Gpu, Any, Any], Any], shared: Any, tasks: Iterable[Any]
    ) -> Iterator[Any]:
        for task in tasks:
            yield call(self._device, shared, task)


class OnRay:
    """As tasks of the Ray session that is there: of one CPU each, or of one GPU.

    What is shared lies in the object store once. Two tasks for each worker are under way, or eight
    for a cluster that is still to grow: what they bring is bounded however many there are.
    """

    def __init__(self, block_bytes: int, workers: int, *, gpu: bool) -> None:
        import ray

        self._block_bytes, self._workers = block_bytes, workers
        self._device = Gpu if gpu else Cpu
        resources: dict[str, Any] = {"num_cpus": 1, "num_gpus": 1} if gpu else {"num_cpus": 1}
        self._remote = ray.remote(**resources)(_called)

    def shares(self, loads: Sequence[Any]) -> list[Sequence[Any]]:
        size = max(1, -(-len(loads) // (_TASKS * self._workers)))
        return [loads[at : at + size] for at in range(0, len(loads), size)]

    def each(
        self, call: Callable[[Cpu | Gpu, Any, Any], Any], shared: Any, tasks: Iterable[Any]
    ) -> Iterator[Any]:
        import ray

        there = ray.put(shared)
        waiting = iter(tasks)
        flying: list[Any] = []
        most = max(8, 2 * self._workers)
        try:
            while True:
                while len(flying) < most and (task := next(waiting, None)) is not None:
                    flying.append(
                        self._remote.remote(call, self._device, self._block_bytes, there, task)
                    )
                if not flying:
                    return
                (done,), flying = ray.wait(flying)
                yield _result(done)
        finally:
            for each in flying:
                ray.cancel(each, force=False)


def _called(
    call: Callable[[Cpu | Gpu, Any, Any], Any],
    device: type[Cpu | Gpu],
    block_bytes: int,
    shared: Any,
    task: Any,
) -> Any:
    """Runs in a worker. It only reads, so that Ray may do it again."""
    return call(device(block_bytes), shared, task)


def _result(reference: Any) -> Any:
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, VidembedError):
            raise error.cause from None
        raise RunError(f"a comparison failed: {str(error).splitlines()[-1]}") from error
    except ray.exceptions.RayError as error:
        raise RunError(f"a worker was lost: {str(error).splitlines()[0]}") from error


@contextmanager
def hired(config: EvaluateConfig, runs: Sequence[Run], out: str, work: float) -> Iterator[Workers]:
    """Workers for so many products. Ray is used where it is there already, or is asked for, or
    where the work is not small; one that is started here is stopped afterwards.

    Raises ConfigError where some node of the cluster does not see a run, or for `--device cuda`
    without a GPU.
    """
    block_bytes = config.block_megabytes << 20
    if not wants_ray(work, config.ray_address):
        yield Here(block_bytes, gpu=_gpu_here(config.device))
        return
    from vidembed import cluster

    with cluster.connected(config.ray_address, out):
        for run in runs:
            cluster.check_run_seen(run.uri)
        cpus, gpus = cluster.size()
        on_gpu = config.device != "cpu" and gpus >= 1
        if config.device == "cuda" and not on_gpu:
            raise ConfigError("--device cuda: the Ray cluster has no GPU")
        yield OnRay(block_bytes, max(1, int(gpus if on_gpu else cpus)), gpu=on_gpu)


def wants_ray(work: float, address: str | None) -> bool:
    """Whether Ray compares: where it is there or named, or the products are many."""
    return work >= SMALL or bool(address) or _ray_is_there()


def _ray_is_there() -> bool:
    if os.environ.get("RAY_ADDRESS"):
        return True
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def _gpu_here(device: str) -> bool:
    if device == "cpu":
        return False
    if device == "auto" and "torch" not in sys.modules and find_library("cuda") is None:
        # Without a driver there is no GPU, and torch would be loaded for that answer alone.
        return False
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "--device cuda: torch sees no GPU here; `vidembed doctor` says what it sees"
        )
    return torch.cuda.is_available()
