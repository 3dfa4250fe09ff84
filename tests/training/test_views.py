"""Teachers that predict several views of each picture before training; their mean is learned beside the votes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs femae[train]")

from femae.config.model import ModelConfig
from femae.config.train import DataConfig, DistillConfig, EmotionConfig, InitConfig, OptimConfig, RunConfig
from femae.errors import ConfigError, ModelError
from femae.labels import EMOTIONS, NO_EXPRESSION
from femae.models.face import FaceModel
from femae.models.weights import WeightsInfo, load_model, save_weights
from femae.training.loader.sets import load_sets
from femae.training.loop.task import normalise
from femae.training.recipes.stage import train_stage
from femae.training.tasks.teachers import load_teacher, predict_views, soft_target_loss, soft_targets

TINY = ModelConfig(image_size=32, patch_size=8, embed_dim=16, depth=1, num_heads=1, stem="patch")
RUN = RunConfig(epochs=2, batch_size=32, precision="32-true", tensorboard=False, threads=1, seed=3)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    model = FaceModel(TINY, outputs=(*EMOTIONS, NO_EXPRESSION))
    torch.nn.init.normal_(model.head.weight, std=1.0)
    path = tmp_path / "teacher.safetensors"
    save_weights(path, model.state_dict(), info=WeightsInfo.of(model))
    return path


@pytest.fixture
def faces(tmp_path: Path, make_faces: Callable[..., Path]) -> DataConfig:
    return DataConfig(folders=(make_faces(tmp_path / "faces"),))


def config_of(faces: DataConfig, teacher: Path, **more: Any) -> EmotionConfig:
    distill = DistillConfig(teachers=(teacher,), loss="kl", views=4)
    return EmotionConfig(
        data=faces,
        model=TINY,
        run=RUN,
        softmax_weight=1.0,
        class_weights="none",
        distill=distill,
        optim=OptimConfig(warmup_epochs=0),
        **more,
    )


def test_the_first_view_is_the_picture_and_the_mean_is_that_of_all(faces: DataConfig, teacher: Path) -> None:
    train, _ = load_sets(faces, TINY)
    asked = load_teacher(DistillConfig(teachers=(teacher,)), TINY, RUN)
    assert asked is not None and train.pictures is not None
    one = predict_views(asked, train, model=TINY, views=1, seed=0)
    model, info = load_model(teacher)
    with torch.no_grad():
        expected = model.eval()(normalise(torch.from_numpy(train.pictures).float() / 255, info.model)).logits.numpy()
    assert one.shape == (len(train), 7) and np.allclose(one, expected, atol=1e-4)
    two, three = (predict_views(asked, train, model=TINY, views=views, seed=0) for views in (2, 3))
    second, third = 2 * two - one, 3 * three - 2 * two
    assert np.abs(second - one).max() > 0.05 and np.abs(third - second).max() > 0.05, "views are different pictures"
    assert np.array_equal(three, predict_views(asked, train, model=TINY, views=3, seed=0))
    assert not np.allclose(three, predict_views(asked, train, model=TINY, views=3, seed=1), atol=1e-3)
    some = train.select(np.arange(10))
    assert np.allclose(predict_views(asked, some, model=TINY, views=1, seed=0), one[:10], atol=1e-4)


def test_what_is_learned_is_the_cross_entropy_with_the_teacher() -> None:
    rng = np.random.default_rng(0)
    said, own = rng.normal(size=(5, 7)).astype(np.float32), rng.normal(size=(5, 7)).astype(np.float32)
    shares = soft_targets(said)
    p = 1 / (1 + np.exp(-said[:, :6].astype(np.float64)))
    s = np.exp(said.astype(np.float64)) / np.exp(said.astype(np.float64)).sum(1, keepdims=True)
    assert np.allclose(shares, np.concatenate([p, s], 1), atol=1e-6)
    q = 1 / (1 + np.exp(-own[:, :6].astype(np.float64)))
    t = np.exp(own.astype(np.float64)) / np.exp(own.astype(np.float64)).sum(1, keepdims=True)
    six = -(p * np.log(q) + (1 - p) * np.log(1 - q)).mean()
    seven = -(s * np.log(t)).sum(1).mean()
    for weight in (0.0, 0.5, 1.0):
        loss = soft_target_loss(torch.from_numpy(own), torch.from_numpy(shares), softmax_weight=weight)
        assert float(loss) == pytest.approx(six + weight * seven, rel=1e-5)
    assert soft_targets(said[:, :6]).shape == (5, 6)
    only_six = soft_target_loss(
        torch.from_numpy(own[:, :6]), torch.from_numpy(soft_targets(said[:, :6])), softmax_weight=1
    )
    assert float(only_six) == pytest.approx(six, rel=1e-5)


def test_a_run_asks_once_and_a_student_comes_near_its_teacher(faces: DataConfig, teacher: Path, tmp_path: Path) -> None:
    """With votes of negligible weight, the student predicts what its teacher predicts."""
    config = config_of(faces, teacher)
    config = config.model_copy(
        update={
            "distill": config.distill.model_copy(update={"weight": 50.0}),
            "run": RUN.model_copy(update={"epochs": 25, "ema_decay": 0.0, "log_every": 5}),
            "optim": OptimConfig(lr=1e-2, warmup_epochs=0),
        }
    )
    folder = tmp_path / "run"
    train_stage(config, run=folder, quiet=True)
    asked = np.load(folder / "taught.npy")
    train, _ = load_sets(faces, TINY)
    assert asked.shape == (len(train), 7)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    losses = [line["loss_distill"] for line in lines if "loss_distill" in line]
    shares = soft_targets(asked).astype(np.float64)
    six, seven = shares[:, :6], shares[:, 6:]
    least = -(six * np.log(six) + (1 - six) * np.log(1 - six)).mean() - (seven * np.log(seven)).sum(1).mean()
    assert losses[-1] - least < 0.4 * (losses[0] - least) and losses[-1] > least
    teacher.unlink()
    before = (folder / "taught.npy").stat().st_mtime_ns
    with pytest.raises(ModelError):  # a missing teacher is an error
        train_stage(config, run=folder, quiet=True)
    assert (folder / "taught.npy").stat().st_mtime_ns == before


def test_answers_of_other_pictures_are_refused(faces: DataConfig, teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    np.save(tmp_path / "run" / "taught.npy", np.zeros((3, 7), np.float32))
    with pytest.raises(ConfigError, match=r"taught\.npy has the shape \(3, 7\), expected"):
        train_stage(config_of(faces, teacher), run=tmp_path / "run", quiet=True)


def test_settings_that_do_not_go_together(faces: DataConfig, teacher: Path) -> None:
    for wrong in ({"loss": "mse"}, {"members": "one"}, {"temperature": 2.0}):
        settings = DistillConfig(teachers=(teacher,), loss="kl", views=4).model_dump() | wrong
        with pytest.raises(ConfigError, match=r"distill\.views asks all teachers"):
            EmotionConfig(data=faces, model=TINY, distill=DistillConfig(**settings))


def test_the_head_of_an_earlier_run_is_kept_where_asked(faces: DataConfig, teacher: Path) -> None:
    from femae.training.tasks.emotion import EmotionTask

    plain = EmotionConfig(data=faces, model=TINY, run=RUN, softmax_weight=1.0, class_weights="none")
    kept = EmotionTask(plain.model_copy(update={"init": InitConfig(weights=teacher, head="keep")}))
    model, _ = load_model(teacher)
    assert torch.equal(kept.model.head.weight, model.head.weight) and torch.equal(kept.model.head.bias, model.head.bias)
    new = EmotionTask(plain.model_copy(update={"init": InitConfig(weights=teacher)}))
    assert not torch.equal(new.model.head.weight, model.head.weight)
    assert torch.equal(next(iter(new.model.encoder.parameters())), next(iter(model.encoder.parameters())))
    other = plain.model_copy(update={"softmax_weight": 0.0, "init": InitConfig(weights=teacher, head="keep")})
    with pytest.raises(ModelError, match=r"init\.head to new"):
        EmotionTask(other)
    with pytest.raises(ModelError, match=r"init\.head keep needs init\.weights"):
        EmotionTask(plain.model_copy(update={"init": InitConfig(head="keep")}))


def test_rows_keep_their_answers(faces: DataConfig, teacher: Path) -> None:
    train, _ = load_sets(faces, TINY)
    marked = replace(train, soft_targets=np.arange(len(train), dtype=np.float32)[:, None].repeat(13, 1))
    some = marked.select(np.array([5, 2, 9]))
    assert some.soft_targets is not None and some.soft_targets[:, 0].tolist() == [5, 2, 9]
