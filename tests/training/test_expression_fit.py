"""The parameters of the column `expression`, fitted to votes."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch", reason="needs femae[train]")

from femae.cli import main
from femae.compound.expression import ExpressionRule
from femae.config.model import ExpressionParams
from femae.errors import DataError
from femae.labels import ABAW_COMPOUNDS, EMOTIONS
from femae.metrics.f1 import macro_f1
from femae.models.weights import read_info
from femae.training.tasks.expression import MIN_FACES, fit_expression, fit_expression_to_tables, gain_curve

TRUE = ExpressionParams(
    none_bias=-0.5,
    none_slope=0.4,
    none_weight=0.6,
    stronger=0.4,
    weaker=1.0,
    compound_bias=0.5,
    scale=1.5,
    num_faces=1,
)


def sample(
    count: int, *, params: ExpressionParams = TRUE, seed: int = 0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Synthetic outputs f32[N, 7] of a network, and answers drawn with the probabilities of the rule."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-2.5, 1.8, (count, 7))
    logits[:, 6] = rng.normal(0, 2, count)
    outputs = (1 / (1 + np.exp(-logits))).astype(np.float32)
    answers = ExpressionRule(ABAW_COMPOUNDS, params=params).probabilities(outputs)
    drawn = (answers.cumsum(1) > rng.random((count, 1))).argmax(1)
    return outputs, drawn.astype(np.int64)


def cross_entropy(params: ExpressionParams, outputs: npt.NDArray[np.float32], answers: npt.NDArray[np.int64]) -> float:
    probs = ExpressionRule(ABAW_COMPOUNDS, params=params).probabilities(outputs)
    return float(-np.log(probs[np.arange(len(answers)), answers]).mean())


@pytest.fixture(scope="module")
def found() -> ExpressionParams:
    """The parameters fitted to sample(20_000)."""
    params = fit_expression(*sample(20_000), compounds=ABAW_COMPOUNDS)
    assert params is not None
    return params


def test_the_numbers_that_made_the_answers_are_found_again(found: ExpressionParams) -> None:
    assert found.num_faces == 20_000
    fresh = sample(5_000, seed=1)
    assert cross_entropy(found, *fresh) < cross_entropy(TRUE, *fresh) + 0.005
    assert cross_entropy(found, *fresh) < cross_entropy(ExpressionParams(), *fresh) - 0.05
    for name in ("stronger", "weaker", "compound_bias", "scale"):
        assert getattr(found, name) == pytest.approx(getattr(TRUE, name), abs=0.25), name


def test_of_faces_given_a_probability_as_many_are_judged_so(found: ExpressionParams) -> None:
    outputs, answers = sample(20_000, seed=2)
    rule = ExpressionRule(ABAW_COMPOUNDS, params=found)
    names, given = rule.decide(outputs)
    right = np.array([rule.names.index(name) for name in names]) == answers
    for low in np.arange(0.2, 1, 0.2):
        within = (given >= low) & (given < low + 0.2)
        assert right[within].mean() == pytest.approx(given[within].mean(), abs=0.03)


def test_the_gain_is_the_best_that_calls_few_others_a_compound(found: ExpressionParams) -> None:
    outputs, answers = sample(20_000)
    curve = gain_curve(outputs, answers, compounds=ABAW_COMPOUNDS, params=found)
    gain, accuracy, f1, said, caught = curve[np.abs(curve[:, 0] - found.compound_gain).argmin()]
    assert found.compound_gain == pytest.approx(gain, abs=1e-3)
    assert said <= 0.05 and f1 == curve[curve[:, 3] <= 0.05, 2].max()
    names = ExpressionRule(ABAW_COMPOUNDS, params=found).names
    decided = np.array([names.index(n) for n in ExpressionRule(ABAW_COMPOUNDS, params=found).decide(outputs)[0]])
    assert (decided == answers).mean() == pytest.approx(accuracy, abs=1e-3)
    assert macro_f1(decided, true=answers, num_classes=14, min_present=3) == pytest.approx(f1, abs=1e-3)
    assert (decided == answers)[answers >= 7].mean() == pytest.approx(caught, abs=2e-3)
    assert (np.diff(curve[:, 3]) >= 0).all()  # a larger gain predicts more compounds


def test_unclear_faces_do_not_count_and_too_few_are_not_fitted() -> None:
    outputs, answers = sample(3_000)
    unclear = np.where(np.arange(3_000) % 2 == 0, -1, answers)
    assert fit_expression(outputs, unclear, compounds=ABAW_COMPOUNDS) == fit_expression(
        outputs[1::2], answers[1::2], compounds=ABAW_COMPOUNDS
    )
    few = np.where(np.arange(3_000) < MIN_FACES, answers, -1)
    assert fit_expression(outputs[: MIN_FACES - 1], few[: MIN_FACES - 1], compounds=ABAW_COMPOUNDS) is None
    assert fit_expression(outputs, np.where(answers > 6, -1, answers), compounds=ABAW_COMPOUNDS) is None


def test_without_an_output_of_none_its_weight_is_0() -> None:
    outputs, answers = sample(3_000)
    found = fit_expression(outputs[:, :6], answers, compounds=ABAW_COMPOUNDS)
    assert found is not None and found.none_weight == 0 and found.none_slope > 0


def table(path: Path, outputs: npt.NDArray[np.float32], answers: npt.NDArray[np.int64], *, none: bool = True) -> Path:
    """A scores table with targets that correspond to the answers."""
    targets = np.zeros((len(answers), 6), np.float32)
    for row, answer in enumerate(answers):
        if 1 <= answer <= 6:
            targets[row, answer - 1] = 1
        elif answer > 6:
            targets[row, [EMOTIONS.index(name) for name in ABAW_COMPOUNDS[answer - 7].pair]] = 0.5
    columns = {name: outputs[:, i] for i, name in enumerate(EMOTIONS)}
    columns |= {f"target_{name}": targets[:, i] for i, name in enumerate(EMOTIONS)}
    if none:
        columns["none"] = outputs[:, 6]
    pq.write_table(pa.table(columns), path)
    return path


def test_tables_of_scores_are_read_calibrated_and_joined(tmp_path: Path) -> None:
    outputs, answers = sample(3_000)
    first = table(tmp_path / "a.parquet", outputs[:1000], answers[:1000])
    second = table(tmp_path / "b.parquet", outputs[1000:], answers[1000:])
    direct = fit_expression(outputs, answers, compounds=ABAW_COMPOUNDS)
    assert fit_expression_to_tables([first, second]) == direct
    scale, offset = (1.3,) * 6, (0.1, 0.2, 0.3, 0.0, 0.0, -0.1)
    logits = np.log(outputs[:, :6] / (1 - outputs[:, :6])) * scale + offset
    calibrated = np.concatenate([1 / (1 + np.exp(-logits)), outputs[:, 6:]], axis=1).astype(np.float32)
    expected = fit_expression(calibrated, answers, compounds=ABAW_COMPOUNDS)
    found = fit_expression_to_tables([first, second], scale=scale, offset=offset)
    assert found is not None and expected is not None
    assert found.model_dump() == pytest.approx(expected.model_dump(), abs=0.02)


def test_tables_of_different_models_are_refused(tmp_path: Path) -> None:
    outputs, answers = sample(600)
    first = table(tmp_path / "a.parquet", outputs, answers)
    second = table(tmp_path / "b.parquet", outputs, answers, none=False)
    with pytest.raises(DataError, match="column none"):
        fit_expression_to_tables([first, second])


def test_folds_and_their_ensemble_carry_numbers_of_their_own(
    tmp_path: Path, tiny: dict[str, object], make_faces
) -> None:
    faces = make_faces(tmp_path / "faces", num_train=1100, num_val=0, splits=("train",), with_compounds=True)
    (tmp_path / "emotion.yaml").write_text(
        json.dumps(
            {
                "stage": "emotion",
                "data": {"folders": [str(faces)]},
                "model": tiny,
                "softmax_weight": 1.0,
                "optim": {"lr": 3e-3, "warmup_epochs": 0},
                "run": {"epochs": 3, "batch_size": 64, "ema_decay": 0, "tensorboard": False, "threads": 1},
            }
        )
    )
    (tmp_path / "kfold.yaml").write_text("stage: kfold\nemotion: emotion.yaml\nnum_folds: 5\n")
    run = tmp_path / "folds"
    assert main(["train", str(tmp_path / "kfold.yaml"), "--out", str(run), "--quiet"]) == 0
    own, joined = read_info(run / "fold-1").expression, read_info(run).expression
    assert own is not None and 200 <= own.num_faces <= 220
    assert joined is not None and joined.num_faces >= 5 * 200
    assert json.loads((run / "kfold.json").read_text())["expression"] == joined.model_dump()
    assert joined == fit_expression_to_tables(
        [run / "oof.parquet"], scale=read_info(run).scale, offset=read_info(run).offset
    )
    again = fit_expression_to_tables([run / "fold-1" / "scores.parquet"])
    assert again is not None and again.model_dump() == pytest.approx(own.model_dump(), abs=0.05)


def test_test_pictures_are_never_fitted_to(tmp_path: Path, tiny: dict[str, object], make_faces) -> None:
    faces = make_faces(tmp_path / "faces", num_train=100, num_val=300, splits=("train", "test"), with_compounds=True)
    settings = {
        "stage": "emotion",
        "data": {"folders": [str(faces)], "val_splits": ["test"]},
        "model": tiny,
        "run": {"epochs": 1, "batch_size": 50, "tensorboard": False, "threads": 1},
    }
    (tmp_path / "emotion.yaml").write_text(json.dumps(settings))
    assert main(["train", str(tmp_path / "emotion.yaml"), "--out", str(tmp_path / "run"), "--quiet"]) == 0
    assert read_info(tmp_path / "run").expression is None
    scores = tmp_path / "run" / "scores.parquet"
    assert fit_expression_to_tables([scores]) is not None  # there would have been enough of them
