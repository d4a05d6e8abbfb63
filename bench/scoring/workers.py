"""Cases shared out to processes of their own, with the very results of one process."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from logging import NullHandler
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch

from bench import progress
from bench.errors import InputError, RunError, one_line

T = TypeVar("T")
_NAMED = 4  # cases in a message
_IMPORTED = ("bench.scoring.folder", "bench.scoring.run")  # what workers need
_work: Callable[[str], Any]  # of a worker


def check_workers(workers: int) -> int:
    """The number of processes; InputError where it is none."""
    if workers < 1:
        raise InputError(f"--workers {workers}: give a positive number of processes")
    return workers


def of_cases(work: Callable[[str], T], ids: Sequence[str], workers: int = 1) -> list[T]:
    """What `work` makes of every case, in the order of `ids`; with several workers it must be picklable.

    Torch computes with one thread, so that the last digits are those of any number of workers. An error is that of
    the first case that fails, and names it; the cases before it, and those that were being worked on, are done. Raises
    RunError where a process ended by itself.
    """
    workers = min(check_workers(workers), len(ids))
    if workers > 1:
        return _shared(work, ids, workers)
    results, before = [], torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for done, case_id in enumerate(ids, 1):
            results.append(_named(work, case_id))
            progress.report("scoring", done, len(ids))
    finally:
        torch.set_num_threads(before)
    return results


def _named(work: Callable[[str], T], case_id: str) -> T:
    """What `work` makes of a case; an error names the case, and can be sent to another process."""
    try:
        return work(case_id)
    except InputError:  # names a file or a key, maybe of all cases
        raise
    except Exception as error:
        raise RunError(f"case {case_id}: {one_line(error)}") from error


def _shared(work: Callable[[str], T], ids: Sequence[str], workers: int) -> list[T]:
    results: dict[int, T] = {}
    faults: dict[int, Exception] = {}
    running: dict[Future[T], int] = {}
    waiting = iter(range(len(ids)))
    with _pool(work, workers) as pool:
        while True:
            # No more than are worked on: after a failure nothing is begun, and a dead process has few suspects.
            while not faults and len(running) < workers and (number := next(waiting, None)) is not None:
                with _ctrl_c_waits():
                    running[pool.submit(_do, ids[number])] = number
            if not running:
                break
            finished = wait(running, return_when=FIRST_COMPLETED).done
            if any(isinstance(future.exception(), BrokenProcessPool) for future in finished):
                suspects = sorted(number for future, number in running.items() if not _succeeded(future))
                raise RunError(_died([ids[number] for number in suspects]))
            for future in finished:
                number = running.pop(future)
                if error := future.exception():
                    faults[number] = error  # type: ignore[assignment]
                else:
                    results[number] = future.result()
                    progress.report("scoring", len(results), len(ids))
    if faults:
        raise faults[min(faults)]
    return [results[number] for number in range(len(ids))]


def _succeeded(future: Future[Any]) -> bool:
    return future.done() and future.exception() is None


def _died(cases: list[str]) -> str:
    named = ", ".join(cases[:_NAMED]) + (", ..." if len(cases) > _NAMED else "")
    return (
        f"a scoring process ended, killed or out of memory, while it worked on one of: {named}; "
        "the same command goes on from here, with fewer --workers where memory is short"
    )


@contextmanager
def _pool(work: Callable[[str], Any], workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes end at once when the block fails, and when this process ends, however it does."""
    # A server that has imported everything is forked: neither an import per worker nor this process's threads.
    context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
    if os.name == "posix":
        context.set_forkserver_preload(list(_IMPORTED))
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, _begin, (theirs, pickle.dumps(work)))
    try:
        yield pool
        pool.shutdown()
    finally:
        ours.close()
        pool.shutdown(cancel_futures=True)
        theirs.close()


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Ctrl-C waits for the end of the block, and processes that begin in it never hear it: this one ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # begun later, it would let Ctrl-C through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(leash: Connection, work: bytes) -> None:
    """A worker's first act."""
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(leash,), daemon=True).start()
    progress.listen(NullHandler())
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    _work = _Loaded(work)


def _end_with(leash: Connection) -> None:
    try:
        leash.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)


class _Loaded:
    """Work that is unpickled with the first case, so that what goes wrong there is an error of that case."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._known: Callable[[str], Any] | None = None

    def __call__(self, case_id: str) -> Any:
        if self._known is None:
            self._known = pickle.loads(self._content)
        return self._known(case_id)


def _do(case_id: str) -> Any:
    return _named(_work, case_id)
