"""Pages of runs, k-folds, ablations, pictures and comparisons, opened in a real browser."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from femae.cli import main
from femae.labels import EMOTIONS


def write_scores(path: Path, *, num: int = 300) -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 6, num)
    targets = np.eye(6, dtype=np.float32)[true]
    probs = (1 / (1 + np.exp(-(4 * targets - 2 + rng.normal(0, 1, (num, 6)))))).astype(np.float32)
    columns: dict[str, Any] = {name: [f"{name}{n}" for n in range(num)] for name in ("source", "key", "group", "split")}
    columns |= {"fold": pa.array([-1] * num, pa.int8()), "class_name": [EMOTIONS[n] for n in true]}
    for j, emotion in enumerate(EMOTIONS):
        columns |= {emotion: probs[:, j], f"target_{emotion}": targets[:, j]}
    columns |= {"AU01": probs[:, 0], "target_AU01": targets[:, 0]}
    pq.write_table(pa.table(columns), path)


def write_run(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("stage: emotion\nname: '<script>alert(1)</script>'\n")
    about = {"femae": "0.1.0", "git": None, "stage": "emotion", "num_params": 2_460_000, "data": {"folders": ["a"]}}
    (folder / "run.json").write_text(json.dumps(about))
    lines: list[dict[str, Any]] = []
    for epoch in range(1, 5):
        lines += [
            {"kind": "step", "step": 10 * epoch + n, "epoch": epoch - 1 + n / 10, "loss": 1 / epoch, "lr": 1e-3 / epoch}
            for n in range(10)
        ]
        f1 = dict.fromkeys(EMOTIONS, 0.1 * epoch + 0.4)
        val = {"loss": 1.1 / epoch, "macro_f1": 0.1 * epoch + 0.4, "f1": f1}
        lines.append({"kind": "epoch", "epoch": epoch, "step": 10 * epoch, "loss": 1 / epoch, "seconds": 3, "val": val})
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    write_scores(folder / "scores.parquet")


def png(grey: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (24, 24), (grey, grey, grey)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    write_run(root / "mae")
    faces = [{"key": f"k{n}", "masked": png(9), "reconstructed": png(99), "original": png(199)} for n in range(30)]
    pq.write_table(pa.Table.from_pylist(faces), root / "mae" / "reconstructions.parquet")
    folds = []
    for n in range(3):
        write_run(root / "kfold" / f"fold-{n}")
        f1 = dict.fromkeys(EMOTIONS, 0.5 + 0.1 * n)
        folds.append({"fold": n, "run": f"fold-{n}", "f1": f1, "macro_f1": 0.5 + 0.1 * n})
    (root / "kfold" / "kfold.json").write_text(json.dumps({"folds": folds}))
    write_scores(root / "kfold" / "oof.parquet")
    rows = []
    for n, name in enumerate(("none", "<img src=x onerror=alert(1)>")):
        seeds = [{"seed": s, "run": "r", "macro_f1": 0.6 + 0.1 * n, "f1": {}} for s in range(3)]
        rows.append({"name": name, "seeds": seeds, "mean": 0.6 + 0.1 * n, "std": 0.02})
    (root / "ablation").mkdir()
    (root / "ablation" / "ablation.json").write_text(json.dumps({"rows": rows}))
    folders = [str(root / name) for name in ("mae", "kfold", "ablation")]
    assert main(["report", *folders, "--out", str(root / "pages")]) == 0
    assert main(["report", folders[0], "--figures", "--out", str(root / "pages")]) == 0
    return root / "pages"


@pytest.mark.parametrize("name", ["mae", "kfold", "ablation"])
def test_everybody_can_use_the_pages_of_runs(
    pages: Path, open_page: Callable[..., Any], faults_of: Callable[..., Any], name: str
) -> None:
    assert faults_of(open_page(pages / f"{name}.html").page) == []


def test_a_run(pages: Path, open_page: Callable[..., Any]) -> None:
    watched = open_page(pages / "mae.html")
    page = watched.page
    captions = page.locator("figcaption").all_inner_texts()
    for word in (
        "Loss",
        "Learning rate",
        "F1 on the validation samples",
        "Confusion, 300",
        "Reliability of the emotions",
    ):
        assert any(caption.startswith(word) for caption in captions), word
    assert page.locator(".sheet img").count() == 3 * 24
    assert page.locator(".sheet img").first.evaluate("i => i.naturalWidth") == 24
    assert "best mean F1 0.800 in epoch 4" in page.locator("header").inner_text()
    assert "<script>alert(1)</script>" in page.locator("#about").inner_text()
    table = page.locator("h3:has-text('Emotions') + div table")
    assert 0.5 < float(table.locator("tr:last-child td:nth-child(3)").inner_text()) <= 1
    watched.assert_clean()
    assert {path.name for path in pages.glob("*.pdf")} == {"mae-loss.pdf", "mae-f1.pdf", "mae-confusion.pdf"}


def test_folds_and_ablation(pages: Path, open_page: Callable[..., Any]) -> None:
    watched = open_page(pages / "kfold.html")
    table = watched.page.locator("table").first.inner_text()
    assert "fold 2" in table and "0.600" in table and "deviation" in table and "0.100" in table
    assert any("Mean F1" in text for text in watched.page.locator("figcaption").all_inner_texts())
    watched.assert_clean()
    watched = open_page(pages / "ablation.html", viewport={"width": 390, "height": 844})
    assert "<img src=x onerror=alert(1)>" in watched.page.locator("table").first.inner_text()
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= 390
    watched.assert_clean()


def test_pictures(
    tmp_path: Path,
    astronaut: np.ndarray,
    open_page: Callable[..., Any],
    faults_of: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "<b>photos"
    folder.mkdir()
    Image.fromarray(astronaut).save(folder / "<img src=x onerror=alert(1)>.png")
    Image.new("RGB", (80, 60)).save(folder / "black.png")
    (folder / "bad.png").write_bytes(b"x")
    assert main(["predict", str(folder), "--report", "--out", str(tmp_path), "--quiet"]) == 1  # one cannot be read
    watched = open_page(tmp_path / "<b>photos.html")
    page = watched.page
    assert page.locator("#gallery figure").count() == 3 and page.locator("#gallery img").count() == 2
    assert page.locator("#moments img").count() == 1
    assert page.locator("#moments strong").inner_text().startswith("happiness ")
    assert page.locator("#kind option").all_inner_texts() == ["all", "happiness", "without a face", "unreadable"]
    page.locator("#kind").select_option("happiness")
    assert page.locator("#gallery figure:visible").count() == 1
    assert faults_of(page) == []
    page.locator("#kind").select_option("no_face")
    assert page.locator("#gallery figure:visible").count() == 1
    assert page.locator("#count").inner_text() == "1 of 3"
    assert "could not be read" in page.locator(".problem").inner_text()
    watched.assert_clean()
    shutil.move(tmp_path / "<b>photos.csv", tmp_path / "t.csv")
    out = tmp_path / "later"
    capsys.readouterr()
    assert main(["report", str(tmp_path / "t.csv"), "--pictures", str(folder), "--out", str(out)]) == 0
    assert open_page(out / "t.html").page.locator("#gallery img").count() == 2
    assert capsys.readouterr().out == f"  -> {out / 't.html'}\n"
    assert main(["report", str(tmp_path / "t.csv"), "--labels", "compound", "--out", str(out), "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert "Happily Surprised" in open_page(out / "t.html").page.locator("#gallery figcaption").all_inner_texts()[0]


def test_predict_with_report_then_two_models_on_one_film(
    tmp_path: Path, carphone: Path, open_page: Callable[..., Any], faults_of: Callable[..., Any]
) -> None:
    film = str(carphone)
    assert main(["predict", film, "--report", "--out", str(tmp_path / "a"), "--quiet"]) == 0
    page = open_page(tmp_path / "a" / "carphone_pristine.html")
    about = page.page.locator("#about").inner_text()
    assert "femae-" in about and "detect every" in about  # settings, although the table is a CSV file
    assert page.page.locator("#faces [data-track]").count() == 1
    page.assert_clean()
    assert main(["predict", film, "--rule", "product", "--out", str(tmp_path / "b"), "--quiet"]) == 0
    tables = [str(tmp_path / name / "carphone_pristine.csv") for name in "ab"]
    assert main(["report", *tables, "--film", film, "--out", str(tmp_path)]) == 0
    watched = open_page(tmp_path / "carphone_pristine.compared.html")
    chips = watched.page.locator("#faces .label").all_inner_texts()
    assert chips == ["A · carphone_pristine (a) · face 1", "B · carphone_pristine (b) · face 1"]
    assert "120 of 120" in watched.page.locator("#agreement").inner_text()
    agreement = watched.page.locator("#agreement").inner_text()
    assert "0.000, 1.00" in agreement  # the six probabilities are equal
    assert "same expression" in agreement and "100.0%" in agreement  # independent of the compound rule
    assert faults_of(watched.page) == []
    watched.assert_clean()


def test_films_by_condition(
    tmp_path: Path, make_table: Callable[..., Any], open_page: Callable[..., Any], faults_of: Callable[..., Any]
) -> None:
    rows, tables = ["source,condition"], []
    for group, lift in (("calm", 0.0), ("moved", 0.15)):
        for n in range(4):
            rows.append(f"{group}{n}.mp4,{group}")
            table = make_table(num_frames=40, seed=n, lift=lift, source=f"{group}{n}.mp4")
            tables.append(str(table.write(tmp_path / f"{group}{n}.parquet")))
    (tmp_path / "conditions.csv").write_text("\n".join([*rows, "absent.mp4,calm"]))
    arguments = ["--conditions", str(tmp_path / "conditions.csv"), "--out", str(tmp_path)]
    assert main(["report", *tables, *arguments]) == 0
    watched = open_page(tmp_path / "comparison.html")
    text = watched.page.locator("main").inner_text()
    assert "moved - calm" in text and "calm0.mp4" in text
    assert "absent.mp4" in watched.page.locator(".problem").inner_text()
    seen = {word for table in tables for word in pq.read_table(table)["expression"].to_pylist()}
    shares = watched.page.locator("main table").first.locator("tr td:first-child").all_inner_texts()[len(EMOTIONS) :]
    assert 3 < len(seen) < 14 and set(shares) == {f"share of {word}" for word in seen}
    assert watched.page.locator("svg.chart").count() == 4
    assert faults_of(watched.page) == []
    watched.assert_clean()
