"""Every command and every Python example of README and docs runs."""

import importlib.util
import json
import re
import shlex
import shutil
from collections.abc import Callable
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

import femae
from femae.cli import main
from femae.labels import EMOTIONS

REPO = Path(__file__).resolve().parent.parent
PAGES = [
    *(REPO / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")),
    *sorted((REPO / "docs").glob("*.md")),
]
_BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[Any]:
    found = []
    for page in PAGES:
        for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
            if match[1] == language:
                line = page.read_text(encoding="utf-8")[: match.start()].count("\n") + 1
                found.append(pytest.param(match[2], id=f"{page.name}:{line}"))
    return found


def commands() -> list[Any]:
    """Blocks with femae commands; set-up lines have a test of their own (tests/e2e/test_install.py)."""
    found = []
    for block in blocks("bash"):
        lines = [line.split("  #")[0] for line in block.values[0].splitlines() if line.startswith("femae ")]
        if lines:
            found.append(pytest.param(lines, id=block.id))
    return found


def annotate(project: Path, export: Path) -> None:
    """What Label Studio would export after two people have looked at every face of a project."""
    tasks = [task for path in sorted(project.glob("tasks-*.json")) for task in json.loads(path.read_text("utf-8"))]
    config = ElementTree.parse(next(project.glob("*.xml")))
    (choices,) = config.iter("Choices")
    for number, task in enumerate(tasks):
        task["id"] = number
        task["annotations"] = [
            {
                "id": 10 * number + person,
                "completed_by": person,
                "was_cancelled": False,
                "lead_time": 2.5,
                "result": [
                    {
                        "from_name": choices.get("name"),
                        "to_name": choices.get("toName"),
                        "type": "choices",
                        "value": {"choices": ["Happiness" if person == 1 else "Surprise"]},
                    }
                ],
            }
            for person in (1, 2)
        ]
    export.write_text(json.dumps(tasks), "utf-8")


def trained_run(folder: Path) -> None:
    """A run's folder with the weights of a small network, untrained."""
    pytest.importorskip("torch", reason="needs femae[train]")
    from femae.config.model import ModelConfig
    from femae.models.face import FaceModel
    from femae.models.weights import WeightsInfo, save_weights

    config = ModelConfig(image_size=32, embed_dim=16, depth=1, num_heads=1, stem="patch")
    model = FaceModel(config, outputs=EMOTIONS)
    folder.mkdir(parents=True)
    save_weights(folder / "model.safetensors", model.state_dict(), info=WeightsInfo.of(model, name="small"))


def drawn_shards(folder: Path, *, source: str, other: str = "") -> None:
    """Shards of faces as tests/training draws them."""
    path = REPO / "tests" / "training" / "conftest.py"
    spec = importlib.util.spec_from_file_location("drawn_faces", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write_faces(folder, source=source, other=other, splits=("train", "val", "test"))


def made_up_study(folder: Path) -> None:
    """The summary of 40 films of ten people under two conditions, and a table that says which film is which."""
    rng = np.random.default_rng(0)
    films, summary = ["source,person,condition"], ["source,face_id,seconds,share_happiness"]
    for number in range(40):
        person, condition = number // 4, ("dull", "funny")[number % 2]
        films.append(f"{number}.mp4,{person},{condition}")
        share = np.clip(0.2 + 0.01 * person + 0.2 * (condition == "funny") + rng.normal(0, 0.05), 0, 1)
        summary += [f"{number}.mp4,1,{30 + number},{share:.4f}", f"{number}.mp4,2,0.4,0.0"]
    folder.mkdir()
    (folder / "films.csv").write_text("\n".join(films) + "\n")
    (folder / "summary.csv").write_text("\n".join(summary) + "\n")


def made_up_scores(path: Path) -> None:
    """A table of scores of 300 faces that show none, an emotion or a compound."""
    rng = np.random.default_rng(0)
    targets = np.zeros((300, 6), np.float32)
    for row in range(300):
        targets[row, rng.choice(6, row % 3, replace=False)] = 1 / max(1, row % 3)
    columns = {name: np.clip(targets[:, i] + rng.uniform(0.05, 0.2, 300), 0, 0.95) for i, name in enumerate(EMOTIONS)}
    columns |= {f"target_{name}": targets[:, i] for i, name in enumerate(EMOTIONS)}
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table(columns), path)


def in_small(arguments: list[str]) -> list[str]:
    """A command that trains an open recipe for hours, with a small network, one epoch and drawn faces instead."""
    prefix = "--emotion." if "kfold" in arguments[1] else "--"
    small = {
        "run.epochs": "1",
        "run.compile": "false",
        "run.batch_size": "16",
        "run.threads": "1",
        "model.image_size": "32",
        "model.embed_dim": "48",
        "model.depth": "1",
        "model.stem_width": "8",
    }
    if "au.yaml" in arguments[1]:
        small |= {"data.sources": "ferplus", "data.pseudo_aus": "[]", "aus": "[AU01, AU02]"}
    if "units.yaml" in arguments[1]:
        small |= {"data.sources": "ferplus", "data.pseudo_aus": "[]", "aus": "[AU01, AU02]"}
    if "student.yaml" in arguments[1]:
        small["distill.teachers"] = "runs/open-kfold"
    if "born_again.yaml" in arguments[1] or "views.yaml" in arguments[1]:  # the drawn faces have no renders among them
        small |= {"data.sources": "[ferplus, lfw]", "data.source_weights": "{lfw: 0.6}"}
    return arguments + [word for name, value in small.items() for word in (prefix + name, value)]


def fill_bucket(store: Any, film: Path) -> None:
    """s3://lab/films/a.mp4."""
    boto3 = pytest.importorskip("boto3", reason="needs moto[server]")
    client = boto3.client("s3", endpoint_url=store.url)
    client.create_bucket(Bucket="lab")
    client.put_object(Bucket="lab", Key="films/a.mp4", Body=film.read_bytes())


@pytest.fixture(scope="module")
def furnished(
    tmp_path_factory: pytest.TempPathFactory, carphone: Path, astronaut: np.ndarray, make_video: Callable[..., Path]
) -> Path:
    """A folder with the files that the pages speak of; its film is one second of the man in the car."""
    root = tmp_path_factory.mktemp("workplace")
    with av.open(str(carphone)) as container:
        second = [np.asarray(frame.to_ndarray(format="rgb24")) for frame in islice(container.decode(video=0), 30)]
    make_video(root / "clip.mp4", second, rate=Fraction(30))
    for folder in ("photos", "crops", "films"):
        (root / folder).mkdir()
    shutil.copy(root / "clip.mp4", root / "films" / "a.mp4")
    (root / "films.csv").write_text("path,person\nfilms/a.mp4,1\nclip.mp4,2\n")
    Image.fromarray(astronaut).save(root / "photo.jpg")
    Image.fromarray(astronaut).save(root / "photos" / "a.png")
    Image.fromarray(astronaut[60:190, 160:290]).save(root / "crops" / "b.png")
    rng = np.random.default_rng(0)
    for name in ("happiness", "sadness"):
        (root / "faces" / name).mkdir(parents=True)
        for number in range(3):
            other = np.clip(astronaut[:, :: 1 - 2 * (number % 2)] * rng.uniform(0.6, 1.2), 0, 255).astype(np.uint8)
            Image.fromarray(other[:, 20 * number :]).save(root / "faces" / name / f"{name}{number}.png")
        (root / "portraits" / name).mkdir(parents=True)
        for number in range(10):  # ten pictures that have nothing in common
            noise = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((96, 96))
            noise.save(root / "portraits" / name / f"{number}.png")
    (root / "study-pictures" / "anna").mkdir(parents=True)
    for name in ("happiness_1.png", "sadly angry_2.png", "asleep_3.png"):
        Image.fromarray(astronaut[::4, ::4]).save(root / "study-pictures" / "anna" / name)
    trained_run(root / "runs" / "emotion")
    made_up_study(root / "study")
    made_up_scores(root / "runs" / "folds" / "oof.parquet")
    shutil.copytree(REPO / "recipes", root / "recipes")
    drawn_shards(root / "drawn", source="drawn")
    drawn_shards(root / "runs" / "data" / "open", source="ferplus", other="lfw")
    return root


@pytest.fixture
def workplace(furnished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_timing: None) -> Path:
    """A copy of that folder, and the tests are in it."""
    shutil.copytree(furnished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("lines", commands())
def test_commands_run(lines: list[str], workplace: Path, request: pytest.FixtureRequest) -> None:
    if any("s3://" in line for line in lines):
        fill_bucket(request.getfixturevalue("store"), workplace / "clip.mp4")
    for line in lines:
        if line.startswith("femae data import"):
            annotate(workplace / "project", workplace / "export.json")
        program, *arguments = shlex.split(line)
        assert program == "femae"
        if arguments[:1] == ["train"] and arguments[1].startswith("recipes/open/"):
            arguments = in_small(arguments)
            if not lines[0].startswith("femae train recipes/open/pretrain"):
                arguments += ["--init.weights", "null"]
        assert main(arguments) == 0, line


@pytest.mark.parametrize("code", blocks("python"))
def test_python_example_runs(code: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, "example", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.strip()


def test_usage_has_every_option_of_predict_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    known = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    text = (REPO / "docs" / "usage.md").read_text(encoding="utf-8")
    assert set(re.findall(r"--[a-z][a-z-]+", text)) - known == set()
    listed = text.partition("## All options")[2].partition("## Background")[0]
    assert set(re.findall(r"^\| `(--[a-z-]+)`", listed, re.MULTILINE)) == known


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if re.fullmatch(r"gallery/[\w-]+\.html", target):  # made when the site is built, which checks it
                continue
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load((REPO / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0" and cited["version"] == femae.__version__
    assert cited["license"] == "Apache-2.0" and cited["authors"] and cited["title"].startswith("femae")
