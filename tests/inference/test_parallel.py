"""Ordered parallel map and prefetching: order, bounds and errors."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from femae.inference.parallel import ordered_map, prefetch


def test_ordered_map_keeps_the_order_when_later_items_finish_first() -> None:
    with ThreadPoolExecutor(4) as pool:
        delays = [0.05, 0.0, 0.02, 0.0, 0.01, 0.0]

        def work(item: tuple[int, float]) -> int:
            time.sleep(item[1])
            return item[0]

        assert list(ordered_map(pool, work, enumerate(delays), ahead=4)) == list(range(6))


def test_ordered_map_reads_no_more_than_ahead_items() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield number

    release = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        results = ordered_map(pool, lambda _: release.wait(5), items(), ahead=5)
        threading.Timer(0.05, release.set).start()
        next(results)
        assert taken <= 6
        results.close()  # type: ignore[attr-defined]


def test_prefetch_gives_every_item_and_raises_where_the_source_failed() -> None:
    def items() -> Iterator[int]:
        yield from range(10)
        raise OSError("disk gone")

    got = []
    with pytest.raises(OSError, match="disk gone"):
        for item in prefetch(items(), size=2):
            got.append(item)
    assert got == list(range(10))


def test_closing_prefetch_ends_its_thread() -> None:
    def endless() -> Iterator[int]:
        while True:
            yield 1

    before = threading.active_count()
    stream = prefetch(endless(), size=2)
    assert next(stream) == 1
    assert threading.active_count() == before + 1
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
