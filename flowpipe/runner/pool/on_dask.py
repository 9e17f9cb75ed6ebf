"""Process clips on a Dask cluster.

Each clip is a future, one at a time per thread of the cluster. joblib's Dask backend is not used:
it hung after a worker had been killed, and one clip that fails makes all of them fail.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import pickle
import queue
import uuid
from collections import Counter
from typing import Any

from flowpipe.errors import ParameterError
from flowpipe.runner.pool.local import one_thread
from flowpipe.runner.pool.results import Advance, Fatal, Lost, Outcome, RunStoppedError, Work
from flowpipe.runner.pool.worker_host import Result, WorkerHost
from flowpipe.runner.pool.workers import Workers

try:
    import dask
    from distributed import (
        CancelledError,
        Client,
        Future,
        KilledWorker,
        LocalCluster,
        Worker,
        WorkerPlugin,
        get_worker,
        wait,
    )
    from distributed.comm import CommClosedError
except ImportError as error:
    raise ParameterError(
        f"executor is 'dask', which is not installed ({error}); pip install 'flowpipe[dask]'"
    ) from None

_PATIENCE = 60.0


class DaskPool:
    """Use the threads of a Dask cluster.

    Parameters
    ----------
    work
        The function for one clip.
    workers
        ``address`` of the scheduler, or None to start a cluster on this machine; ``jobs``, the
        size of that cluster, or the largest number of threads used of a running one.
    advance
        Called with the number of units processed, clip by clip.

    Raises
    ------
    ParameterError
        No scheduler answers at the address.
    """

    def __init__(self, work: Work[Any], workers: Workers, advance: Advance) -> None:
        self._advance = advance
        self._limit = workers.jobs
        self._clips: dict[Future, tuple[Any, str]] = {}
        self._plugin = f"flowpipe-{uuid.uuid4().hex}"
        self._keys = itertools.count()
        self._close = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            self._client = stack.enter_context(_client(stack, workers))
            plugin = _HostPlugin(pickle.dumps(work), workers.timeout)
            self._client.register_plugin(plugin, name=self._plugin)
            self._close = stack.pop_all()
        self._own = workers.address is None

    def free_slots(self) -> int:
        """Return the number of idle threads; wait a minute if the cluster has no worker."""
        threads = len(self._threads())
        if not threads and not self._clips:
            try:
                self._client.wait_for_workers(1, timeout=_PATIENCE)
            except TimeoutError:
                raise RunStoppedError(
                    f"stopped: the Dask cluster has had no worker for {_PATIENCE:.0f} s. Finished "
                    "clips are complete; run the same command again to resume"
                ) from None
            threads = len(self._threads())
        limit = threads if self._limit is None else min(threads, self._limit)
        return max(0, limit - len(self._clips))

    def submit(self, clip: Any) -> None:
        """Submit a clip."""
        key = f"{self._plugin}-{next(self._keys)}"
        address = self._free()
        # Dask would queue two clips at one thread, and both would be lost with its worker. If the
        # worker is gone by now, any other may take the clip.
        future = self._client.submit(
            _process,
            self._plugin,
            clip,
            key=key,
            pure=False,
            workers=[address] if address else None,
            allow_other_workers=bool(address),
        )
        self._clips[future] = clip, address

    def wait(self) -> list[tuple[Any, Outcome[Any] | Fatal | Lost]]:
        """Wait for clips to end, at most 5 seconds."""
        if not self._clips:
            return []
        # Workers may join meanwhile, so there is a limit.
        with self._client.as_current(), contextlib.suppress(TimeoutError):
            wait(list(self._clips), timeout=5, return_when="FIRST_COMPLETED")
        return [
            (self._clips.pop(future)[0], self._result(future))
            for future in list(self._clips)
            if future.done()
        ]

    def close(self) -> None:
        """Stop what was started; leave a cluster that was already running as it was."""
        # A cluster that is gone needs no cleaning up.
        with contextlib.suppress(Exception):
            self._client.cancel(list(self._clips), force=True)
            if not self._own:
                self._client.unregister_worker_plugin(self._plugin)
        self._close.close()

    def _threads(self) -> list[str]:
        """Return the address of the worker of each thread, for workers that are ready."""
        # A lambda, because flowpipe may not be installed on the scheduler's machine.
        threads: dict[str, int] = self._client.run_on_scheduler(
            lambda dask_scheduler: {w.address: w.nthreads for w in dask_scheduler.running}
        )
        return [address for address, count in threads.items() for _ in range(count)]

    def _free(self) -> str:
        """Return the address of a worker with an idle thread; empty if all workers are gone."""
        threads = Counter(self._threads())
        threads.subtract(address for _, address in self._clips.values())
        return max(threads, key=threads.__getitem__, default="")

    def _result(self, future: Future) -> Outcome[Any] | Fatal | Lost:
        try:
            units, result = future.result()
        except KilledWorker:
            return Lost("the Dask worker died")
        except (CancelledError, CommClosedError, OSError) as error:
            raise RunStoppedError(
                f"stopped: the Dask cluster is gone ({error}). Finished clips are complete; run "
                "the same command again to resume"
            ) from None
        self._advance(units)
        return result  # type: ignore[no-any-return]


def _client(stack: contextlib.ExitStack, workers: Workers) -> Client:
    if workers.address is not None:
        try:
            return Client(workers.address, timeout=10, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ParameterError(
                f"address is {workers.address!r}: no Dask scheduler answers there ({error})"
            ) from None
    # The death of a worker counts as one attempt: retries are made here, not by the scheduler.
    stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": 0}))
    with one_thread():
        cluster = LocalCluster(
            n_workers=workers.local_jobs,
            threads_per_worker=1,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        )
    return Client(stack.enter_context(cluster), set_as_default=False)


class _HostPlugin(WorkerPlugin):  # type: ignore[misc]
    """Give each thread of a Dask worker a child process."""

    def __init__(self, work: bytes, timeout: float | None) -> None:
        self._parameters = work, timeout

    def setup(self, worker: Worker) -> None:
        """Create the hosts of a worker that joins."""
        self._all = [WorkerHost(*self._parameters) for _ in range(worker.state.nthreads)]
        self._free: queue.SimpleQueue[WorkerHost] = queue.SimpleQueue()
        for host in self._all:
            self._free.put(host)

    def teardown(self, worker: Worker) -> None:
        """Stop the processes at the end of the run or of the worker."""
        for host in self._all:
            host.close()

    def process(self, clip: Any) -> Result:
        """Process a clip in an idle host."""
        host = self._free.get()
        try:
            return host.process(clip)
        finally:
            self._free.put(host)


def _process(name: str, clip: Any) -> Result:
    plugin: _HostPlugin = get_worker().plugins[name]
    return plugin.process(clip)
