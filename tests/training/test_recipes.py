"""Recipes: every file of the repository, overrides, wrong keys; folds, ablation and a whole chain by command."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs femae[train]")
pytest.importorskip("lightning_fabric", reason="needs femae[train]")

from femae.cli import main
from femae.config.recipe import AblationConfig, ChainConfig, KfoldConfig, load_recipe, override
from femae.config.train import EmotionConfig
from femae.errors import ConfigError
from femae.labels import EMOTIONS
from femae.models.weights import load_model, read_info
from femae.training.loop.run_folder import RunFolder

REPO = Path(__file__).resolve().parents[2]
RECIPES = sorted((REPO / "recipes").rglob("*.yaml"))
FAST = {"epochs": 2, "batch_size": 24, "precision": "32-true", "tensorboard": False, "threads": 1}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(REPO / "recipes")))
def test_every_recipe_is_valid_and_builds_its_network(path: Path) -> None:
    recipe = load_recipe(path)
    if isinstance(recipe, AblationConfig):
        assert len(recipe.rows) >= 5
        for row in recipe.rows:
            recipe.row(row, seed=1)
    stage = recipe if not isinstance(recipe, KfoldConfig | AblationConfig) else recipe.emotion
    if not isinstance(stage, ChainConfig):
        from femae.models.vit import build_encoder

        shape = stage.model.model_copy(update={"depth": 1})
        assert build_encoder(shape).num_prefix_tokens == int(stage.model.class_token)


def test_the_papers_values() -> None:
    emotion = load_recipe(REPO / "recipes/paper/emotion.yaml")
    assert isinstance(emotion, EmotionConfig)
    assert (emotion.optim.lr, emotion.optim.eta_min, emotion.optim.restart_epochs) == (1e-4, 1e-8, 5)
    assert (emotion.run.batch_size, emotion.run.patience, emotion.run.ema_decay) == (64, 10, 0.999)
    assert (emotion.model.image_size, emotion.model.patch_size, emotion.model.embed_dim) == (224, 16, 768)
    assert emotion.class_weights == "n_max" and emotion.optim.schedule == "restarts"


def test_overrides_and_wrong_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = load_recipe(REPO / "recipes/open/emotion.yaml")
    changed = override(recipe, {"optim.lr": 1e-4, "data.sources": ["lfw"], "init.weights": None})
    assert isinstance(changed, EmotionConfig)
    assert (changed.optim.lr, changed.data.sources, changed.init.weights) == (1e-4, ("lfw",), None)
    with pytest.raises(ConfigError, match=r"there is no setting 'optim.lrr'; did you mean 'lr'\?"):
        override(recipe, {"optim.lrr": 1})
    with pytest.raises(ConfigError, match=r"there is no setting 'optm.lr'; did you mean 'optim.lr'\?"):
        override(recipe, {"optm.lr": 1})
    chain = load_recipe(REPO / "recipes/tiny_cpu.yaml")
    longer = override(chain, {"emotion.run.epochs": 7})
    assert isinstance(longer, ChainConfig) and longer.steps[2].recipe.run.epochs == 7
    for text, words in (
        ("stage: emotion\nmixupp: {alpha: 1}\n", "there is no setting 'mixupp'; did you mean 'mixup'"),
        ("stage: emotions\n", "needs a line `stage:` with one of pretrain"),
        ("- a\n", "holds no settings"),
        ("stage: emotion\noptim: {lr: fast}\n", "optim.lr cannot be 'fast'"),
        ("stage: emotion\nrun: {on: 1}\n", "True is not the name of a setting"),
        ("stage: [\n", "cannot be read as YAML"),
        ("stage: ablation\nrows: [{name: a, changes: {optim.lrr: 1}}]\n", "there is no setting 'optim.lrr'"),
    ):
        path = tmp_path / "wrong.yaml"
        path.write_text(text)
        assert main(["train", str(path)]) == 2
        assert words in capsys.readouterr().err
    assert main(["train", str(tmp_path / "absent.yaml")]) == 2
    assert main(["train"]) == 2
    assert main(["train", "--help"]) == 0
    assert "--optim.layer_decay" in capsys.readouterr().out


@pytest.fixture
def emotion(faces: Path, tiny: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "emotion.yaml"
    settings = {"stage": "emotion", "data": {"folders": [str(faces)]}, "model": tiny, "run": FAST}
    path.write_text(yaml.safe_dump(settings))
    return path


def test_folds_give_out_of_fold_scores_table_1_and_an_ensemble(emotion: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "kfold.yaml"
    recipe.write_text("stage: kfold\nemotion: emotion.yaml\nnum_folds: 5\n")
    run = tmp_path / "folds"
    assert main(["train", str(recipe), "--out", str(run), "--quiet"]) == 0
    oof = pq.read_table(run / "oof.parquet")
    assert oof.num_rows == len(set(oof.column("key").to_pylist())) == 130  # two rows are held out
    folds = json.loads((run / "kfold.json").read_text())
    assert [fold["run"] for fold in folds["folds"]] == [f"fold-{number}" for number in range(5)]
    for number in range(5):
        own = pq.read_table(run / f"fold-{number}" / "scores.parquet")
        in_fold = oof.filter(np.asarray(oof.column("fold").to_numpy()) == number)
        assert own.column("key").to_pylist() == in_fold.column("key").to_pylist()
        assert own.column("fear").to_pylist() == in_fold.column("fear").to_pylist()
        assert {int(key[:5]) % 5 for key in own.column("key").to_pylist()} == {number}
    table = (run / "table1.md").read_text()
    assert "fold-5" in table and "mean" in table
    row = next(line for line in table.splitlines() if "fold-1" in line)
    expected = np.mean(list(folds["folds"][0]["f1"].values()))
    assert f"{expected:.4f}" in row

    ensemble, info = load_model(run)
    assert info.kind == "ensemble" and len(info.scale) == len(info.offset) == len(info.thresholds) == 6
    assert list(folds["calibration"]["scale"]) == list(EMOTIONS)
    members = [load_model(run / f"fold-{number}")[0] for number in range(5)]
    pixels = torch.randn(3, 1, 32, 32)
    with torch.inference_mode():
        mean = torch.stack([torch.sigmoid(member(pixels).logits) for member in members]).mean(0)
        assert torch.allclose(torch.sigmoid(ensemble(pixels).logits), mean, atol=1e-5)

    started = time.time()
    before = (run / "fold-3" / "model.safetensors").stat().st_mtime
    assert main(["train", str(recipe), "--out", str(run), "--quiet"]) == 0
    assert (run / "fold-3" / "model.safetensors").stat().st_mtime == before < started

    student = ["--distill.teachers", str(run), "--distill.weight", "2", "--distill.loss", "kl"]
    assert main(["train", str(emotion), "--out", str(tmp_path / "student"), "--quiet", *student]) == 0
    assert "loss_distill" in RunFolder(tmp_path / "student").entries("step")[0]


def test_the_ablation_goes_on_row_by_row(emotion: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "ablation.yaml"
    rows = [
        {"name": "none", "changes": {"run.ema_decay": 0}},
        {"name": "mixup", "changes": {"mixup.alpha": 1.0}, "components": {"EMA": True, "Mixup": True}},
    ]
    recipe.write_text(yaml.safe_dump({"stage": "ablation", "emotion": "emotion.yaml", "rows": rows, "seeds": [0, 1]}))
    run = tmp_path / "ablation"
    assert main(["train", str(recipe), "--out", str(run), "--quiet"]) == 0
    about = json.loads((run / "ablation.json").read_text())["rows"]
    assert [row["name"] for row in about] == ["none", "mixup"]
    scores = [seed["macro_f1"] for seed in about[1]["seeds"]]
    assert about[1]["mean"] == pytest.approx(np.mean(scores)) and about[1]["std"] == pytest.approx(
        np.std(scores, ddof=1)
    )
    assert "Mixup" in (run / "table2.md").read_text() and "<svg" in (run / "table2.svg").read_text()
    resolved = yaml.safe_load((run / "mixup" / "seed-1" / "config.yaml").read_text())
    assert resolved["run"]["seed"] == 1 and resolved["mixup"]["alpha"] == 1.0
    times = {path: path.stat().st_mtime_ns for path in run.rglob("model.safetensors")}
    (run / "ablation.json").unlink()
    assert main(["train", str(recipe), "--out", str(run), "--quiet"]) == 0
    assert times == {path: path.stat().st_mtime_ns for path in run.rglob("model.safetensors")}
    assert json.loads((run / "ablation.json").read_text())["rows"] == about


def test_the_tiny_chain_from_pretraining_to_a_table_of_predictions(
    faces: Path, astronaut: np.ndarray, forker: Any, tmp_path: Path
) -> None:
    """recipes/tiny_cpu.yaml, export, predict: the commands of docs/training.md, each in a separate process."""
    from PIL import Image

    Image.fromarray(astronaut).save(tmp_path / "photo.png")
    run = tmp_path / "chain"
    folders = [f"--{step}.data.folders={faces}" for step in ("pretrain", "au", "emotion")]
    commands = [
        ["train", str(REPO / "recipes/tiny_cpu.yaml"), "--out", str(run), *folders],
        ["export", str(run / "emotion"), "--out", str(tmp_path / "tiny.onnx")],
        [
            "predict",
            str(tmp_path / "photo.png"),
            "--model",
            str(tmp_path / "tiny.onnx"),
            "--out",
            str(tmp_path / "out"),
        ],
    ]
    for command in commands:
        process = forker.start_femae(*command, log=tmp_path / f"{command[0]}.log")
        assert process.wait() == 0, process.log.read_text()
    assert read_info(run / "emotion").au_names == ("AU01", "AU02", "AU03")
    assert json.loads((run / "emotion" / "run.json").read_text())["start"]["fresh"] == []
    header, row = (tmp_path / "out" / "pictures.csv").read_text().splitlines()[:2]
    assert header.endswith("compound_score,expression,expression_probability,AU01,AU02,AU03") and ",ok," in row


def test_the_chain_for_an_accelerator_as_a_trial(faces: Path, tmp_path: Path) -> None:
    """Scaled down by one setting: teachers at 96 pixels, and a student at 48 that learns from them."""
    run = tmp_path / "chain"
    recipe = load_recipe(REPO / "recipes/gpu/chain.yaml")
    assert isinstance(recipe, ChainConfig)
    names = [step.name for step in recipe.steps]
    assert names == ["pretrain", "au", "teacher_1", "teacher_2", "student_pretrain", "student_au", "student"]
    data = {"folders": [str(faces)], "sources": [], "pseudo_aus": [], "val_splits": ["val"]}
    folders = [f"--{name}.data.{key}={value}" for name in names for key, value in data.items()]
    threads = [f"--{name}.run.threads=1" for name in names]
    command = ["train", str(REPO / "recipes/gpu/chain.yaml"), "--out", str(run), "--quiet", "--scale", "0.01"]
    assert main([*command, *folders, *threads]) == 0
    settings = {name: yaml.safe_load((run / name / "config.yaml").read_text()) for name in names}
    assert settings["teacher_2"]["init"]["weights"] == str(run / "au") and settings["teacher_2"]["run"]["seed"] == 1
    assert settings["student_pretrain"]["init"]["weights"] is None
    assert settings["student"]["init"]["weights"] == str(run / "student_au")
    assert settings["student"]["distill"]["teachers"] == [str(run / "teacher_1"), str(run / "teacher_2")]
    assert read_info(run / "teacher_1").model.image_size == 96 and read_info(run / "student").model.image_size == 48
    assert "loss_distill" in RunFolder(run / "student").entries("step")[0]
