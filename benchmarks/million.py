"""Scaling towards a million films: simulated tasks through the inputs, the cluster and the journal of `femae predict`.

python benchmarks/million.py [--tasks 200000] [--cluster local]
A table lists the tasks (s3://bucket/films/..., which are never opened). A task represents a film: its seconds of work
are drawn from a log-normal distribution (median 60 s, sigma 1) and written into a record as long as a real one, without
waiting. One in a hundred fails, one in a thousand kills its worker the first time. Measured: overhead per task (wall
time times workers), memory of this process over time, bytes of the journal, and the time that the same command would
take to determine that nothing is left to do.
"""

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from femae.cluster import Cluster
from femae.errors import InputError
from femae.inference.journal import JOURNAL_NAME, LocalJournal
from femae.inference.output_folder import UniqueStems
from femae.inference.run_record import now
from femae.inference.work_unit import UnitRecord, WorkUnit, WorkUnits


def simulate(marks: Path, unit: WorkUnit) -> UnitRecord:
    """The result of a simulated UnitWorker, without work."""
    rng = np.random.default_rng(unit.number)
    fate, seconds = rng.random(), float(rng.lognormal(np.log(60), 1))
    if fate < 0.01:
        raise InputError(f"{unit.item.name}: cannot be read")
    mark = marks / str(unit.number)
    if fate < 0.011 and not mark.exists():
        mark.touch()
        os._exit(1)
    frames = int(25 * seconds)
    return UnitRecord(
        input=unit.item.name,
        kind="video",
        stem=unit.stem,
        identity=identity(unit),
        outputs={"table.csv": 0},
        num_rows=frames,
        num_frames=frames,
        num_no_face=0,
        num_unreadable=0,
        num_faces=frames,
        seconds=round(seconds, 3),
        finished=now(),
        lines=[f"{unit.item.name}: {frames} frames ({frames} with a face, 0 without), 1 face id", "  happiness 100%"],
        totals=[{"face_id": 1, "seconds": seconds, **{f"share_{number}": rng.random() for number in range(14)}}],
    )


def identity(unit: WorkUnit) -> str:
    """An identity as long as a real one."""
    return hashlib.sha256(unit.item.name.encode()).hexdigest()[:32]


def make_worker(marks: Path) -> Callable[[WorkUnit], UnitRecord]:
    """The function by which a worker processes its tasks."""
    return partial(simulate, marks)


def memory_mb() -> float:
    """Resident memory of this process, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=200_000)
    parser.add_argument("--cluster", default="local")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(args.tasks, args.cluster, Path(folder))


def measure(num_tasks: int, address: str, folder: Path) -> None:
    """Run the tasks and print a table."""
    (folder / "table.csv").touch()
    (folder / "marks").mkdir()
    with (folder / "films.csv").open("w") as table:
        table.write("path,site\n")
        for number in range(num_tasks):
            table.write(f"s3://bucket/films/{number // 1000:04d}/{number:08d}.mp4,{number % 7}\n")
    fresh, started = memory_mb(), time.perf_counter()
    units = WorkUnits([str(folder / "films.csv")], stem=UniqueStems())
    finding, found = time.perf_counter() - started, memory_mb()
    assert len(units) == num_tasks
    journal = LocalJournal(folder, settings={"benchmark": "million"})
    failed, seen, memory = 0, bytearray(num_tasks), []
    with Cluster(address) as cluster:
        workers = cluster.num_workers
        started = time.perf_counter()
        for number, ended in enumerate(cluster.run(partial(make_worker, folder / "marks"), units)):
            assert not seen[ended.job.number], "a task came twice"
            seen[ended.job.number] = 1
            if ended.result is None:
                failed += 1
            else:
                journal.add(ended.result)
            if number % (num_tasks // 10) == 0:
                memory.append(memory_mb())
                print(f"  {number} tasks, {time.perf_counter() - started:.0f} s, {memory[-1]:.0f} MB", flush=True)
        wall = time.perf_counter() - started
    journal.close()
    assert all(seen), "a task was lost"
    deaths = len(list((folder / "marks").iterdir()))
    size = (folder / JOURNAL_NAME).stat().st_size
    started = time.perf_counter()
    again = LocalJournal(folder, settings={"benchmark": "million"})
    left = sum(bool(again.why_again(unit, identity=partial(identity, unit))) for unit in units)
    resume = time.perf_counter() - started
    assert left == failed
    print("| | |\n|---|---:|")
    print(f"| tasks; workers | {num_tasks:,}; {workers} |")
    print(f"| failed; workers that died | {failed:,}; {deaths:,} |")
    print(f"| wall time | {wall:.0f} s |")
    print(f"| overhead a task, one worker's time | {wall * workers / num_tasks * 1000:.2f} ms |")
    print(f"| tasks a second, one driver | {num_tasks / wall:.0f} |")
    memory_said = f"{fresh:.0f}, {found:.0f}, {memory[1]:.0f}, {memory[-1]:.0f} MB"
    print(f"| to find the inputs | {finding:.1f} s |")
    print(f"| memory of the driver: fresh, with all inputs, after a tenth, after nine | {memory_said} |")
    print(f"| memory after taking it up again | {memory_mb():.0f} MB |")
    print(f"| journal | {size / 1e6:.0f} MB, {size / num_tasks:.0f} bytes a task |")
    print(f"| to find what is left to do | {resume:.1f} s |")


if __name__ == "__main__":
    main()
