"""Clips on a Dask cluster.

Clips go out one a thread of the cluster, as futures of their own: joblib's Dask backend was seen to
wait for ever after a worker had been killed, and fails all clips where one fails.
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
from flowpipe.runner.pool.worker_host import Host, Result
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
    """The threads of a Dask cluster.

    Parameters
    ----------
    work
        What is done.
    workers
        ``address`` of the scheduler, or None to start a cluster on this machine; ``jobs`` of it, or
        at most so many of a cluster that is there.
    advance
        Told of the units done, clip by clip.

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
            hosts = _Hosts(pickle.dumps(work), workers.timeout)
            self._client.register_plugin(hosts, name=self._plugin)
            self._close = stack.pop_all()
        self._own = workers.address is None

    def room(self) -> int:
        """Threads without a clip; waits a minute for a cluster that has lost all workers."""
        threads = len(self._threads())
        if not threads and not self._clips:
            try:
                self._client.wait_for_workers(1, timeout=_PATIENCE)
            except TimeoutError:
                raise RunStoppedError(
                    f"stopped: the Dask cluster has had no worker for {_PATIENCE:.0f} s. What is "
                    "finished is whole; run the same command again to go on"
                ) from None
            threads = len(self._threads())
        limit = threads if self._limit is None else min(threads, self._limit)
        return max(0, limit - len(self._clips))

    def give(self, clip: Any) -> None:
        """Submit a clip."""
        key = f"{self._plugin}-{next(self._keys)}"
        address = self._free()
        # Dask would queue two clips at one thread, and both would be lost with its worker. Where
        # the worker is gone by now, any other will do.
        future = self._client.submit(
            _do,
            self._plugin,
            clip,
            key=key,
            pure=False,
            workers=[address] if address else None,
            allow_other_workers=bool(address),
        )
        self._clips[future] = clip, address

    def take(self) -> list[tuple[Any, Outcome[Any] | Fatal | Lost]]:
        """Wait for futures."""
        if not self._clips:
            return []
        # Not for ever, since workers may join meanwhile.
        with self._client.as_current(), contextlib.suppress(TimeoutError):
            wait(list(self._clips), timeout=5, return_when="FIRST_COMPLETED")
        return [
            (self._clips.pop(future)[0], self._result(future))
            for future in list(self._clips)
            if future.done()
        ]

    def close(self) -> None:
        """End what was started; leave a cluster that was there as it was."""
        # A cluster that is gone needs no tidying up.
        with contextlib.suppress(Exception):
            self._client.cancel(list(self._clips), force=True)
            if not self._own:
                self._client.unregister_worker_plugin(self._plugin)
        self._close.close()

    def _threads(self) -> list[str]:
        """The address of each thread's worker, of those that are ready: clips go to no other."""
        # A lambda, since the scheduler's machine need not have flowpipe.
        threads: dict[str, int] = self._client.run_on_scheduler(
            lambda dask_scheduler: {w.address: w.nthreads for w in dask_scheduler.running}
        )
        return [address for address, count in threads.items() for _ in range(count)]

    def _free(self) -> str:
        """A worker with a free thread; empty if all are gone."""
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
                f"stopped: the Dask cluster is gone ({error}). What is finished is whole; run the "
                "same command again to go on"
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
    # A worker's death is one attempt: the clip is given out again here, not by the scheduler.
    stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": 0}))
    with one_thread():
        cluster = LocalCluster(
            n_workers=workers.local_jobs,
            threads_per_worker=1,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        )
    return Client(stack.enter_context(cluster), set_as_default=False)


class _Hosts(WorkerPlugin):  # type: ignore[misc]
    """A host for each thread of a Dask worker."""

    def __init__(self, work: bytes, timeout: float | None) -> None:
        self._parameters = work, timeout

    def setup(self, worker: Worker) -> None:
        """Start when a worker joins."""
        self._all = [Host(*self._parameters) for _ in range(worker.state.nthreads)]
        self._free: queue.SimpleQueue[Host] = queue.SimpleQueue()
        for host in self._all:
            self._free.put(host)

    def teardown(self, worker: Worker) -> None:
        """End with the run, or with the worker."""
        for host in self._all:
            host.close()

    def do(self, clip: Any) -> Result:
        """Have a free host do it."""
        host = self._free.get()
        try:
            return host.do(clip)
        finally:
            self._free.put(host)


def _do(plugin: str, clip: Any) -> Result:
    hosts: _Hosts = get_worker().plugins[plugin]
    return hosts.do(clip)
