"""Scores of label files, against scikit-learn."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from femae.abaw.label_file import CE_ROWS, CE_VIDEOS, TRACKS, TrackName, read_labels, write_labels
from femae.abaw.score import is_challenge, score_labels
from femae.cli import main
from femae.errors import DataError


def save(path: Path, values: np.ndarray, *, track: TrackName, video: str = "01") -> Path:
    rows = [(video, frame, row) for frame, row in enumerate(values.tolist(), start=1)]
    write_labels(path, rows, track=TRACKS[track])
    return path


@pytest.mark.parametrize(("track", "levels"), [("ce", 7), ("expr", 8)])
def test_macro_f1_over_all_frames_together(tmp_path: Path, track: TrackName, levels: int) -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, levels, (500, 1))
    pred = np.where(rng.random((500, 1)) < 0.6, true, rng.integers(0, levels, (500, 1)))
    labels = read_labels(save(tmp_path / "true.txt", true, track=track))
    score = score_labels(read_labels(save(tmp_path / "pred.txt", pred, track=track)), labels=labels)
    assert score.macro_f1 == pytest.approx(f1_score(true, pred, average="macro", labels=range(levels)), abs=1e-12)
    assert score.support.tolist() == np.bincount(true[:, 0], minlength=levels).tolist()
    assert (score.num_frames, score.num_unknown) == (500, 0)


def test_a_class_without_frames_counts_as_nothing(tmp_path: Path) -> None:
    true = np.array([[0], [0], [1]])
    labels = read_labels(save(tmp_path / "true.txt", true, track="ce"))
    assert score_labels(labels, labels=labels).macro_f1 == pytest.approx(2 / 7)


def test_units_with_unknown_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    true, pred = rng.integers(0, 2, (2, 200, 12))
    true[rng.random(true.shape) < 0.2] = -1
    true[:, 5] = -1  # a unit without labels
    true[7] = -1
    path = save(tmp_path / "true.txt", true, track="au")
    labels = read_labels(path, other_is_unknown=True)
    score = score_labels(read_labels(save(tmp_path / "pred.txt", pred, track="au")), labels=labels)
    expected = [f1_score(true[k, u], pred[k, u]) for u in range(12) if (k := true[:, u] >= 0).any()]
    assert len(expected) == 11 and np.isnan(score.f1[5])
    assert score.macro_f1 == pytest.approx(np.mean(expected), abs=1e-12)
    assert (score.num_frames, score.num_unknown) == (199, 1)


def test_labels_that_are_not_known_do_not_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    true = save(tmp_path / "true.txt", np.array([[0], [-1], [7], [1]]), track="ce")
    pred = save(tmp_path / "pred.txt", np.array([[0], [5], [5], [1]]), track="ce")
    assert main(["abaw", "score", str(pred), "--labels", str(true), "--name", "mine"]) == 0
    said = capsys.readouterr().out
    assert "macro-F1 0.2857 over 2 frames; 2 without a known label do not count" in said
    assert "Netease Fuxi AI Lab" in said and "0.5526" in said and "mine" in said
    assert "Not comparable with the published scores" in said  # these are not the frames of the challenge


def test_a_labelled_frame_must_be_predicted(tmp_path: Path) -> None:
    labels = read_labels(save(tmp_path / "true.txt", np.ones((5, 1), int), track="ce"))
    short = read_labels(save(tmp_path / "pred.txt", np.ones((3, 1), int), track="ce"))
    with pytest.raises(DataError, match=r"2 of 5 labelled frames have no prediction, the first of them 01/00004.jpg"):
        score_labels(short, labels=labels)
    assert score_labels(labels, labels=short).num_frames == 3  # additional predictions are allowed


def test_the_track_must_be_that_of_the_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    true = save(tmp_path / "true.txt", np.ones((2, 1), int), track="ce")
    pred = save(tmp_path / "pred.txt", np.ones((2, 1), int), track="expr")
    assert main(["abaw", "score", str(pred), "--labels", str(true)]) == 2
    assert "line 1" in capsys.readouterr().err


def test_the_challenge_itself_is_recognised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    each = CE_ROWS // 56
    lengths = {video: each + (CE_ROWS % 56 if video == "56" else 0) for video in CE_VIDEOS}
    rows = [(video, frame, [frame % 7]) for video, length in lengths.items() for frame in range(1, length + 1)]
    path = tmp_path / "true.txt"
    write_labels(path, rows, track=TRACKS["ce"])
    assert is_challenge(read_labels(path))
    assert main(["abaw", "score", str(path), "--labels", str(path)]) == 0
    said = capsys.readouterr().out
    assert "macro-F1 1.0000 over 26,145 frames" in said and "Not comparable" not in said
