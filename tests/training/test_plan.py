"""femae train RECIPE --plan: results computed by hand, and nothing trained."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs femae[train]")
pytest.importorskip("lightning_fabric", reason="needs femae[train]")

from femae.cli import main

REPO = Path(__file__).resolve().parents[2]


def test_the_plan_of_the_papers_pretraining(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """ViT-B encoder 86 M and decoder 26 M; 50 x 2 M pictures at 8 x 3000 a second are 1.16 hours."""
    monkeypatch.chdir(tmp_path)
    recipe = str(REPO / "recipes/paper/pretrain.yaml")
    numbers = ["--devices", "8", "--rate", "3000", "--pictures", "2000000"]
    assert main(["train", recipe, "--plan", *numbers]) == 0
    text = capsys.readouterr().out
    assert "111.8 M parameters" in text and "150,528 bytes per picture" in text
    assert "256 on each of 8 devices, 2 times" in text
    assert "50 epochs of 2,000,000 pictures: 1.16 hours" in text
    # blocks of 12 * 768^2 over 50 tokens and of 12 * 512^2 over 197, times 6: the least
    flops = float(text.split(" GFLOP")[0].split()[-1])
    assert 6 * (12 * 12 * 768**2 * 50 + 8 * 12 * 512**2 * 197) / 1e9 < flops < 62
    assert list(tmp_path.iterdir()) == []


def test_the_plan_counts_what_is_there_and_what_is_changed(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # where the recipe's folders are not
    recipe = str(REPO / "recipes/open/kfold.yaml")
    changes = ["--emotion.data.folders", str(faces), "--emotion.run.epochs", "3"]
    assert main(["train", recipe, "--plan", "--rate", "11", *changes]) == 0
    assert "3 epochs of 132 pictures, 5 times: 0.05 hours" in capsys.readouterr().out
    assert main(["train", str(REPO / "recipes/open/emotion.yaml"), "--plan"]) == 0
    plain = capsys.readouterr().out
    saving = ["--run.grad_checkpointing", "true", "--run.ema_decay", "0"]
    assert main(["train", str(REPO / "recipes/open/emotion.yaml"), "--plan", *saving]) == 0
    less = capsys.readouterr().out

    def memory(text: str) -> list[float]:
        line = next(line for line in text.splitlines() if "for activations" in line)
        return [float(word) for word in line.replace(",", "").split() if word.replace(".", "").isdigit()]

    assert memory(less)[2] <= memory(plain)[2] and "of each million pictures" in plain
    assert main(["train", recipe, "--plan", "--devices", "none"]) == 2
    assert "--devices takes one number above 0" in capsys.readouterr().err
    assert main(["train", str(REPO / "recipes/tiny_cpu.yaml"), "--plan"]) == 0
    assert "pretrain" in capsys.readouterr().out
