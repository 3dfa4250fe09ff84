"""The first cut of the emotion stage: its loss, its averages, its resume."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="needs femae[train]")

from femae.config.emotion import AugmentConfig, EmotionConfig
from femae.config.model import ModelConfig
from femae.data.augment import augment_batch
from femae.data.sources.ferplus import FERPLUS_VOTES, FerPlus
from femae.labels import EMOTIONS
from femae.models.vit import EmotionModel
from femae.training.emotion import loss_function, quick_f1, sampling_weights, train_emotion, vote_shares

TINY = ModelConfig(embed_dim=32, depth=1, num_heads=2, stem_width=8, drop_path=0.0)


def write_ferplus(folder: Path, *, num_train: int = 48, num_test: int = 8) -> Path:
    """A small FER+ folder: bright pictures are happy, dark ones sad."""
    rng = np.random.default_rng(0)
    atlas = np.zeros((48 * 2, 48 * 32), np.uint8)
    columns = ["index", "atlas", "cell", "name", "csv_row", "split", *FERPLUS_VOTES, "dup_group", "dup_in_training"]
    rows = []
    for index in range(num_train + num_test):
        happy = bool(rng.integers(2))
        r, c = divmod(index, 32)
        atlas[r * 48 : r * 48 + 48, c * 48 : c * 48 + 48] = rng.integers(140, 255) if happy else rng.integers(0, 110)
        votes = dict.fromkeys(FERPLUS_VOTES, 0) | (
            {"happiness": 9, "neutral": 1} if happy else {"sadness": 8, "fear": 2}
        )
        split = "Training" if index < num_train else "PublicTest"
        rows.append(
            {"index": index, "atlas": 0, "cell": index, "name": f"fer{index:07d}.png", "csv_row": index} | votes
        )
        rows[-1] |= {"split": split, "dup_group": "", "dup_in_training": 0}
    Image.fromarray(atlas).save(folder / "atlas_00.png")
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_loss_equals_eq_1_plus_cross_entropy_in_float64() -> None:
    rng = np.random.default_rng(1)
    logits, shares = rng.normal(size=(5, 8)), rng.dirichlet(np.ones(8), size=5)
    probs = 1 / (1 + np.exp(-logits))
    binary = -(shares * np.log(probs) + (1 - shares) * np.log(1 - probs)).mean(1)  # eq. (1), W_j = 1
    log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = (binary - 0.7 * (shares * log_softmax).sum(1)).mean()
    loss = loss_function(torch.from_numpy(logits), torch.from_numpy(shares), 0.7)
    assert float(loss) == pytest.approx(expected, rel=1e-10)


def test_vote_shares_leave_out_unknown_and_no_face() -> None:
    votes = np.array([[5, 0, 0, 0, 3, 0, 0, 0, 2, 0], [1, 0, 0, 0, 0, 0, 1, 0, 3, 5]])
    shares, keep = vote_shares(votes)
    assert shares[0].tolist() == pytest.approx([5 / 8, 0, 0, 0, 3 / 8, 0, 0, 0])
    assert keep.tolist() == [True, False]


def test_rare_emotions_are_drawn_more_often() -> None:
    shares = torch.eye(8)[[3] * 90 + [1] * 10]
    assert float(sampling_weights(shares, 1.0)[:90].sum()) == pytest.approx(
        float(sampling_weights(shares, 1.0)[90:].sum())
    )
    assert len(sampling_weights(shares, 0.0).unique()) == 1


def test_augmentation_keeps_shape_and_range_and_is_the_identity_when_off() -> None:
    pictures = torch.randint(0, 256, (6, 1, 48, 48), dtype=torch.uint8)
    moved = augment_batch(pictures, AugmentConfig())
    assert moved.shape == pictures.shape
    assert float(moved.min()) >= 0 and float(moved.max()) <= 1
    off = dict.fromkeys(AugmentConfig.model_fields, 0.0) | {"scale_min": 1.0, "scale_max": 1.0}
    same = augment_batch(pictures, AugmentConfig(**off))
    plain = pictures.float() / 255
    difference = torch.minimum((same - plain).abs().amax((1, 2, 3)), (same - plain.flip(3)).abs().amax((1, 2, 3)))
    assert float(difference.max()) < 0.003  # the picture or its mirror image


def test_quick_f1_scores_only_clear_faces() -> None:
    votes = np.zeros((4, 10), np.int64)
    votes[0, 0], votes[1, 1], votes[2, 6], votes[3, 5] = 10, 8, 9, 10
    probs = np.eye(6, dtype=np.float32)[[0, 0, 3, 5]]
    data = FerPlus(
        pictures=np.zeros((4, 48, 48), np.uint8),
        votes=votes,
        index=np.arange(4),
        in_training=np.array([0, 0, 0, 1], bool),
    )
    scores = quick_f1(probs, data)  # two pictures count: surprise right, fear called surprise
    assert scores["accuracy"] == 0.5
    assert scores["surprise"] == pytest.approx(2 / 3)
    assert scores["macro_f1"] == pytest.approx(2 / 3 / len(EMOTIONS))


def test_the_encoder_is_timms_with_the_stems_tokens() -> None:
    model = EmotionModel(TINY).eval()
    pixels = torch.randn(2, 1, 48, 48)
    tokens = model.encoder.patch_embed(pixels)
    assert tokens.shape == (2, 36, 32)
    by_hand = model.encoder.fc_norm(model.encoder.blocks(tokens + model.encoder.pos_embed).mean(1))
    torch.testing.assert_close(model.encoder(pixels), by_hand)
    assert model(pixels).shape == (2, 6)
    sizes = sum(p.numel() for p in EmotionModel(ModelConfig()).parameters())
    assert 2e6 < sizes < 6e6


def test_training_learns_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    data = write_ferplus(tmp_path)
    settings = {"data": data, "model": TINY, "batch_size": 8, "compile": False, "num_threads": 1, "ema_decay": 0.9}
    whole = train_emotion(EmotionConfig(run=tmp_path / "whole", epochs=4, **settings))
    log = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < log[0]["loss"]
    assert log[-1]["happiness"] > 0.9

    interrupted = EmotionConfig(run=tmp_path / "parts", epochs=4, **settings)
    with pytest.MonkeyPatch.context() as patch:
        calls = {"n": 0}
        original = quick_f1

        def dies_in_the_third_epoch(*args: object) -> dict[str, float]:
            calls["n"] += 1
            if calls["n"] == 3:
                raise KeyboardInterrupt
            return original(*args)  # type: ignore[arg-type]

        patch.setattr("femae.training.emotion.quick_f1", dies_in_the_third_epoch)
        with pytest.raises(KeyboardInterrupt):
            train_emotion(interrupted)
    resumed = train_emotion(interrupted)
    from safetensors.torch import load_file

    first, second = load_file(whole), load_file(resumed)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
