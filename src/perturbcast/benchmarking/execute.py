"""Running tasks: one after another, or in several processes; the results do not depend on which."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.queues import SimpleQueue

from perturbcast._progress import Progress
from perturbcast.benchmarking.plan import Task
from perturbcast.benchmarking.sides import whole_de
from perturbcast.benchmarking.work import Worker
from perturbcast.errors import ProcessLost

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

_worker: Worker | None = None  # of a child process, set once when it starts


def execute(
    tasks: Sequence[Task], *, worker: Worker, jobs: int = 1, threads: int = 1, progress: Progress | None = None
) -> None:
    """Runs every task and stores its part. An interruption leaves the parts that are finished.

    Raises ProcessLost if a process is killed, for instance because memory ran out.
    """
    progress = progress or Progress()
    if jobs == 1 or len(tasks) < 2:
        for task in progress.track(tasks, label="benchmark", total=len(tasks)):
            worker.run(task, progress=progress)
        return
    _share(tasks, worker)
    with _pool(worker, jobs=min(jobs, len(tasks)), threads=threads) as pool:
        waiting = [pool.submit(_run, task) for task in tasks]
        try:
            for done in progress.track(as_completed(waiting), label="benchmark", total=len(tasks)):
                done.result()
        except BrokenExecutor as error:
            raise ProcessLost(f"a process ended before its task was done ({error}).") from error


def _share(tasks: Sequence[Task], worker: Worker) -> None:
    """Computes once, before the processes start, what all of them would compute."""
    for name in {task.dataset for task in tasks if task.split.cells_train is None}:
        whole_de(worker.datasets[name], cache=worker.store.cache)


@contextmanager
def _pool(worker: Worker, *, jobs: int, threads: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that each hold the data sets; stopped at once on an error or interruption."""
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    with environment(dict.fromkeys(THREAD_VARIABLES, str(threads))):
        pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(queue,))
        threading.Thread(target=_hand_out, args=(queue, worker, jobs), daemon=True).start()
        try:
            yield pool
            pool.shutdown()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise
        finally:
            queue.close()


def _hand_out(queue: SimpleQueue[Worker], worker: Worker, jobs: int) -> None:
    """Gives each process the data sets. In a thread, because a process that dies early would block the writer."""
    with contextlib.suppress(OSError):
        for _ in range(jobs):
            queue.put(worker)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for processes started meanwhile; as before afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _begin(queue: SimpleQueue[Worker]) -> None:
    """Start of a child process: it leaves interruptions to its parent, and ends if the parent is killed."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    _worker = queue.get()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _run(task: Task) -> None:
    assert _worker is not None, "the process was started by _begin"
    _worker.run(task)
