"""Frozen teachers: all of them as one, or one a step by lot."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs femae[train]")

from femae.config.model import ModelConfig
from femae.config.train import DistillConfig, RunConfig
from femae.labels import EMOTIONS
from femae.models.face import FaceModel
from femae.models.weights import WeightsInfo, save_weights
from femae.training.losses import distill_kl
from femae.training.teachers import load_teacher

TINY = ModelConfig(image_size=16, patch_size=8, embed_dim=16, depth=1, num_heads=1, stem="patch")
RUN = RunConfig(precision="32-true")


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, ...]:
    paths = []
    for seed in range(3):
        torch.manual_seed(seed)
        model = FaceModel(TINY, outputs=EMOTIONS)
        torch.nn.init.normal_(model.head.weight, std=1.0)
        paths.append(tmp_path / f"{seed}.safetensors")
        save_weights(paths[-1], model.state_dict(), info=WeightsInfo.of(model))
    return tuple(paths)


def test_the_gradient_of_all_is_the_mean_of_those_of_each(runs: tuple[Path, ...]) -> None:
    teacher = load_teacher(DistillConfig(teachers=runs), TINY, RUN)
    assert teacher is not None
    pixels = torch.rand(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    student = torch.zeros(5, 6, requires_grad=True)

    def gradient(draw: float | None) -> torch.Tensor:
        loss = distill_kl(student, teacher(pixels, draw=draw).logits, temperature=1.0)
        return torch.autograd.grad(loss, student)[0]

    each = [gradient(draw) for draw in (0.1, 0.5, 0.9)]
    assert not torch.allclose(each[0], each[1], atol=1e-4)
    assert torch.allclose(torch.stack(each).mean(0), gradient(None), atol=1e-5)


def test_in_sixteen_bits_a_teacher_says_nearly_the_same(runs: tuple[Path, ...]) -> None:
    pixels = torch.rand(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    answers = []
    for precision in ("32-true", "bf16-mixed"):
        teacher = load_teacher(DistillConfig(teachers=runs[:1]), TINY, RunConfig(precision=precision))
        assert teacher is not None
        answers.append(torch.sigmoid(teacher(pixels).logits.float()))
    assert torch.allclose(*answers, atol=0.03)
    assert not torch.equal(*answers)
