"""Running tasks: one after another, or in several processes; the results do not depend on which."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing.connection import wait

from perturbcast._progress import Progress
from perturbcast.benchmark.dataset import Dataset
from perturbcast.benchmark.plan import Task
from perturbcast.benchmark.sides import whole_de
from perturbcast.benchmark.store import Store
from perturbcast.benchmark.work import Worker

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

_worker: Worker | None = None  # of a child process, set once when it starts


def execute(
    tasks: Sequence[Task], *, worker: Worker, jobs: int = 1, threads: int = 1, progress: Progress | None = None
) -> None:
    """Runs every task and stores its part. An interruption leaves the parts that are finished."""
    progress = progress or Progress()
    if jobs == 1 or len(tasks) < 2:
        for task in progress.track(tasks, label="benchmark", total=len(tasks)):
            worker.run(task)
        return
    _share(tasks, worker)
    with _pool(worker, jobs=min(jobs, len(tasks)), threads=threads) as pool:
        waiting = [pool.submit(_run, task) for task in tasks]
        for done in progress.track(as_completed(waiting), label="benchmark", total=len(tasks)):
            done.result()


def _share(tasks: Sequence[Task], worker: Worker) -> None:
    """Computes once, before the processes start, what all of them would compute."""
    for name in {task.dataset for task in tasks if task.split.cells_train is None}:
        whole_de(worker.datasets[name], cache=worker.store.cache)


@contextmanager
def _pool(worker: Worker, *, jobs: int, threads: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that each hold the data sets; stopped at once on an error or interruption."""
    given = (worker.datasets, worker.store, worker.profile)
    with _environment(dict.fromkeys(THREAD_VARIABLES, str(threads))):
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=given)
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise
        pool.shutdown()


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
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


def _begin(datasets: dict[str, Dataset], store: Store, profile: str) -> None:
    """Start of a child process: it leaves interruptions to its parent, and ends if the parent is killed."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    _worker = Worker(datasets, store, profile)


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _run(task: Task) -> None:
    assert _worker is not None, "the process was started by _begin"
    _worker.run(task)
