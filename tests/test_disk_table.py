"""The table that waits in a file: a mapping, whatever the keys, for several threads."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from femae.disk_table import DiskTable
from femae.errors import OutputError

ANY_TEXT = st.text(st.characters(codec=None, categories=None), max_size=12)  # surrogates too, as in names of files


@given(st.lists(st.tuples(ANY_TEXT | st.integers(0, 2**62), st.binary(max_size=9)), max_size=30), ANY_TEXT)
def test_it_is_a_mapping(entries: list[tuple[str | int, bytes]], prefix: str) -> None:
    want = dict(entries)
    with DiskTable() as table:
        for key, value in entries:
            table.put(key, value)
        assert len(table) == len(want)
        assert {key: table.get(key) for key in want} == want
        assert "no such key at all" not in table and table.get(-1) is None
        texts = [key for key in want if isinstance(key, str) and key.startswith(prefix)]
        assert list(table.texts(prefix)) == sorted(texts)


def test_many_keys_and_threads() -> None:
    with DiskTable() as table, ThreadPoolExecutor(8) as pool:
        names = [f"films/{number:05d}.mp4" for number in range(2500)]  # more than are asked for at once
        list(pool.map(table.add, names))
        assert len(table) == 2500 and list(table.texts("films/")) == names
        assert all(pool.map(table.__contains__, names))


def test_a_full_disk_is_said_in_one_sentence() -> None:
    with DiskTable() as table:
        table._db.execute("PRAGMA max_page_count = 20")  # what SQLite says then is what it says of a full disk
        with pytest.raises(OutputError, match=r"temporary folder is full.*set TMPDIR to a larger disk"):
            for number in range(1000):
                table.put(number, bytes(1000))
