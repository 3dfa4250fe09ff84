"""Files that set up machines: Ray's own rules for its clusters and jobs, and the steps of the Dockerfile, done here."""

import os
import re
import shlex
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest
import tyro

from femae.config.predict import PredictConfig

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"


def instructions() -> list[tuple[str, str]]:
    """(word, what follows) of each line of the Dockerfile."""
    lines = (DEPLOY / "Dockerfile").read_text("utf-8").splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line and line[0] != "#")]


@pytest.fixture
def job() -> Any:
    yaml = pytest.importorskip("yaml", reason="needs femae[train]")
    return yaml.safe_load((DEPLOY / "rayjob.yaml").read_text("utf-8"))


def cluster_of(job: Any) -> Any:
    """The RayCluster that the operator makes of a job."""
    return {"metadata": job["metadata"], "spec": job["spec"]["rayClusterSpec"]}


def test_ray_reads_the_cluster_of_the_job(job: Any) -> None:
    """By the code with which Ray's autoscaler reads what KubeRay gives it; it ends with Ray's schema."""
    pytest.importorskip("ray", reason="needs femae[ray]")
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    config = _derive_autoscaling_config_from_ray_cr(cluster_of(job))
    nodes = config["available_node_types"]
    assert nodes["headgroup"]["resources"]["CPU"] == 0, "films are done by workers"
    assert nodes["films"]["resources"] == {"CPU": 8, "memory": 16 << 30}
    assert nodes["films"]["min_workers"] == 0 and config["idle_timeout_minutes"] == 2
    assert job["apiVersion"] == "ray.io/v1" and job["kind"] == "RayJob"
    del job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplicas"]
    with pytest.raises(KeyError, match="maxReplicas"):
        _derive_autoscaling_config_from_ray_cr(cluster_of(job))


def test_the_command_of_the_job_is_one_of_femae(job: Any) -> None:
    pytest.importorskip("ray", reason="needs femae[ray]")
    import yaml
    from ray.runtime_env import RuntimeEnv

    RuntimeEnv(**yaml.safe_load(job["spec"]["runtimeEnvYAML"]))
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:2] == ["femae", "predict"]
    config = tyro.cli(PredictConfig, args=words[2:])
    assert config.cluster == "auto" and config.inputs == ("s3://films/*.mp4",) and str(config.out).startswith("s3://")
    workers = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    cores = int(workers["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"])
    assert config.workers is not None and config.workers <= cores * workers["maxReplicas"]


def test_image_and_job_name_one_version_of_ray(job: Any) -> None:
    pinned = re.findall(r"ray\[default\]==([\d.]+)", (DEPLOY / "Dockerfile").read_text("utf-8"))
    assert pinned == [job["spec"]["rayClusterSpec"]["rayVersion"]]


@pytest.mark.timeout(900)
def test_the_steps_of_the_dockerfile(tmp_path: Path) -> None:
    """In a folder in place of / and a new environment in place of the image: all but what needs root.

    What this environment has already, pip too, need not be loaded once more: the new one sees it.
    """
    venv.create(tmp_path / "venv")
    (packages,) = (tmp_path / "venv" / "lib").glob("python3*/site-packages")
    (packages / "around.pth").write_text(sysconfig.get_path("purelib"))
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"PATH": f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    environment["PIP_COMPILE"] = "0"
    words_seen, folder = set(), tmp_path

    def inside(path: str) -> str:
        return str(tmp_path) + path

    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for word, rest in instructions():
        words_seen.add(word)
        if word == "FROM":
            version = re.fullmatch(r"python:3\.(\d+)-slim", rest)
            assert version and int(version[1]) >= 11
        elif word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                files = [name for name in tracked if name == source or name.startswith(f"{source}/")]
                assert files, f"{source} is not in the repository"
                for name in files:
                    place = Path(inside(target)) / (name.removeprefix(f"{source}/") if name != source else source)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / name, place)
        elif word == "RUN" and not rest.startswith(("apt-get", "useradd")):
            command = rest.replace('"/src', f'"{inside("/src")}').replace(" /src", f" {inside('/src')}")
            done = subprocess.run(
                ["sh", "-ec", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
        elif word == "ENV":
            name, _, value = rest.partition("=")
            environment[name] = value
        elif word == "WORKDIR":
            folder = Path(inside(rest))
            folder.mkdir(parents=True, exist_ok=True)
        elif word == "ENTRYPOINT":
            entry = rest
    assert words_seen == {"FROM", "RUN", "COPY", "ENV", "WORKDIR", "USER", "ENTRYPOINT", "CMD"}
    (program,) = re.findall(r'"(\w+)"', entry)
    program = str(tmp_path / "venv" / "bin" / program)
    film = tmp_path / "data" / "clip.mp4"
    made = (
        "import numpy as np; from PIL import Image; import sys\n"
        "Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(sys.argv[1])"
    )
    picture = film.with_suffix(".png")
    subprocess.run([tmp_path / "venv" / "bin" / "python", "-c", made, str(picture)], env=environment, check=True)
    done = subprocess.run(
        [program, "predict", picture.name, "--out", "results", "--cluster", "local"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "results" / "pictures.csv").read_text("utf-8").count("no_face") == 1
