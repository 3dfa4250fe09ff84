"""`femae export`: from a run's folder to model files for predict, and the printed comparison."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="needs femae[train]")

from femae.cli import main
from femae.config.export import ExportConfig
from femae.config.model import ModelConfig
from femae.config.train import InitConfig
from femae.engine.load import load_engine
from femae.engine.torch import TorchEngine
from femae.errors import ConfigError, DataError, MissingDependencyError, ModelError, OutputError
from femae.export.check import compare_f1, labelled_rows, noise_crops, sample_crops
from femae.export.run import export_model
from femae.export.weights import balance_offsets, balanced
from femae.inference.predictor import Predictor
from femae.labels import EMOTIONS
from femae.models.face import FaceModel
from femae.models.weights import WeightsInfo, load_model, read_info, save_weights
from femae.shipped import shipped
from femae.training.tasks.expression import fit_expression_to_tables
from femae.training.tasks.init_weights import init_encoder

TINY = ModelConfig(image_size=32, patch_size=8, embed_dim=16, depth=1, num_heads=1, stem="patch")


def write_run(folder: Path, *, outputs: tuple[str, ...] = EMOTIONS, au_names: tuple[str, ...] = ()) -> Path:
    torch.manual_seed(0)
    model = FaceModel(TINY, outputs=outputs, au_names=au_names)
    for head in (model.head, model.au_head):
        if head is not None:
            torch.nn.init.normal_(head.weight, std=0.5)
    folder.mkdir(parents=True, exist_ok=True)
    info = WeightsInfo.of(model, name="tiny", description="two kinds of noise")
    save_weights(folder / "model.safetensors", model.state_dict(), info=info)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "emotion", au_names=("AU12", "AU25"))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, astronaut: np.ndarray) -> Path:
    """24 crops of two emotions."""
    folder = tmp_path_factory.mktemp("data")
    places = np.random.default_rng(0).integers(0, 400, (24, 2))
    for number, (y, x) in enumerate(places):
        target = folder / "faces" / ("happiness" if number % 2 else "sadness") / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(astronaut[y : y + 96, x : x + 96]).save(target)
    arguments = ["data", "prepare", str(folder / "faces"), "--crops", "--size", "32", "--out", str(folder / "shards")]
    assert main([*arguments, "--workers", "1", "--quiet"]) == 0
    return folder / "shards"


def test_a_run_to_eight_bits_with_what_was_lost(
    run: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "small.onnx"
    arguments = ["export", str(run), "--precision", "int8", "--calibration", str(shards), "--labels", str(shards)]
    assert main([*arguments, "--out", str(out), "--name", "Small", "--terms", "free"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{out}: 0.")
    for words in ("8 bits: ranges by ", "entropy: mean difference ", "of 6 crops that took no part in calibration"):
        assert words in said
    assert "F1, six emotions: " in said and " on 24 crops" in said and "ms per crop" in said
    engine = load_engine(out)
    assert (engine.spec.name, engine.spec.terms, engine.spec.precision) == ("Small", "free", "int8")
    assert [path.name for path in out.parent.iterdir()] == ["small.onnx"]  # no temporary file is left


def test_openvino_beside_the_weights_and_through_predict(
    run: Path, astronaut: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openvino", reason="needs femae[openvino]")
    before = {path.name for path in run.iterdir()}
    assert main(["export", str(run), "--format", "openvino"]) == 0
    assert "synthetic pictures (give real ones with --calibration)" in capsys.readouterr().out
    assert {path.name for path in run.iterdir()} - before == {"model.xml", "model.bin"}
    (tmp_path / "crops").mkdir()
    Image.fromarray(astronaut[60:190, 160:290]).save(tmp_path / "crops" / "a.png")
    tables = {}
    for model, engine in ((run / "model.xml", "openvino"), (run, "torch")):
        arguments = ["predict", str(tmp_path / "crops"), "--faces", "whole", "--model", str(model), "--quiet"]
        assert main([*arguments, "--engine", engine, "--out", str(tmp_path / engine)]) == 0
        tables[engine] = (tmp_path / engine / "crops.csv").read_text().splitlines()
    assert tables["openvino"][0] == tables["torch"][0] and tables["torch"][0].endswith("AU12,AU25")
    first, second = ([float(cell) for cell in tables[name][1].split(",")[-2:]] for name in ("openvino", "torch"))
    np.testing.assert_allclose(first, second, atol=1e-3)
    assert main(["models", str(run / "model.xml"), str(run)]) == 0
    assert capsys.readouterr().out.count("AU12") == 2


def test_files_hold_no_path_of_the_machine_that_made_them(run: Path, tmp_path: Path) -> None:
    result = export_model(ExportConfig(weights=run, out=tmp_path / "m.onnx"))
    assert result.parity.largest < 1e-5 and not result.real_crops
    shipped = Path(__file__).resolve().parents[2] / "src" / "femae" / "weights" / "model.onnx"
    for path in (result.paths[0], shipped):
        content = path.read_bytes()
        assert b"stack_trace" not in content and b"site-packages" not in content
        assert str(Path.cwd()).encode() not in content and str(tmp_path).encode() not in content


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"precision": "int8"}, "int8 needs --calibration"),
        ({"out": Path("m.xml")}, "a file of the format onnx ends in .onnx"),
        ({"balance": 0.5}, "balance and class-counts go together"),
        ({"balance": 0.5, "class_counts": (1.0, 2.0)}, "takes six numbers above 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_words(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ExportConfig(weights=Path("x"), **settings)


def test_weights_without_emotions_are_refused_in_words(tmp_path: Path) -> None:
    run = write_run(tmp_path / "au", outputs=(), au_names=("AU12",))
    with pytest.raises(ModelError, match="has no emotions; expected a model of the stage emotion"):
        export_model(ExportConfig(weights=run))
    with pytest.raises(ModelError, match="has no emotions"):
        load_engine(run)
    assert [path.name for path in run.iterdir()] == ["model.safetensors"]


def test_a_missing_package_is_named_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'femae\[train\]'"):
        export_model(ExportConfig(weights=Path("nowhere")))


def test_a_folder_that_cannot_be_written_is_an_output_error(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        export_model(ExportConfig(weights=run, out=tmp_path / "file" / "m.onnx"))


def test_labels_that_are_not_there_are_named(shards: Path) -> None:
    assert len(labelled_rows(shards, sources=(), splits=())) == 24
    with pytest.raises(DataError, match=r"has no such rows with labels; it has faces \(no split\)"):
        labelled_rows(shards, sources=("rafdb",), splits=())
    with pytest.raises(DataError, match="no such rows"):
        labelled_rows(shards, sources=(), splits=("test",))


def test_f1_is_that_of_the_strongest_emotion(run: Path, shards: Path) -> None:
    from sklearn.metrics import f1_score

    from femae.data.store.shard_reader import load_pictures

    rows = labelled_rows(shards, sources=(), splits=())
    engine = TorchEngine(run)
    found = compare_f1(engine, engine, manifests=[rows])
    true = rows.vectors("targets").argmax(1)
    pred = engine.run(load_pictures(rows, size=32))[0].argmax(1)
    expected = f1_score(true, pred, labels=range(6), average="macro", zero_division=0)
    assert found.emotions[0] == found.emotions[1] == pytest.approx(expected)
    assert (found.num_emotions, found.num_action_units) == (24, 0)


def test_calibration_crops_are_drawn_at_random_and_again_the_same(shards: Path) -> None:
    first, second = (sample_crops(shards, size=32, count=10) for _ in range(2))
    assert first.shape == (10, 32, 32, 3)
    np.testing.assert_array_equal(first, second)
    assert len(sample_crops(shards, size=32, count=99)) == 24
    assert noise_crops(size=20, count=3).shape == (3, 20, 20, 3)


def test_balance_lifts_rare_emotions_and_keeps_the_mean(run: Path) -> None:
    counts = np.array([400.0, 100.0, 50.0, 800.0, 400.0, 200.0])
    offsets = np.array(balance_offsets(counts.tolist(), balance=0.5))
    np.testing.assert_allclose(offsets - offsets[3], 0.5 * np.log(800 / counts), atol=1e-9)
    assert abs((offsets * counts).sum()) < 1e-6
    assert not np.any(balance_offsets(counts.tolist(), balance=0.0))
    model, info = load_model(run)
    calibrated = info.model_copy(update={"scale": (2.0,) * 6, "offset": (0.5,) * 6})
    crops = noise_crops(size=32, count=5)
    logits = []
    for version in (calibrated, balanced(calibrated, class_counts=counts.tolist(), balance=0.5)):
        probs = TorchEngine.of(model, info=version).run(crops)[0].astype(np.float64)
        logits.append(np.log(probs / (1 - probs)))
    np.testing.assert_allclose(logits[1] - logits[0], np.tile(offsets, (5, 1)), atol=1e-4)


def test_weights_to_pass_on_and_the_encoder_to_train_from(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, half, part = (tmp_path / name for name in ("whole.safetensors", "half.safetensors", "part.safetensors"))
    plain = ["export", str(run), "--format", "safetensors", "--out"]
    balance = ["--balance", "0.5", "--class-counts", "8", "1", "1", "8", "8", "8"]
    assert main([*plain, str(whole), "--name", "Whole", "--terms", "free", *balance]) == 0
    assert capsys.readouterr().out.startswith(f"{whole}: 0.")
    assert main([*plain, str(half), "--precision", "fp16"]) == 0
    assert main([*plain, str(part), "--part", "encoder"]) == 0
    info = read_info(whole)
    assert (info.name, info.terms, info.kind) == ("Whole", "free", "face")
    crops = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    before, after, rounded = (load_engine(path).run(crops)[0] for path in (run, whole, half))
    np.testing.assert_allclose(rounded, before, atol=5e-3)
    assert (after[:, 1:3] > before[:, 1:3]).all() and (after[:, 0] < before[:, 0]).all()
    cool = tmp_path / "cool.safetensors"
    assert main([*plain, str(cool), "--temperature", "0.5", *balance]) == 0
    logits, twice = (np.log(probs / (1 - probs)) for probs in (after, load_engine(cool).run(crops)[0]))
    np.testing.assert_allclose(twice, 2 * logits, atol=1e-4)
    assert half.stat().st_size < 0.7 * whole.stat().st_size
    (tmp_path / "usual").touch()
    assert whole.stat().st_mode == (tmp_path / "usual").stat().st_mode  # the usual permissions of a new file
    encoder = FaceModel(TINY).encoder
    report = init_encoder(encoder, InitConfig(weights=part))
    assert report is not None and not report.fresh
    expected = load_model(run)[0].encoder.state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(value, expected[name]) for name, value in encoder.state_dict().items())
    with pytest.raises(ModelError, match="is an encoder of pretraining"):
        load_engine(part)
    assert main(["export", str(run), "--format", "safetensors"]) == 1
    assert "is the file being exported: choose another with --out" in capsys.readouterr().err
    assert main(["export", str(run), "--precision", "fp16"]) == 2
    assert "add --format safetensors" in capsys.readouterr().err


def test_the_mean_of_weights_and_of_a_runs_state(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, info = load_model(run)
    first = model.state_dict()
    moved = {name: value + 1 if value.is_floating_point() else value for name, value in first.items()}
    other, state, out = (tmp_path / name for name in ("other.safetensors", "state.safetensors", "mean.safetensors"))
    save_weights(other, moved, info=info)
    averaged = {f"ema.{name}": value + 5 for name, value in first.items()}
    save_weights(state, averaged | {f"model.{name}": value for name, value in moved.items()}, info=info)
    command = ["export", str(run), "--format", "safetensors", "--out", str(out), "--mean-with"]
    assert main([*command, str(other), str(state)]) == 0
    found = load_model(out)[0].state_dict()
    assert all(torch.allclose(found[name], value + 2, atol=1e-6) for name, value in first.items())
    small = write_run(tmp_path / "small")
    capsys.readouterr()
    assert main([*command, str(small)]) == 2
    assert "do not belong to the network of" in capsys.readouterr().err
    assert main(["export", str(run), "--mean-with", str(other)]) == 2
    assert "mean-with needs the format safetensors" in capsys.readouterr().err


def test_a_shipped_start_is_named_by_the_package() -> None:
    with pytest.raises(ModelError, match=r"ships no .safetensors file 'encoder-xyz'; it ships femae:encoder-au, "):
        shipped(Path("femae:encoder-xyz"), suffixes=(".safetensors",))
    for name in ("encoder-mae", "encoder-au"):
        encoder = FaceModel(ModelConfig()).encoder
        report = init_encoder(encoder, InitConfig(weights=Path(f"femae:{name}")))
        assert report is not None and not report.resampled
        assert len(report.loaded) > 80


def scores_of(run: Path, path: Path, *, num_faces: int = 400) -> Path:
    """A table of scores as of a fold: faces that show none, an emotion or a compound, with a model's outputs."""
    rng = np.random.default_rng(0)
    targets = np.zeros((num_faces, 6), np.float32)
    for row in range(num_faces):
        if row % 4 == 1:
            targets[row, rng.integers(6)] = 1
        elif row % 4 > 1:
            targets[row, [0, 1 + rng.integers(3)]] = 0.5
    none = 1 - targets.sum(1)
    noisy = np.clip(np.c_[targets, none] * 0.8 + rng.normal(0.1, 0.1, (num_faces, 7)), 0.01, 0.99).astype(np.float32)
    columns = {name: noisy[:, i] for i, name in enumerate(EMOTIONS)}
    columns |= {f"target_{name}": targets[:, i] for i, name in enumerate(EMOTIONS)}
    if read_info(run).says_none:
        columns["none"] = noisy[:, 6]
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture(scope="module", params=[EMOTIONS, (*EMOTIONS, "none")], ids=["six", "and-none"])
def fitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    """A run with six or seven outputs, its scores, and the fitted expression rule after a temperature of 0.8."""
    folder = tmp_path_factory.mktemp("fitted")
    run = write_run(folder / "run", outputs=request.param)
    scores = scores_of(run, folder / "scores.parquet")
    return run, scores, fit_expression_to_tables([scores], scale=(1.25,) * 6, offset=(0.0,) * 6)


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".safetensors"])
def test_the_label_for_people_travels_with_the_file(
    fitted: tuple[Path, Path, Any], suffix: str, tmp_path: Path, astronaut: np.ndarray
) -> None:
    run, scores, expected = fitted
    out, outputs = tmp_path / f"model{suffix}", read_info(run).outputs
    form = {".onnx": "onnx", ".xml": "openvino", ".safetensors": "safetensors"}[suffix]
    arguments = ["export", str(run), "--format", form, "--out", str(out), "--temperature", "0.8", "--quiet"]
    assert main([*arguments, "--expression-from", str(scores)]) == 0
    predictor = Predictor(model=out, faces="whole", expression_window=0)
    assert expected is not None and predictor.expression.params == expected
    assert (expected.none_weight > 0) == ("none" in outputs) == predictor.engine.spec.says_none
    about = predictor.schema().metadata
    assert json.loads(about[b"expression"])["rule"] == f"fitted on {expected.num_faces} faces"
    face = predictor.predict_image(astronaut[60:180, 160:280]).faces[0]
    assert len(face.none_probs) == ("none" in outputs)
    names, values = predictor.expression.decide(face.outputs[None])
    assert (face.expression, face.expression_probability) == (names[0], float(values[0]))


def test_numbers_of_the_label_that_cannot_be_fitted_or_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", outputs=(*EMOTIONS, "none"))
    plain = ["export", str(run), "--format", "safetensors", "--out", str(tmp_path / "out.safetensors"), "--quiet"]
    assert main([*plain, "--expression-from", str(tmp_path / "nothing.parquet")]) == 2
    assert "there is no table of scores" in capsys.readouterr().err
    few = scores_of(run, tmp_path / "few.parquet", num_faces=100)
    assert main([*plain, "--expression-from", str(few)]) == 2
    assert "too few faces to fit to: at least 200" in capsys.readouterr().err
    assert main([*plain, "--expression-from", str(scores_of(run, tmp_path / "scores.parquet"))]) == 0
    cooler = ["export", str(tmp_path / "out.safetensors"), "--format", "safetensors", "--temperature", "0.9"]
    assert main([*cooler, "--out", str(tmp_path / "cool.safetensors")]) == 2
    assert "with --expression-from to fit it again" in capsys.readouterr().err
    encoder = tmp_path / "encoder.safetensors"
    assert (
        main(["export", str(tmp_path / "out.safetensors"), *plain[2:4], "--part", "encoder", "--out", str(encoder)])
        == 0
    )
    assert read_info(encoder).expression is None
