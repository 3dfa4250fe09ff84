"""The loop: it learns, stops early, resumes bit by bit after SIGKILL, and reports errors clearly."""

import json
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs femae[train]")
pytest.importorskip("lightning_fabric", reason="needs femae[train]")

from safetensors.torch import load_file

from femae.config.recipe import load_recipe
from femae.config.train import AuConfig, EmotionConfig, PretrainConfig
from femae.engine.load import load_engine
from femae.errors import ConfigError, DataError, FemaeError, OutputError, TrainingError
from femae.models.weights import load_model, read_info, save_weights
from femae.training.loop.checkpoint import LAST, read_state
from femae.training.loop.run_folder import RunFolder
from femae.training.recipes.stage import train_stage

RUN = {"epochs": 3, "batch_size": 24, "precision": "32-true", "tensorboard": False, "threads": 1, "log_every": 1}


def settings(faces: Path, tiny: dict[str, Any], **changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "data": {"folders": [str(faces)]},
        "model": tiny,
        "optim": {"lr": 3e-3, "warmup_epochs": 0.5},
        "augment": {"flip": 0.0, "shift": 0.03, "scale_min": 0.95, "erase": 0.0, "rotation_deg": 3.0},
        "run": dict(RUN),
    }
    for name, value in changes.items():
        base[name] = base.get(name, {}) | value if isinstance(value, dict) else value
    return base


def losses(run: Path) -> dict[int, float]:
    return {entry["step"]: entry["loss"] for entry in RunFolder(run).entries("step")}


def test_emotions_are_learned_and_the_folder_says_how(faces: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    config = EmotionConfig(
        **settings(faces, tiny, run={"epochs": 60, "ema_decay": 0.9, "patience": None, "tensorboard": True}),
        softmax_weight=1.0,
    )
    result = train_stage(config, run=tmp_path / "run", quiet=True)
    assert result.log["macro_f1"] > 0.85
    folder = tmp_path / "run"
    entries = RunFolder(folder).entries("epoch")
    assert [entry["epoch"] for entry in entries] == list(range(1, 61))
    assert entries[-1]["loss"] < entries[0]["loss"] / 2
    assert max(entry["val"]["macro_f1"] for entry in entries) == result.best_score
    about = json.loads((folder / "run.json").read_text())
    assert about["data"]["num_train"] == 96 and about["data"]["num_val"] == 36
    assert len(about["data"]["fingerprint"]) == 16 and about["versions"]["torch"]
    resolved = yaml.safe_load((folder / "config.yaml").read_text())
    assert resolved["stage"] == "emotion" and EmotionConfig(**resolved) == config
    assert any((folder / "tensorboard").glob("events*"))

    model, info = load_model(folder)
    assert info.outputs[-1] == "none"
    scores = pq.read_table(folder / "scores.parquet")
    assert scores.num_rows == 36 and scores.column("target_fear").null_count == 0
    from femae.config.train import DataConfig
    from femae.training.loader.sets import load_sets

    _, val = load_sets(DataConfig(folders=(faces,)), config.model)
    pixels = (torch.from_numpy(val.pictures).float() / 255 - 0.5) / 0.25
    with torch.inference_mode():
        probs = torch.sigmoid(model(pixels).logits[:, :6]).numpy()
    found = np.stack([scores.column(name).to_numpy() for name in info.outputs[:6]], 1)
    assert probs == pytest.approx(found, abs=1e-5)  # model.safetensors holds what was validated


def test_pretraining_lowers_its_loss_and_gives_the_next_stage_its_encoder(
    faces: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    run = {"epochs": 12, "patience": None, "ema_decay": 0.0}
    shape = tiny | {"stem": "conv", "stem_width": 8}
    pretrained = train_stage(
        PretrainConfig(**settings(faces, shape, run=run), norm_pix_loss=False), run=tmp_path / "mae", quiet=True
    )
    val = [entry["val"]["loss"] for entry in RunFolder(tmp_path / "mae").entries("epoch")]
    assert val[-1] < 0.95 * val[0] and pretrained.best_score == -min(val)
    table = pq.read_table(tmp_path / "mae" / "reconstructions.parquet")
    assert table.num_rows == 24 and table.column("masked")[0].as_py().startswith(b"\x89PNG")
    with pytest.raises(FemaeError, match="encoder of pretraining"):
        load_model(tmp_path / "mae")

    start = {"weights": str(tmp_path / "mae")}
    units = train_stage(AuConfig(**settings(faces, shape, init=start, run=run)), run=tmp_path / "au", quiet=True)
    start_report = json.loads((tmp_path / "au" / "run.json").read_text())["start"]
    assert start_report["fresh"] == [] and "blocks.1.mlp.fc2.weight" in start_report["loaded"]
    assert read_info(tmp_path / "au").au_names == ("AU01", "AU02", "AU03") and set(units.log["f1"]) == {
        "AU01",
        "AU02",
        "AU03",
    }
    init = {"weights": str(tmp_path / "au"), "train": "last_block"}
    joint = EmotionConfig(**settings(faces, shape, init=init, run=run), au_head="frozen")
    result = train_stage(joint, run=tmp_path / "emotion", quiet=True)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("au", "emotion"))
    assert torch.equal(before["au_head.weight"], after["au_head.weight"])
    assert torch.equal(before["encoder.blocks.0.attn.qkv.weight"], after["encoder.blocks.0.attn.qkv.weight"])
    assert not torch.equal(before["encoder.blocks.1.attn.qkv.weight"], after["encoder.blocks.1.attn.qkv.weight"])
    assert "au" in result.log
    assert "AU02" in pq.read_table(tmp_path / "emotion" / "scores.parquet").column_names


def test_distillation_brings_the_student_nearer_to_its_teacher(
    faces: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    base = settings(faces, tiny, run={"epochs": 20, "patience": None, "ema_decay": 0.9})
    train_stage(EmotionConfig(**base), run=tmp_path / "teacher", quiet=True)
    teacher = pq.read_table(tmp_path / "teacher" / "scores.parquet")
    distance = []
    for weight in (0.0, 3.0):
        distill = {"teachers": [str(tmp_path / "teacher")], "weight": weight, "target": "logits"}
        short = base | {"run": base["run"] | {"epochs": 12}, "distill": distill, "class_weights": "none"}
        train_stage(EmotionConfig(**short), run=tmp_path / f"student-{weight}", quiet=True)
        student = pq.read_table(tmp_path / f"student-{weight}" / "scores.parquet")
        names = ("surprise", "fear", "anger")
        distance.append(np.mean([(student.column(n).to_numpy() - teacher.column(n).to_numpy()) ** 2 for n in names]))
    assert distance[1] < 0.8 * distance[0]
    with pytest.raises(ConfigError, match="embed_dim 16"):
        narrow = settings(
            faces, tiny | {"embed_dim": 16}, distill={"teachers": [tmp_path / "teacher"], "target": "features"}
        )
        train_stage(EmotionConfig(**narrow), run=tmp_path / "x", quiet=True)


_KILLER = """
import os, signal, sys, time
from pathlib import Path
import torch
from femae.config.recipe import load_recipe
from femae.training.recipes.run import train
from femae.training.loop.run_folder import RunFolder

recipe, run = load_recipe(Path(sys.argv[1])), Path(sys.argv[2])
for kill_at in [int(word) for word in sys.argv[3:]] + [0]:
    child = os.fork()
    if child == 0:
        train(recipe, run=run, quiet=True)
        os._exit(0)
    while kill_at:
        steps = [entry["step"] for entry in RunFolder(run).entries("step")]
        if steps and steps[-1] >= kill_at:
            os.kill(child, signal.SIGKILL)
            break
        time.sleep(0.02)
    _, status = os.waitpid(child, 0)
    assert bool(status) == bool(kill_at), (kill_at, status)
"""


@pytest.mark.parametrize("stage", ["emotion", "pretrain"])
def test_a_run_killed_again_and_again_gives_the_same_losses_bit_by_bit(
    stage: str, faces: Path, tiny: dict[str, Any], forker: Any, tmp_path: Path
) -> None:
    shape = tiny | {"drop_path": 0.2, "stem": "conv", "stem_width": 8}
    run = {"precision": "bf16-mixed", "checkpoint_steps": 2, "epochs": 4, "patience": None}
    recipe = settings(faces, shape, stage=stage, run=run)
    if stage == "emotion":
        recipe |= {"mixup": {"alpha": 1.0, "compound_share": [0, 1]}, "softmax_weight": 1.0}
        recipe["optim"] = {**recipe["optim"], "kind": "muon"}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    whole = load_recipe(path)
    train_stage(whole, run=tmp_path / "whole", quiet=True)
    forker.run(_KILLER, str(path), str(tmp_path / "killed"), "3", "6", "9", log=tmp_path / "said.log")
    killed = RunFolder(tmp_path / "killed")
    assert len(killed.entries("resume")) >= 1
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 16
    for name in ("model.safetensors", LAST):
        one, two = load_file(tmp_path / "whole" / name), load_file(tmp_path / "killed" / name)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)
    keep = ("epoch", "loss", "val", "best")
    epochs = [[{k: e[k] for k in keep} for e in RunFolder(tmp_path / n).entries("epoch")] for n in ("whole", "killed")]
    assert epochs[0] == epochs[1]


@pytest.mark.parametrize(("accelerator", "tolerance"), [("cpu", 0), pytest.param("cuda", 0.01, marks=pytest.mark.gpu)])
def test_a_run_taken_up_on_a_device_goes_on_as_one_that_was_not_stopped(
    accelerator: str,
    tolerance: float,
    faces: Path,
    tiny: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bit by bit on the CPU; on a GPU, whose sums have no fixed order, each loss within one percent."""
    from femae.training.loop.step import TrainStep

    if accelerator == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs an accelerator")
    run = {"accelerator": accelerator, "precision": "bf16-mixed", "checkpoint_steps": 2, "epochs": 4, "patience": None}
    config = EmotionConfig(**settings(faces, tiny | {"drop_path": 0.2}, run=run), softmax_weight=1.0)
    train_stage(config, run=tmp_path / "whole", quiet=True)
    real, stops = TrainStep.step, [5, 9]

    def step(self: TrainStep, pieces: Any, number: int, *, progress: float) -> Any:
        if stops and number == stops[0]:
            stops.pop(0)
            raise KeyboardInterrupt
        return real(self, pieces, number, progress=progress)

    monkeypatch.setattr(TrainStep, "step", step)
    while stops:
        with pytest.raises(KeyboardInterrupt):
            train_stage(config, run=tmp_path / "stopped", quiet=True)
    train_stage(config, run=tmp_path / "stopped", quiet=True)
    assert [entry["step"] for entry in RunFolder(tmp_path / "stopped").entries("resume")] == [4, 8]
    whole, stopped = losses(tmp_path / "whole"), losses(tmp_path / "stopped")
    assert list(stopped) == list(whole) and len(whole) == 16
    assert list(stopped.values()) == pytest.approx(list(whole.values()), rel=tolerance, abs=0)


def test_accumulation_and_streaming_change_nothing(faces: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    """No layer here uses statistics of the batch, so parts of a step add up to it."""
    curves = []
    for name, data, run in (
        ("plain", {}, {}),
        ("parts", {}, {"accumulate": 3}),
        ("stream", {"loader": "stream", "workers": 2}, {}),
        ("device", {"loader": "stream", "workers": 2, "decode": "device"}, {}),
    ):
        base = settings(faces, tiny, data=data, run=run | {"epochs": 2})
        base["augment"] = {"noise": 0.0}
        train_stage(EmotionConfig(**base), run=tmp_path / name, quiet=True)
        curves.append(list(losses(tmp_path / name).values()))
    assert curves[1] == pytest.approx(curves[0], rel=2e-4)
    assert curves[3] == curves[2]  # PNG files of the network's size: where they are decoded changes nothing
    assert len(curves[2]) == len(curves[0])
    assert abs(curves[2][-1] - curves[0][-1]) < 0.3 * curves[0][0]  # another order of rows, the same learning


def test_early_stop_and_a_finished_run_is_not_trained_again(faces: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    frozen = settings(faces, tiny, run={"epochs": 50, "patience": 2}, optim={"lr": 1e-12})
    result = train_stage(EmotionConfig(**frozen), run=tmp_path / "run", quiet=True)
    assert len(RunFolder(tmp_path / "run").entries("epoch")) == 3 and result.best_epoch == 1
    assert read_state(tmp_path / "run" / LAST).finished
    before = (tmp_path / "run" / LAST).read_bytes()
    again = train_stage(EmotionConfig(**frozen), run=tmp_path / "run", quiet=True)
    assert again.log == result.log and (tmp_path / "run" / LAST).read_bytes() == before
    with pytest.raises(TrainingError, match="other settings"):
        train_stage(EmotionConfig(**frozen | {"softmax_weight": 2.0}), run=tmp_path / "run", quiet=True)


def test_a_loss_that_is_not_finite_or_explodes_stops_with_a_sentence(
    faces: Path, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = settings(faces, tiny, run={"epochs": 5, "patience": None, "checkpoint_steps": 1})
    with pytest.raises(TrainingError, match=r"(not finite|times that of the first steps) at step \d+.*optim.lr"):
        wild = base | {"optim": {"lr": 1e4, "warmup_epochs": 0, "clip_norm": None}}
        train_stage(EmotionConfig(**wild), run=tmp_path / "wild", quiet=True)
    state = read_state(tmp_path / "wild" / LAST)
    assert state.step >= 1
    assert all(torch.isfinite(v).all() for v in load_file(tmp_path / "wild" / LAST).values() if v.is_floating_point())

    from femae.training.tasks import emotion

    calls = []

    def broken(*arguments: Any, **named: Any) -> torch.Tensor:
        calls.append(1)
        loss = original(*arguments, **named)
        return loss * float("nan") if len(calls) == 6 else loss

    original = emotion.weighted_bce
    monkeypatch.setattr(emotion, "weighted_bce", broken)
    with pytest.raises(TrainingError, match="the loss is not finite at step 6"):
        train_stage(EmotionConfig(**base), run=tmp_path / "nan", quiet=True)
    assert read_state(tmp_path / "nan" / LAST).step == 5
    monkeypatch.setattr(emotion, "weighted_bce", original)
    train_stage(EmotionConfig(**base), run=tmp_path / "nan", quiet=True)  # and it goes on
    assert sorted(losses(tmp_path / "nan")) == list(range(1, 21))


def test_a_full_disk_leaves_the_last_state_whole(faces: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    """A limit on the size of files simulates a full disk."""
    base = settings(faces, tiny, run={"epochs": 2})
    config = EmotionConfig(**base)
    result = train_stage(config, run=tmp_path / "run", quiet=True)
    size = (result.folder / LAST).stat().st_size
    state, tensors = read_state(result.folder / LAST), load_file(result.folder / LAST)
    from femae.training.loop.checkpoint import save_checkpoint

    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))
    try:
        with pytest.raises(OutputError, match="free some space and run the same command again"):
            save_checkpoint(result.folder / LAST, tensors, state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert (result.folder / LAST).stat().st_size == size
    assert not list(result.folder.glob(".*partial*"))


def test_a_damaged_state_and_wrong_data_are_named(faces: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    base = settings(faces, tiny, run={"epochs": 1})
    train_stage(EmotionConfig(**base), run=tmp_path / "run", quiet=True)
    (tmp_path / "run" / LAST).write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="is damaged"):
        train_stage(EmotionConfig(**base), run=tmp_path / "run", quiet=True)
    for changes, words in (
        ({"folders": []}, "names no folder"),
        ({"sources": ["affectnet"]}, "the folders have no data set affectnet, only drawn"),
        ({"train_splits": ["test"]}, "no rows are left to train on"),
        ({"val_splits": ["test"]}, "there are no rows with emotions to validate on"),
    ):
        with pytest.raises(DataError, match=words):
            wrong = settings(faces, tiny, data=changes)
            train_stage(EmotionConfig(**wrong), run=tmp_path / "other", quiet=True)


def test_labels_outside_their_range_and_classes_without_positives(
    faces: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    from femae.data.store.manifest import read_manifest

    manifest = read_manifest(faces)
    names = list(manifest.table.column_names)
    for folder, change, words in (
        ("range", lambda t: t * 3, r"labels outside 0..1, first 00000.png with 3.0|2.4"),
        ("absent", lambda t: t * np.array([1, 0, 1, 1, 1, 1], np.float32), "no sample shows fear"),
    ):
        shutil.copytree(faces, tmp_path / folder)
        flat = pa.array(change(manifest.vectors("targets")).astype(np.float32).ravel())
        column = pa.FixedSizeListArray.from_arrays(flat, 6)
        place = names.index("targets")
        table = manifest.table.set_column(place, manifest.table.schema.field("targets"), column)
        pq.write_table(table, tmp_path / folder / "manifest.parquet")
        with pytest.raises(DataError, match=words):
            wrong = settings(tmp_path / folder, tiny)
            train_stage(EmotionConfig(**wrong), run=tmp_path / "run", quiet=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
def test_on_an_accelerator(faces: Path, tiny: dict[str, Any], tmp_path: Path, precision: str) -> None:
    run = {"epochs": 10, "patience": None, "precision": precision, "accelerator": "cuda"}
    result = train_stage(EmotionConfig(**settings(faces, tiny, run=run)), run=tmp_path / "run", quiet=True)
    entries = RunFolder(result.folder).entries("epoch")
    assert entries[-1]["loss"] < entries[0]["loss"]


def test_checkpointed_and_compiled_networks_train_alike(faces: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    curves = []
    for name, run in (("plain", {}), ("saving", {"grad_checkpointing": True}), ("compiled", {"compile": True})):
        train_stage(EmotionConfig(**settings(faces, tiny, run=run | {"epochs": 1})), run=tmp_path / name, quiet=True)
        curves.append(list(losses(tmp_path / name).values()))
    assert curves[1] == pytest.approx(curves[0], rel=1e-5)
    assert curves[2] == pytest.approx(curves[0], rel=1e-4)


def test_a_frozen_encoder_stays_as_it_is(faces: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    train_stage(EmotionConfig(**settings(faces, tiny, run={"epochs": 1})), run=tmp_path / "first", quiet=True)
    init = {"weights": str(tmp_path / "first"), "train": "head"}
    base = settings(faces, tiny, run={"epochs": 2, "seed": 1}, init=init)
    train_stage(EmotionConfig(**base), run=tmp_path / "second", quiet=True)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("encoder."))
    assert not torch.equal(before["head.weight"], after["head.weight"])


def test_a_kept_emotion_model_learns_action_units_and_says_what_it_said(
    faces: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    shape = tiny | {"stem": "conv", "stem_width": 8}  # with batch statistics, which move where nothing holds them
    train_stage(EmotionConfig(**settings(faces, shape, run={"epochs": 2})), run=tmp_path / "six", quiet=True)
    tensors = load_file(tmp_path / "six" / "model.safetensors")
    told = read_info(tmp_path / "six").model_copy(update={"scale": (1.5,) * 6, "offset": (0.1,) * 6, "terms": "free"})
    save_weights(tmp_path / "six" / "model.safetensors", tensors, info=told)

    shape |= {"au_from": "blocks"}
    init = {"weights": str(tmp_path / "six"), "head": "keep", "train": "head"}
    run = {"epochs": 20, "patience": None}
    base = settings(faces, shape, init=init, run=run, optim={"lr": 3e-2})
    result = train_stage(AuConfig(**base), run=tmp_path / "au", quiet=True)
    after = load_file(tmp_path / "au" / "model.safetensors")
    assert set(after) - set(tensors) == {"au_head.weight", "au_head.bias"}
    assert all(torch.equal(after[name], value) for name, value in tensors.items())
    info = read_info(tmp_path / "au")
    assert info.au_names == ("AU01", "AU02", "AU03")
    assert info.model.au_from == "blocks" and after["au_head.weight"].shape == (3, 3 * tiny["embed_dim"])
    assert info.model_copy(update={"au_names": (), "members": told.members}) == told
    crops = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), np.uint8)
    assert np.array_equal(load_engine(tmp_path / "au").run(crops).probs, load_engine(tmp_path / "six").run(crops).probs)
    entries = RunFolder(tmp_path / "au").entries("epoch")
    assert entries[-1]["loss"] < 0.95 * entries[0]["loss"] and result.best_score > entries[0]["val"]["macro_f1"]

    with pytest.raises(ConfigError, match=r"set init\.train to head"):
        AuConfig(**settings(faces, shape, init=init | {"train": "all"}, run=run))


@pytest.mark.parametrize(("workers", "decode"), [(0, "host"), (2, "host"), (2, "device")])
def test_a_damaged_picture_in_a_stream_is_named(
    workers: int, decode: str, faces: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(faces, tmp_path / "bad")
    shard = next((tmp_path / "bad" / "shards").glob("*00000.parquet"))
    table = pq.read_table(shard)
    rows = table.to_pylist()
    rows[5]["image"]["bytes"] = rows[5]["image"]["bytes"][:40]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), shard, row_group_size=256)
    base = settings(tmp_path / "bad", tiny, data={"loader": "stream", "workers": workers, "decode": decode})
    with pytest.raises(DataError, match=r"bad, 00005.png: not a readable picture"):
        train_stage(EmotionConfig(**base), run=tmp_path / "run", quiet=True)


def test_tensorboard_has_curves_f1_confusion_and_reconstructions(
    faces: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = {"epochs": 1, "tensorboard": True}
    train_stage(EmotionConfig(**settings(faces, tiny, run=run)), run=tmp_path / "emotion", quiet=True)
    train_stage(PretrainConfig(**settings(faces, tiny, run=run)), run=tmp_path / "pretrain", quiet=True)
    tags = {}
    for name in ("emotion", "pretrain"):
        events = accumulator.EventAccumulator(str(tmp_path / name / "tensorboard"))
        events.Reload()
        tags[name] = events.Tags()
    assert {"step/loss", "step/lr", "epoch/val/macro_f1", "epoch/val/f1/fear"} <= set(tags["emotion"]["scalars"])
    assert tags["emotion"]["images"] == ["confusion"] and tags["pretrain"]["images"] == ["reconstructions"]


def test_mlflow_gets_the_numbers(
    faces: Path, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow-skinny")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    address = (tmp_path / "mlruns").as_uri()
    config = EmotionConfig(**settings(faces, tiny, run={"epochs": 2, "mlflow": address}))
    train_stage(config, run=tmp_path / "run", quiet=True)
    client = mlflow.MlflowClient(tracking_uri=address)
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert run.info.status == "FINISHED"
    entry = RunFolder(tmp_path / "run").entries("epoch")[-1]
    assert run.data.metrics["epoch/val/macro_f1"] == pytest.approx(entry["val"]["macro_f1"])
