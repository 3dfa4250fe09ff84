"""K-fold training and the ensemble of the folds (paper, section 4.4, Table 1)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from safetensors.torch import load_file

from femae.config.model import ExpressionParams
from femae.config.recipe import KfoldConfig, merge
from femae.config.train import EmotionConfig
from femae.errors import DataError
from femae.labels import EMOTIONS
from femae.metrics.calibration import best_thresholds, fit_platt
from femae.metrics.tables import table1
from femae.models.face import Ensemble, FaceModel
from femae.models.weights import WEIGHTS_NAME, WeightsInfo, load_model, save_weights
from femae.training.loop.devices import first_process
from femae.training.loop.run_folder import RunFolder, write_text
from femae.training.loop.scores import read_scores, write_table
from femae.training.recipes.stage import train_stage
from femae.training.tasks.expression import fit_expression_to_tables

__all__ = ["Calibration", "fit_calibration", "train_folds", "write_ensemble"]


class Calibration:
    """Platt scaling sigmoid(scale * logit + offset) per emotion, and the thresholds with the best F1.

    Fitted to probs f32[N, 6], targets f32[N, 6] and mask bool[N, 6].
    """

    def __init__(self, probs: npt.NDArray[np.float32], targets: npt.NDArray[np.float32], mask: Any) -> None:
        logits = np.log(np.clip(probs, 1e-6, 1 - 1e-6) / (1 - np.clip(probs, 1e-6, 1 - 1e-6))).astype(np.float64)
        self.scale, self.offset = fit_platt(logits, targets, mask=mask)
        calibrated = 1 / (1 + np.exp(-(self.scale * logits + self.offset)))
        self.thresholds = best_thresholds(calibrated, targets, mask=mask)

    def as_dict(self) -> dict[str, dict[str, float]]:
        return {
            name: dict(zip(EMOTIONS, np.round(getattr(self, name), 6).tolist(), strict=True))
            for name in ("scale", "offset", "thresholds")
        }


def fit_calibration(oof: Path) -> Calibration:
    """Calibration from a table of out-of-fold scores."""
    return Calibration(*read_scores(oof))


def train_folds(config: KfoldConfig, *, run: Path, quiet: bool = False) -> Path:
    """Train one model per fold, collect out-of-fold scores, write the ensemble; returns the path of its weights.

    Finished folds are not trained again. The run's folder is then a model itself: model.safetensors holds the ensemble,
    with the calibration fitted to the out-of-fold scores in its metadata.
    """
    RunFolder(run, writes=first_process())
    folds: list[dict[str, Any]] = []
    tables: list[Any] = []
    for fold in range(config.num_folds):
        settings = merge(config.emotion.model_dump(), {"data": {"fold": fold}})
        result = train_stage(EmotionConfig(**settings), run=run / f"fold-{fold}", quiet=quiet)
        scores = {"f1": result.log["f1"], "macro_f1": result.log["macro_f1"]}
        folds.append({"fold": fold, "run": f"fold-{fold}", "best_epoch": result.best_epoch} | scores)
        table = pq.read_table(result.folder / "scores.parquet")
        index = table.column_names.index("fold")
        tables.append(table.set_column(index, "fold", pa.array([fold] * table.num_rows, pa.int8())))
    weights = run / WEIGHTS_NAME
    if not first_process():
        return weights
    write_table(run / "oof.parquet", pa.concat_tables(tables))
    calibration = fit_calibration(run / "oof.parquet") if config.calibrate else None
    scale, offset = ((), ()) if calibration is None else (tuple(calibration.scale), tuple(calibration.offset))
    expression = fit_expression_to_tables([run / "oof.parquet"], scale=scale, offset=offset)
    summary: dict[str, Any] = {"folds": folds, "expression": expression and expression.model_dump()}
    if calibration is not None:
        summary["calibration"] = calibration.as_dict()
    text = table1({f"fold-{fold['fold'] + 1}": np.array(list(fold["f1"].values())) for fold in folds})
    write_text(run / "kfold.json", json.dumps(summary, indent=2) + "\n")
    write_text(run / "table1.md", text)
    Console(stderr=True, quiet=quiet).print(text, highlight=False)
    members = [run / f"fold-{fold}" for fold in range(config.num_folds)]
    return write_ensemble(members, out=weights, calibration=calibration, expression=expression)


def write_ensemble(
    members: list[Path],
    *,
    out: Path,
    calibration: Calibration | None = None,
    expression: ExpressionParams | None = None,
) -> Path:
    """Write the models of several runs into one weights file; returns its path.

    Raises ConfigError when the models differ in inputs or outputs, DataError when one is an ensemble already.
    """
    models = []
    for member in members:
        model, _ = load_model(member)
        if not isinstance(model, FaceModel):
            raise DataError(f"{member} is already an ensemble: name its members")
        models.append(model)
    ensemble = Ensemble(models)
    tensors: dict[str, Any] = {}
    for number, member in enumerate(members):
        loaded = load_file(member / WEIGHTS_NAME if member.is_dir() else member)
        tensors |= {f"members.{number}.{name}": value for name, value in loaded.items()}
    info = WeightsInfo.of(ensemble, name="femae-ensemble").model_copy(update={"expression": expression})
    if calibration is not None:
        fitted = {name: tuple(getattr(calibration, name).tolist()) for name in ("scale", "offset", "thresholds")}
        info = info.model_copy(update=fitted)
    save_weights(out, tensors, info=info)
    return out
