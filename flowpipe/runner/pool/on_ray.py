"""Process clips on a Ray cluster.

Each worker is an actor; one that dies is replaced by another, wherever Ray places it. joblib's Ray
backend is not used: it cannot return results as they arrive, and one clip that fails makes all of
them fail.
"""

from __future__ import annotations

import logging
import pickle
import socket
from typing import Any

from flowpipe.errors import ParameterError
from flowpipe.runner.pool.results import Advance, Fatal, Lost, Outcome, RunStoppedError, Work
from flowpipe.runner.pool.worker_host import WorkerHost
from flowpipe.runner.pool.workers import Workers

try:
    import ray
    from ray.exceptions import RayActorError, RayError
except ImportError as error:
    raise ParameterError(
        f"executor is 'ray', which is not installed ({error}); pip install 'flowpipe[ray]'"
    ) from None


class RayPool:
    """Use actors of a Ray cluster, each on one core.

    Parameters
    ----------
    work
        The function for one clip.
    workers
        ``address`` of the cluster, or None to start one on this machine; ``jobs``, the number of
        actors, by default one per core of the cluster.
    advance
        Called with the number of units processed, clip by clip.

    Raises
    ------
    ParameterError
        No cluster answers at the address.
    """

    def __init__(self, work: Work[Any], workers: Workers, advance: Advance) -> None:
        self._advance = advance
        self._own = not ray.is_initialized()
        if self._own:
            _connect(workers)
        size = workers.jobs or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._host = ray.remote(num_cpus=1)(WorkerHost)
        self._parameters = pickle.dumps(work), workers.timeout
        self._free = [self._host.remote(*self._parameters) for _ in range(size)]
        self._clips: dict[Any, tuple[Any, Any]] = {}

    def free_slots(self) -> int:
        """Return the number of idle actors."""
        return len(self._free)

    def submit(self, clip: Any) -> None:
        """Send a clip to an idle actor."""
        actor = self._free.pop()
        self._clips[actor.process.remote(clip)] = clip, actor

    def wait(self) -> list[tuple[Any, Outcome[Any] | Fatal | Lost]]:
        """Wait for at least one clip to end."""
        ready, _ = ray.wait(list(self._clips), num_returns=1)
        ended = []
        for reference in ready:
            clip, actor = self._clips.pop(reference)
            result = self._result(reference)
            if isinstance(result, Lost):
                actor = self._host.remote(*self._parameters)
            self._free.append(actor)
            ended.append((clip, result))
        return ended

    def close(self) -> None:
        """Stop the actors, and the cluster if it was started for this run."""
        for actor in [*self._free, *(actor for _, actor in self._clips.values())]:
            ray.kill(actor)
        if self._own:
            ray.shutdown()

    def _result(self, reference: Any) -> Outcome[Any] | Fatal | Lost:
        try:
            units, result = ray.get(reference)
        except RayActorError:
            return Lost("the Ray worker died")
        except RayError as error:
            raise RunStoppedError(
                f"stopped: the Ray cluster failed ({error}). Finished clips are complete; run "
                "the same command again to resume"
            ) from None
        self._advance(units)
        return result  # type: ignore[no-any-return]


def _connect(workers: Workers) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if workers.address is None:
        ray.init(num_cpus=workers.local_jobs, include_dashboard=False, **options)
        return
    try:
        # Ray itself would keep trying for minutes.
        host, _, port = workers.address.removeprefix("ray://").rpartition(":")
        if host:
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=workers.address, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise ParameterError(
            f"address is {workers.address!r}: no Ray cluster answers there ({error})"
        ) from None
