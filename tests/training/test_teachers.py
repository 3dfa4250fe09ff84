"""Frozen teachers: all of them as an ensemble, or one per step at random."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs femae[train]")

from femae.config.model import ModelConfig
from femae.config.train import DistillConfig, RunConfig
from femae.errors import ConfigError
from femae.labels import EMOTIONS
from femae.models.face import FaceModel
from femae.models.weights import WeightsInfo, save_weights
from femae.training.tasks.losses import distill_kl
from femae.training.tasks.teachers import load_teacher

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


def test_a_teacher_of_another_size_and_colour_sees_the_same_pictures_resized(tmp_path: Path) -> None:
    """A flat picture stays flat: the output is that for a flat picture of the teacher's size."""
    large = TINY.model_copy(update={"image_size": 32})
    torch.manual_seed(0)
    model = FaceModel(large, outputs=EMOTIONS).eval()
    torch.nn.init.normal_(model.head.weight, std=1.0)
    save_weights(tmp_path / "large.safetensors", model.state_dict(), info=WeightsInfo.of(model))
    config = DistillConfig(teachers=(tmp_path / "large.safetensors",))
    for channels, size in ((1, 16), (1, 64), (3, 16)):
        student = TINY.model_copy(update={"image_size": size, "in_chans": channels})
        teacher = load_teacher(config, student, RUN)
        assert teacher is not None
        levels = torch.tensor([0.2, 0.5, 0.9])[:, None, None, None]
        found = teacher(levels.expand(3, channels, size, size)).logits
        expected = model((levels.expand(3, 1, 32, 32) - 0.5) / 0.25).logits
        assert torch.allclose(found, expected, atol=5e-3)  # the weights of gray add up to .9999
    colour = TINY.model_copy(update={"in_chans": 3})
    model = FaceModel(colour, outputs=EMOTIONS)
    save_weights(tmp_path / "colour.safetensors", model.state_dict(), info=WeightsInfo.of(model))
    with pytest.raises(ConfigError, match="cannot be shown colours"):
        load_teacher(DistillConfig(teachers=(tmp_path / "colour.safetensors",)), TINY, RUN)
