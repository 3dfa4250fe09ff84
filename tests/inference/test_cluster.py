"""Runs on two real Ray nodes of this machine, whose workers, nodes and drivers are killed."""

import importlib.util
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from femae.cli import main
from femae.cluster import Cluster
from femae.errors import ConfigError, FemaeError, InputError
from femae.video.pyav import PyAVSource

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="needs femae[ray]"),
]
Start = Callable[..., Any]
LONG = bool(os.environ.get("FEMAE_LONG_TESTS"))  # more films, more killed processes
NUM_FILMS, NUM_FRAMES, NUM_BLOWS = (60, 40, 10) if LONG else (10, 15, 5)
OPTIONS = ["--detect-every", "1", "--tables", "summary,segments", "--format", "csv,parquet"]


class Nodes:
    """A cluster of two nodes with one core each; the second one is stopped and restarted."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as RayCluster

        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        head = {"num_cpus": 1, "include_dashboard": False, "ray_client_server_port": port}
        self._cluster = RayCluster(initialize_head=True, head_node_args=head)
        self.address, self.client_address = self._cluster.address, f"ray://127.0.0.1:{port}"
        self._second: Any = None
        self.start_second()

    def start_second(self) -> None:
        if self._second is None:
            self._second = self._cluster.add_node(num_cpus=1)

    def kill_second(self) -> None:
        if self._second is not None:
            self._cluster.remove_node(self._second, allow_graceful=False)
            self._second = None

    def close(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    found = Nodes()
    yield found
    found.close()


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory, make_video: Any, astronaut: np.ndarray) -> list[Path]:
    """Films with a moving face; one file is not a film."""
    folder = tmp_path_factory.mktemp("films")
    face = astronaut[0:240, 120:360]
    paths = []
    for number in range(NUM_FILMS):
        pictures = [np.roll(face, 2 * frame + 5 * number, axis=1) for frame in range(NUM_FRAMES)]
        paths.append(make_video(folder / f"film{number}.mp4", pictures))
    paths[4].write_bytes(b"no film at all")
    return paths


@pytest.fixture(scope="module")
def here(films: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run without a cluster."""
    out = tmp_path_factory.mktemp("here") / "out"
    assert main(["predict", *map(str, films), "--out", str(out), "--quiet", *OPTIONS]) == 1
    return out


def tables(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (".csv", ".parquet")}


@pytest.fixture(scope="module")
def start(start_forker: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """start(films, out, address, ...): `femae predict` on a cluster, in a separate process."""
    forker, logs = start_forker("ray", "femae.cli.commands", "femae.inference.run"), count()
    folder = tmp_path_factory.mktemp("logs")

    def start(films: list[Path], out: Path, address: str, *more: str) -> Any:
        words = ["predict", *map(str, films), "--out", str(out), *OPTIONS, *more, "--cluster", address]
        return forker.start_femae(*words, log=folder / f"{next(logs)}.log")

    return start


def workers() -> list[psutil.Process]:
    """The processes of all actors, on either node."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cmdline()[:1] == ["ray::_Worker.run"]:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def test_the_tables_of_a_cluster_are_those_of_one_process(
    nodes: Nodes, start: Start, films: list[Path], here: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = start(films, out, nodes.address)
    status, said = process.wait(), process.log.read_text()
    assert status == 1, said
    assert "film4.mp4" in said and f"1 of {NUM_FILMS} inputs failed" in said
    assert f"film9.mp4: {NUM_FRAMES} frames" in said
    assert tables(out) == tables(here)
    again = start([*films[:4], *films[5:]], out, nodes.address)
    assert again.wait() == 0
    assert f"{NUM_FILMS - 1} of {NUM_FILMS - 1} inputs were done before" in again.log.read_text()


def test_a_cluster_by_its_client(nodes: Nodes, start: Start, films: list[Path], here: Path, tmp_path: Path) -> None:
    """ray://: the command may run on a machine outside the cluster."""
    out = tmp_path / "out"
    process = start(films, out, nodes.client_address)
    status, said = process.wait(), process.log.read_text()
    assert status == 1 and f"1 of {NUM_FILMS} inputs failed" in said, said
    assert tables(out) == tables(here)


def test_killed_workers_nodes_and_drivers_cost_nothing_but_time(
    nodes: Nodes, start: Start, films: list[Path], here: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    rng = np.random.default_rng(0)
    blows = (["worker", "node", "driver", "worker", "driver"] * 2)[:NUM_BLOWS]
    struck = []
    process = start(films, out, nodes.address)
    while blows:
        deadline = time.monotonic() + 30
        while process.is_running() and not workers() and time.monotonic() < deadline:
            time.sleep(0.02)
        if not process.is_running():
            break
        time.sleep(rng.uniform(0, 0.3))
        blow = blows.pop(0)
        struck.append(blow)
        if blow == "worker" and (found := workers()):
            os.kill(found[0].pid, signal.SIGKILL)
        elif blow == "node":
            nodes.kill_second()
            nodes.start_second()
        elif blow == "driver":
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            process = start(films, out, nodes.address)
    status, said = process.wait(), process.log.read_text()
    nodes.start_second()
    assert status == 1 and f"1 of {NUM_FILMS} inputs failed" in said, said
    assert {"worker", "node", "driver"} <= set(struck) and (not LONG or len(struck) == NUM_BLOWS)
    sys.stdout.write(f"struck: {struck}\n")
    assert tables(out) == tables(here)
    assert not list(out.glob("*.part")) and not list(out.glob("*.lock"))


def test_workers_share_a_long_film(
    nodes: Nodes, start: Start, tmp_path: Path, make_video: Any, astronaut: np.ndarray, films: list[Path]
) -> None:
    """Free workers process its parts, which outlive the driver and are joined to the table of one process."""
    face = astronaut[0:240, 120:360]
    pictures = [np.roll(face, 2 * second % 60, axis=1) for second in range(0, 300, 6)]
    long = make_video(tmp_path / "long.mp4", pictures, rate=Fraction(1, 6), options={"g": "5"})
    options = ["--part-minutes", "1", "--video", "--smooth", "2", "--columns", "pose"]
    here, out = tmp_path / "here", tmp_path / "there"
    inputs = [long, films[0]]
    assert main(["predict", *map(str, inputs), "--out", str(here), "--quiet", *OPTIONS, *options]) == 0
    process = start(inputs, out, nodes.address, *options)
    deadline = time.monotonic() + 60
    while len(list(out.glob(".parts/*.parquet"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in out.glob(".parts/*.parquet")}
    assert 2 <= len(before) < 5 and not (out / "long.csv").exists()
    process = start(inputs, out, nodes.address, *options)
    while process.is_running() and len(list(out.glob(".parts/*.parquet"))) < 5:
        time.sleep(0.005)
    kept = [path for path, changed in before.items() if path.exists() and path.stat().st_mtime_ns == changed]
    status, said = process.wait(), process.log.read_text()
    assert status == 0, said
    assert len(kept) == len(before) and "long.mp4: 50 frames" in said
    assert tables(out) == tables(here)
    assert not (out / ".parts").exists()
    for folder in (here, out):
        with PyAVSource(folder / "long.annotated.mp4") as film:
            assert sum(1 for _ in film) == 50


def test_a_part_that_fails_is_said_once(
    nodes: Nodes, start: Start, tmp_path: Path, make_video: Any, astronaut: np.ndarray
) -> None:
    pictures = [astronaut[0:240, 120:360]] * 130
    long = make_video(tmp_path / "long.mp4", pictures, rate=Fraction(1))
    out = tmp_path / "out"
    out.mkdir()
    (out / ".parts").write_text("no folder")
    process = start([long], out, nodes.address, "--part-minutes", "1")
    status, said = process.wait(), process.log.read_text()
    assert status == 1 and said.count("cannot write") == 1, said


def _square(folder: Path, number: int) -> int:
    """A job: some fail, some kill their worker once, one every time."""
    mark = folder / str(number)
    if number % 50 == 7:
        raise InputError(f"{number} is not to our taste")
    if number == 13 or (number % 60 == 11 and not mark.exists()):
        mark.touch()
        os._exit(1)
    return number * number


def _make(folder: Path) -> Callable[[int], int]:
    return partial(_square, folder)


def test_each_job_ends_once_whatever_happens(nodes: Nodes, tmp_path: Path) -> None:
    ended: dict[int, Any] = {}
    with Cluster(nodes.address) as cluster:
        assert cluster.num_workers >= 2
        for one in cluster.run(partial(_make, tmp_path), range(200)):
            assert one.job not in ended
            ended[one.job] = one
    assert len(ended) == 200
    assert all(isinstance(ended[n].error, InputError) and ended[n].result is None for n in range(7, 200, 50))
    assert "4 workers died while processing it" in str(ended[13].error)
    good = [n for n in range(200) if n % 50 != 7 and n != 13]
    assert all(ended[n].result == n * n and ended[n].error is None for n in good)
    assert sum((tmp_path / str(n)).exists() for n in range(11, 200, 60)) == 4


def _no_model() -> Callable[[int], int]:
    raise InputError("no such model here")


def _dies() -> Callable[[int], int]:
    os._exit(1)


def test_workers_that_cannot_begin(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("femae.cluster._MAX_STARTS", 3)  # of 8: each costs a second
    with Cluster(nodes.address) as cluster, pytest.raises(InputError, match="no such model here"):
        list(cluster.run(_no_model, [1, 2]))
    with Cluster(nodes.address) as cluster, pytest.raises(FemaeError, match="survives long enough to start"):
        list(cluster.run(_dies, [1, 2]))


def test_addresses_where_no_cluster_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no Ray cluster answers at '127\.0\.0\.1:9'"):
        Cluster("127.0.0.1:9")
    for options, words in [
        (["--cluster", "nonsense"], "'nonsense' is not a cluster; expected local, auto, HOST:PORT or ray://HOST:PORT"),
        (["--workers", "2"], "--workers needs --cluster"),
    ]:
        assert main(["predict", "a.mp4", "--out", str(tmp_path), *options]) == 2
        assert words in capsys.readouterr().err


def test_shards_of_a_cluster_are_those_of_one_process(
    nodes: Nodes, tmp_path: Path, astronaut: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    for name in ("happiness", "sadness"):
        (tmp_path / "faces" / name).mkdir(parents=True)
        for number in range(6):
            other = np.roll(astronaut, 7 * number, axis=1)[:, :: 1 if name == "sadness" else -1]
            Image.fromarray(other[:300]).save(tmp_path / "faces" / name / f"{number}.png")
    found = []
    for out, options in (("one", ["--workers", "1"]), ("two", ["--cluster", nodes.address])):
        arguments = ["data", "prepare", f"{tmp_path}/faces", "--out", str(tmp_path / out), "--shard-size", "4"]
        assert main([*arguments, *options]) == 0, capsys.readouterr().err
        files = [path for path in (tmp_path / out).rglob("*") if path.is_file()]
        found.append({path.relative_to(tmp_path / out): path.read_bytes() for path in files})
    assert found[0] == found[1] and sum(path.suffix == ".parquet" for path in found[0]) >= 4
    capsys.readouterr()


def test_the_cluster_file_is_one_that_ray_takes() -> None:
    import yaml
    from ray.autoscaler._private.util import prepare_config, validate_config

    path = Path(__file__).resolve().parents[2] / "deploy" / "ray-cluster.yaml"
    config = yaml.safe_load(path.read_text("utf-8"))
    validate_config(prepare_config(config))
    with pytest.raises(Exception, match=r"nobody"):
        validate_config({**config, "auth": "nobody"})
