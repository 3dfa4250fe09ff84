"""A refactoring must not change the losses of one seed, which are stored here (DESIGN, house rule 9)."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs femae[train]")
pytest.importorskip("lightning_fabric", reason="needs femae[train]")

from femae.config.train import AuConfig, EmotionConfig, PretrainConfig
from femae.training.loop.run_folder import RunFolder
from femae.training.recipes.stage import train_stage

RUN = {"epochs": 1, "batch_size": 24, "precision": "32-true", "tensorboard": False, "threads": 1, "log_every": 1}
GOLDEN = {
    "pretrain": [1.223496, 1.254468, 1.199448, 1.108481],
    "au": [0.692447, 0.701452, 0.684347, 0.672096],
    "emotion": [2.878588, 2.866509, 2.868124, 2.815406],
}


@pytest.mark.parametrize("stage", list(GOLDEN))
def test_the_losses_of_one_seed(stage: str, faces: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    """Another release of torch may draw other numbers; then these are computed again with unchanged code."""
    settings: dict[str, Any] = {"data": {"folders": (faces,)}, "model": tiny | {"drop_path": 0.1}, "run": RUN}
    if stage == "pretrain":
        config: Any = PretrainConfig(**settings)
    elif stage == "au":
        config = AuConfig(**settings)
    else:
        config = EmotionConfig(**settings, softmax_weight=1.0, mixup={"alpha": 1.0, "compound_share": 0.5})
    train_stage(config, run=tmp_path / "run", quiet=True)
    losses = [entry["loss"] for entry in RunFolder(tmp_path / "run").entries("step")]
    assert losses == pytest.approx(GOLDEN[stage], rel=2e-4)
