"""Ordered parallel map and prefetching on threads, with a bounded number of items in flight, so that memory stays flat.

The heavy parts (FFmpeg, ONNX Runtime, Pillow) release the GIL, so threads use all cores.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ordered_map", "prefetch"]

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], *, ahead: int) -> Iterator[R]:
    """Like map(), in order, with at most `ahead` calls running or finished but not yet consumed."""
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            while len(pending) >= ahead or (pending and pending[0].done()):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def prefetch(items: Iterable[T], *, size: int) -> Generator[T, None, None]:
    """Run an iterable in a background thread, at most `size` items ahead of the consumer.

    An exception of the iterable is raised at the position of its item. Closing the generator ends the thread.
    """
    buffer: queue.Queue[tuple[str, T | BaseException | None]] = queue.Queue(maxsize=size)
    stopped = threading.Event()

    def put(kind: str, value: T | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                buffer.put((kind, value), timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def produce() -> None:
        try:
            for item in items:
                if not put("item", item):
                    return
            put("end", None)
        except BaseException as error:  # re-raised in the consumer
            put("error", error)

    thread = threading.Thread(target=produce, name="femae-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = buffer.get()
            if kind == "end":
                return
            if kind == "error":
                assert isinstance(value, BaseException)
                raise value
            yield value  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join(timeout=5)
