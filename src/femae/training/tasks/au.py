"""Fine-tuning on action units (paper, section 3.3): masked multi-label detection with the weights of eq. (1)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from femae.config.train import AuConfig
from femae.data.store.shards import ACTION_UNITS
from femae.data.targets import WeightMode, class_weights
from femae.errors import DataError
from femae.labels import action_unit_name
from femae.metrics.f1 import binary_f1
from femae.models.face import FaceModel
from femae.models.weights import WeightsInfo, read_info, save_weights
from femae.training.loader.loader import Batch
from femae.training.loader.rng import RandomKeys
from femae.training.loader.sets import FaceSet, load_sets
from femae.training.loop.cost import example_inputs
from femae.training.loop.scores import scores_table
from femae.training.loop.task import Constants, Evaluation, StepOutput, normalise
from femae.training.tasks.augment import make_augment
from femae.training.tasks.init_weights import freeze_parameters, init_emotion_head, init_encoder
from femae.training.tasks.losses import weighted_bce

__all__ = ["AuTask", "au_columns", "evaluate_units", "loss_weights"]

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


def loss_weights(
    targets: Floats, mask: Bools, *, names: tuple[str, ...], mode: WeightMode, largest: float | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weights of eq. (1): (W_j of both terms, extra weights of the positive term or None), float[C] each.

    Raises DataError for classes without a positive example.
    """
    values = class_weights(targets, mask, names=names, mode=mode)
    if largest is not None:
        values = np.minimum(values, np.float32(largest))
    if mode == "pos_weight":
        return torch.ones(len(names)), torch.from_numpy(values)
    return torch.from_numpy(values), None


def au_columns(names: tuple[str, ...], faces: FaceSet) -> list[int]:
    """Indices in ACTION_UNITS of the named units, or without names of all units that have both values in `faces`.

    Raises DataError when there are none.
    """
    if names:
        return [ACTION_UNITS.index(action_unit_name(name)) for name in names]
    shown = np.where(faces.au_mask, faces.au_targets, 0) >= 0.5
    units = np.flatnonzero(shown.any(0) & (faces.au_mask & ~shown).any(0)).tolist()
    if not units:
        raise DataError("no training row has action units: prepare a data set that has them, or add data.pseudo_aus")
    return [int(unit) for unit in units]


def evaluate_units(probs: Floats, targets: Floats, mask: Bools, *, names: tuple[str, ...]) -> dict[str, Any]:
    """Binary F1 at 0.5 of each unit over the rows where it is known, and their mean (Aff-Wild2's metric)."""
    values = binary_f1(probs, targets=targets, mask=mask)
    f1 = {name: float(values[j]) for j, name in enumerate(names) if mask[:, j].any()}
    return {"macro_f1": float(np.mean(list(f1.values()))) if f1 else 0.0, "f1": f1}


class AuTask:
    """Trains on rows with at least one known unit.

    With `init.head keep`, the emotion outputs of the model of init.weights stay unchanged and units are added to it.
    """

    def __init__(self, config: AuConfig) -> None:
        self.config = config
        train, val = load_sets(config.data, config.model)
        self.units = au_columns(config.aus, train)
        self.names = tuple(ACTION_UNITS[unit] for unit in self.units)
        self.train_set = train.select(train.au_mask[:, self.units].any(1))
        self.val_set = val.select(val.au_mask[:, self.units].any(1))
        if not len(self.val_set):
            raise DataError("there are no rows with action units to validate on: set data.val_splits, or data.fold")
        weights, pos_weights = loss_weights(
            self.train_set.au_targets[:, self.units],
            self.train_set.au_mask[:, self.units],
            names=self.names,
            mode=config.class_weights,
            largest=config.max_weight,
        )
        self._constants = Constants(units=torch.tensor(self.units), weights=weights, pos_weights=pos_weights)
        self.kept = read_info(config.init.weights) if config.init.head == "keep" and config.init.weights else None
        outputs = self.kept.outputs if self.kept else ()
        self.model = FaceModel(config.model, outputs=outputs, au_names=self.names)
        self.start = init_encoder(self.model.encoder, config.init)
        freeze_parameters(self.model, config.init)
        if self.model.head is not None:
            init_emotion_head(self.model.head, outputs=outputs, init=config.init)
            self.model.head.requires_grad_(False)
        self._augment = make_augment(config.augment, size=config.model.image_size, compiled=config.run.compile)

    def balance_targets(self) -> Floats:
        mask = self.train_set.au_mask[:, self.units]
        return np.where(mask, self.train_set.au_targets[:, self.units], np.float32(0))

    def loss(self, forward: Callable[..., Any], batch: Batch, *, draws: RandomKeys, progress: float) -> StepOutput:
        pixels = self._augment(batch.pixels, draws)
        output = forward(normalise(pixels, self.config.model))
        constants = self._constants.on(pixels.device)
        units = constants["units"]
        targets, mask = batch.au_targets[:, units], batch.au_mask[:, units]
        weights, pos_weights = constants["weights"], constants["pos_weights"]
        return StepOutput(loss=weighted_bce(output.au_logits, targets, mask, weights=weights, pos_weights=pos_weights))

    def example(self, count: int) -> tuple[torch.Tensor, ...]:
        return example_inputs(self.config.model, count=count, masked=False, device="cpu")

    def collect(self, forward: Callable[..., Any], batch: Batch, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        output = forward(normalise(batch.pixels.float() / 255, self.config.model))
        return {"au_probs": torch.sigmoid(output.au_logits.float())}

    def evaluate(self, collected: Mapping[str, npt.NDArray[Any]]) -> Evaluation:
        probs = collected["au_probs"]
        faces = self.val_set
        log = evaluate_units(probs, faces.au_targets[:, self.units], faces.au_mask[:, self.units], names=self.names)
        table = scores_table(faces, au_probs=probs, au_names=self.names)
        return Evaluation(score=log["macro_f1"], log=log, tables={"scores.parquet": table})

    def save(self, path: Path, tensors: dict[str, torch.Tensor]) -> None:
        info = WeightsInfo.of(self.model, name="femae-au")
        if self.kept is not None:
            info = self.kept.model_copy(update={"members": info.members, "au_names": self.names, "au_offset": ()})
        save_weights(path, tensors, info=info)
