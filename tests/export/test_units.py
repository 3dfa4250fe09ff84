"""`femae export --units-from`: which action units an exported file keeps, and their thresholds."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch", reason="needs femae[train]")

from femae.cli import main
from femae.config.model import ModelConfig
from femae.engine.load import load_engine
from femae.errors import DataError
from femae.export.units import MIN_SHOWN, choose_units
from femae.labels import EMOTIONS
from femae.models.face import Ensemble, FaceModel
from femae.models.weights import WeightsInfo, read_info, save_weights

TINY = ModelConfig(image_size=32, patch_size=8, embed_dim=16, depth=1, num_heads=1, stem="patch")
NAMES = ("AU04", "AU12", "AU25")


def write_scores(path: Path, *, num_faces: int = 800, source: str = "real", seed: int = 0) -> Path:
    """AU04 is noise, the threshold of AU12 is 0.3, that of AU25 0.8; 2 % of labels are wrong, 10 % unknown."""
    rng = np.random.default_rng(seed)
    columns: dict[str, object] = {
        "source": [source] * num_faces,
        "group": [f"person {n // 4}" for n in range(num_faces)],
    }
    for name, threshold in zip(NAMES, (0.5, 0.3, 0.8), strict=True):
        shown = rng.random(num_faces) < 0.3
        probs = np.where(
            shown, rng.uniform(threshold + 0.02, 1, num_faces), rng.uniform(0, threshold - 0.02, num_faces)
        )
        if name == "AU04":
            probs = rng.random(num_faces)
        columns[name] = probs.astype(np.float32)
        columns[f"target_{name}"] = pa.array(
            (shown ^ (rng.random(num_faces) < 0.02)).astype(np.float32), mask=rng.random(num_faces) < 0.1
        )
    pq.write_table(pa.table(columns), path)
    return path


def test_units_are_judged_by_thresholds_from_other_persons(tmp_path: Path) -> None:
    table = write_scores(tmp_path / "scores.parquet")
    choice = choose_units([table], names=NAMES, least_f1=0.6)
    assert list(choice.offsets) == ["AU12", "AU25"] and set(choice.f1) == set(NAMES)
    assert choice.f1["AU04"] < 0.5 and choice.f1["AU12"] > 0.9 < choice.f1["AU25"]
    for name, threshold in (("AU12", 0.3), ("AU25", 0.8)):
        assert 1 / (1 + np.exp(choice.offsets[name])) == pytest.approx(threshold, abs=0.025)
    other = write_scores(tmp_path / "renders.parquet", source="renders", seed=1)
    both = choose_units([table, other], names=NAMES, least_f1=0.6, sources=["real", "renders"])
    assert both.offsets != choice.offsets
    with pytest.raises(DataError, match="has no rows of drawn"):
        choose_units([table], names=NAMES, least_f1=0.6, sources=["drawn"])
    with pytest.raises(DataError, match="has no scores of AU01"):
        choose_units([table], names=("AU01", "AU12"), least_f1=0.6)
    few = write_scores(tmp_path / "few.parquet", num_faces=MIN_SHOWN)
    assert not choose_units([few], names=NAMES, least_f1=0.0).offsets


@pytest.mark.parametrize("num_members", [1, 2])
def test_a_file_says_the_units_that_are_left(
    num_members: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    shape = TINY.model_copy(update={"au_from": "blocks" if num_members > 1 else "last"})
    members = [FaceModel(shape, outputs=EMOTIONS, au_names=NAMES) for _ in range(num_members)]
    model = Ensemble(members) if num_members > 1 else members[0]
    (tmp_path / "run").mkdir()
    save_weights(tmp_path / "run" / "model.safetensors", model.state_dict(), info=WeightsInfo.of(model, name="tiny"))
    scores, out = write_scores(tmp_path / "scores.parquet"), tmp_path / "with-units.safetensors"
    command = ["export", str(tmp_path / "run"), "--format", "safetensors", "--units-from", str(scores)]
    assert main([*command, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "F1 of action units: AU04 0." in said and "left out: AU04" in said
    info = read_info(out)
    assert info.au_names == ("AU12", "AU25")
    crops = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), np.uint8)
    before = load_engine(tmp_path / "run").run(crops)
    assert main(["export", str(out), "--out", str(tmp_path / "small.onnx"), "--quiet"]) == 0
    for file in (out, tmp_path / "small.onnx"):
        after = load_engine(file).run(crops)
        np.testing.assert_allclose(after.probs, before.probs, atol=1e-5)
        moved = np.log(before.au_probs / (1 - before.au_probs))[:, 1:] + info.au_offset
        np.testing.assert_allclose(after.au_probs, 1 / (1 + np.exp(-moved)), atol=1e-5)

    one = tmp_path / "one.safetensors"
    assert main([*command, "--out", str(one), "--drop-units", "AU12", "--quiet"]) == 0
    assert read_info(one).au_names == ("AU25",)
    assert main([*command, "--out", str(one), "--drop-units", "AU17"]) == 2
    assert "has no AU17 to drop, only AU04, AU12, AU25" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "none.safetensors"), "--least-unit-f1", "1.0"]) == 2
    assert "has no action unit with an F1 of 1.0" in capsys.readouterr().err
    assert not (tmp_path / "none.safetensors").exists()
    assert main(["export", str(tmp_path / "run"), "--units-from", str(scores)]) == 2
    assert "units-from needs the format safetensors" in capsys.readouterr().err
