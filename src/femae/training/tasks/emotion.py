"""The six basic emotions as a multi-label task (paper, section 3.4, eq. (1)), with mixup and distillation."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from femae.compound.rules import combine
from femae.config.model import ExpressionParams
from femae.config.train import EmotionConfig
from femae.errors import ConfigError, DataError
from femae.files import replacing
from femae.labels import ABAW_COMPOUNDS, EMOTIONS, NO_EXPRESSION, emotion_indices
from femae.metrics.f1 import f1_per_class, macro_f1
from femae.metrics.hard_labels import top_emotion, top_expression, top_pair
from femae.models.face import FaceModel
from femae.models.weights import WeightsInfo, read_info, save_weights
from femae.training.loader.loader import Batch
from femae.training.loader.rng import DrawPurpose, RandomKeys
from femae.training.loader.sets import load_sets
from femae.training.loop.cost import example_inputs
from femae.training.loop.scores import scores_table
from femae.training.loop.task import Constants, Evaluation, StepOutput, normalise
from femae.training.tasks.au import au_columns, evaluate_units, loss_weights
from femae.training.tasks.augment import make_augment
from femae.training.tasks.expression import fit_expression
from femae.training.tasks.init_weights import freeze_parameters, init_au_head, init_emotion_head, init_encoder
from femae.training.tasks.losses import cross_entropy_six, weighted_bce
from femae.training.tasks.mixup import draw_mix
from femae.training.tasks.teachers import (
    distill_loss,
    load_teacher,
    predict_views,
    read_soft_targets,
    soft_target_loss,
    soft_targets,
)

__all__ = ["EmotionTask", "evaluate_emotions"]

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


def evaluate_emotions(probs: Floats, targets: Floats, mask: Bools) -> dict[str, Any]:
    """F1 of the largest of six probabilities against the top emotion, and macro-F1 of compounds against the top pair.

    Rows without a clear top do not count (metrics/hard_labels.py), nor do compounds with fewer than three rows.
    """
    top = top_emotion(targets, mask=mask)
    pred, true = probs[top >= 0].argmax(1), top[top >= 0]
    f1 = f1_per_class(pred, true=true, num_classes=len(EMOTIONS))
    pairs = [(EMOTIONS.index(c.pair[0]), EMOTIONS.index(c.pair[1])) for c in ABAW_COMPOUNDS]
    pair = top_pair(targets, pairs=pairs, mask=mask)
    scores = combine(probs[pair >= 0], compounds=ABAW_COMPOUNDS)
    compound = macro_f1(scores.argmax(1), true=pair[pair >= 0], num_classes=len(pairs), min_present=3)
    return {
        "macro_f1": float(f1.mean()),
        "accuracy": float((pred == true).mean()) if len(true) else 0.0,
        "num_scored": len(true),
        "f1": {name: float(value) for name, value in zip(EMOTIONS, f1, strict=True)},
        "compound_macro_f1": None if np.isnan(compound) else compound,
        "num_compound": int((pair >= 0).sum()),
    }


class EmotionTask:
    """Trains on rows with a known emotion; with a joint AU head also on those with known action units."""

    def __init__(self, config: EmotionConfig) -> None:
        self.config = config
        train, val = load_sets(config.data, config.model)
        self.names: tuple[str, ...] = ()
        if config.au_head != "none":
            if config.init.weights is None:
                raise ConfigError(f"au_head {config.au_head} needs init.weights, a run of the stage au")
            self.names = read_info(config.init.weights).au_names
        self.units = au_columns(self.names, train) if self.names else []
        known = train.mask.any(1)
        if self.units and config.au_weight > 0:
            known |= train.au_mask[:, self.units].any(1)
        self.train_set, self.val_set = train.select(known), val.select(val.mask.any(1))
        if not len(self.val_set):
            raise DataError(
                "there are no rows with emotions to validate on: set data.val_splits, data.val_sources or data.fold"
            )
        weights, pos_weights = loss_weights(
            self.train_set.targets,
            self.train_set.mask,
            names=EMOTIONS,
            mode=config.class_weights,
            largest=config.max_weight,
        )
        ones = torch.ones(len(self.units))
        units = torch.tensor(self.units, dtype=torch.int64)
        self._constants = Constants(weights=weights, pos_weights=pos_weights, units=units, au_weights=ones)
        outputs = (*EMOTIONS, NO_EXPRESSION) if config.softmax_weight > 0 else EMOTIONS
        self.model = FaceModel(config.model, outputs=outputs, au_names=self.names)
        self.start = init_encoder(self.model.encoder, config.init)
        if config.init.head == "keep":
            assert self.model.head is not None
            init_emotion_head(self.model.head, outputs=self.model.outputs, init=config.init)
        freeze_parameters(self.model, config.init)
        if self.model.au_head is not None:
            init_au_head(self.model.au_head, au_names=self.names, init=config.init)
            self.model.au_head.requires_grad_(config.au_head == "joint")
        # rule of the column `expression`; never fitted to test pictures
        self.expression: ExpressionParams | None = None
        self._fits_expression = "test" not in self.val_set.strings("split")
        self.teacher = load_teacher(config.distill, config.model, config.run)
        self._augment = make_augment(config.augment, size=config.model.image_size, compiled=config.run.compile)

    def prepare(self, *, device: torch.device, folder: Path, writes: bool) -> None:
        """Compute the teachers' soft targets over views of the training pictures, or read those of a resumed run.

        Raises ConfigError when the teachers' outputs or the file taught.npy do not fit.
        """
        distill = self.config.distill
        if self.teacher is None or not distill.views:
            return
        path, width = folder / "taught.npy", len(self.model.outputs)
        logits = read_soft_targets(path, count=len(self.train_set), width=width)
        if logits is None:
            logits = predict_views(
                self.teacher,
                self.train_set,
                model=self.config.model,
                views=distill.views,
                seed=self.config.run.seed,
                device=device,
            )
            logits = logits[:, :width]
            if logits.shape[1] < width:
                raise ConfigError("distill.teachers have no output for 'none of them': set softmax_weight to 0")
            if writes:
                with replacing(path) as partial, partial.open("wb") as file:
                    np.save(file, logits)
        self.train_set = replace(self.train_set, soft_targets=soft_targets(logits))

    def balance_targets(self) -> Floats:
        return np.where(self.train_set.mask, self.train_set.targets, np.float32(0))

    def loss(self, forward: Callable[..., Any], batch: Batch, *, draws: RandomKeys, progress: float) -> StepOutput:
        config, constants = self.config, self._constants.on(batch.pixels.device)
        pixels, units = self._augment(batch.pixels, draws), constants["units"]
        targets, mask = batch.targets, batch.mask
        au_targets, au_mask = batch.au_targets[:, units], batch.au_mask[:, units]
        mix = draw_mix(targets, mask, config.mixup, draws=draws, progress=progress)
        if mix is not None:
            pixels, targets, mask = mix.pixels(pixels), mix.targets(targets), mix.mask(mask)
            au_targets, au_mask = mix.targets(au_targets), mix.mask(au_mask)
        output = forward(normalise(pixels, config.model))
        parts = {"loss_emotion": self._emotion_loss(output.logits, targets, mask)}
        total = parts["loss_emotion"]
        if self.units and config.au_weight > 0:
            parts["loss_au"] = weighted_bce(output.au_logits, au_targets, au_mask, weights=constants["au_weights"])
            total = total + config.au_weight * parts["loss_au"]
        if batch.soft_targets is not None:
            taught = batch.soft_targets if mix is None else mix.targets(batch.soft_targets)
            parts["loss_distill"] = soft_target_loss(output.logits, taught, softmax_weight=config.softmax_weight)
            total = total + config.distill.weight * parts["loss_distill"]
        elif self.teacher is not None:
            drawn = draws.one(DrawPurpose.MEMBER) if config.distill.members == "one" else None
            parts["loss_distill"] = distill_loss(output, self.teacher(pixels, draw=drawn), config.distill)
            total = total + config.distill.weight * parts["loss_distill"]
        return StepOutput(loss=total, log=parts if len(parts) > 1 else {})

    def _emotion_loss(self, logits: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        constants = self._constants.on(logits.device)
        weights, pos_weights = constants["weights"], constants["pos_weights"]
        loss = weighted_bce(logits[:, : len(EMOTIONS)], targets, mask, weights=weights, pos_weights=pos_weights)
        if self.config.softmax_weight > 0:
            loss = loss + self.config.softmax_weight * cross_entropy_six(logits, targets, mask)
        return loss

    def example(self, count: int) -> tuple[torch.Tensor, ...]:
        return example_inputs(self.config.model, count=count, masked=False, device="cpu")

    def collect(self, forward: Callable[..., Any], batch: Batch, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        output = forward(normalise(batch.pixels.float() / 255, self.config.model))
        logits = output.logits[:, : len(EMOTIONS)].float()
        terms = torch.nn.functional.binary_cross_entropy_with_logits(logits, batch.targets, reduction="none")
        known = batch.mask.float()
        losses = (terms * known).sum(1) / known.sum(1).clamp(min=1)
        return {
            "probs": torch.sigmoid(logits),
            "none_probs": torch.sigmoid(output.logits[:, len(EMOTIONS) :].float()),
            "au_probs": torch.sigmoid(output.au_logits.float()),
            "loss": losses,
        }

    def evaluate(self, collected: Mapping[str, npt.NDArray[Any]]) -> Evaluation:
        faces, probs = self.val_set, collected["probs"]
        log = {"loss": float(collected["loss"].mean())} | evaluate_emotions(probs, faces.targets, faces.mask)
        if self.units:
            au_targets, au_mask = faces.au_targets[:, self.units], faces.au_mask[:, self.units]
            log["au"] = evaluate_units(collected["au_probs"], au_targets, au_mask, names=self.names)
        if self._fits_expression:
            outputs = np.concatenate([probs, collected["none_probs"]], axis=1)
            answers = top_expression(faces.targets, pairs=emotion_indices(ABAW_COMPOUNDS), mask=faces.mask)
            self.expression = fit_expression(outputs, answers, compounds=ABAW_COMPOUNDS)
        table = scores_table(
            faces,
            probs=probs,
            none_probs=collected["none_probs"],
            au_probs=collected["au_probs"],
            au_names=self.names,
        )
        return Evaluation(score=float(log["macro_f1"]), log=log, tables={"scores.parquet": table})

    def save(self, path: Path, tensors: dict[str, torch.Tensor]) -> None:
        info = WeightsInfo.of(self.model, name="femae").model_copy(update={"expression": self.expression})
        save_weights(path, tensors, info=info)
