"""A step does not synchronise with the device, compiles to one graph, clips fp16, and reports values not finite."""

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs femae[train]")
pytest.importorskip("lightning_fabric", reason="needs femae[train]")

from lightning_fabric import Fabric
from lightning_fabric.plugins.precision.amp import MixedPrecision
from torch.utils._python_dispatch import TorchDispatchMode

from femae.config.model import ModelConfig
from femae.config.train import AuConfig, EmotionConfig, PretrainConfig, RunConfig
from femae.errors import ConfigError, TrainingError
from femae.labels import EMOTIONS
from femae.models.face import FaceModel
from femae.models.weights import WeightsInfo, save_weights
from femae.training.loader.loader import BatchShare, LoaderSpec, batches
from femae.training.loader.rng import RandomKeys
from femae.training.loop.checkpoint import TrainState
from femae.training.loop.cost import training_flops
from femae.training.loop.run_folder import RunFolder
from femae.training.loop.step import PendingLosses, StepResult, clip
from femae.training.recipes.stage import make_task, train_stage

EVERYTHING = {"sharpen": 0.3, "hue": 0.1}
STAGES = ("pretrain", "au", "emotion")


def stage(name: str, faces: Path, tiny: dict[str, Any], tmp_path: Path, **run: Any) -> Any:
    """A stage with all features enabled."""
    model = tiny | {"drop_path": 0.2, "in_chans": 3}
    common: dict[str, Any] = {"data": {"folders": (faces,)}, "model": model, "augment": EVERYTHING}
    common["run"] = {"epochs": 1, "batch_size": 24, "precision": "32-true", "tensorboard": False, "threads": 1} | run
    if name == "pretrain":
        return PretrainConfig(**common)
    if name == "au":
        return AuConfig(**common, class_weights="pos_weight")
    torch.manual_seed(0)
    teacher, units = tmp_path / "teacher.safetensors", tmp_path / "units.safetensors"
    shape = ModelConfig(**model)
    for path, network in (
        (teacher, FaceModel(shape, outputs=EMOTIONS)),
        (units, FaceModel(shape, au_names=("AU01", "AU02"))),
    ):
        save_weights(path, network.state_dict(), info=WeightsInfo.of(network))
    return EmotionConfig(
        **common,
        init={"weights": units},
        au_head="joint",
        softmax_weight=1.0,
        mixup={"alpha": 0.5, "compound_share": 0.5, "cutmix": 0.5},
        distill={"teachers": [teacher, teacher], "members": "one"},
    )


@pytest.mark.parametrize("name", STAGES)
def test_a_loss_needs_no_number_of_the_device(name: str, faces: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    """On the meta device, reading a value fails, and so does a shape that depends on one."""
    task: Any = make_task(stage(name, faces, tiny, tmp_path))
    task.model.to("meta").train()
    data = LoaderSpec(faces=task.train_set, model=task.config.model, device=torch.device("meta"))
    feed = batches(data, _stream(len(task.train_set)), BatchShare(), steps=range(2))
    for step, batch in enumerate(feed):
        draws = RandomKeys(step, count=24, device="meta")
        loss = task.loss(task.model, batch, draws=draws, progress=0.5).loss
        loss.backward()
        assert loss.device.type == "meta"
    assert all(param.grad is not None for param in task.model.parameters() if param.requires_grad) or name != "au"


def _stream(num_rows: int) -> Any:
    from femae.training.loader.sampler import RowStream

    return RowStream(num_rows, batch_size=24, seed=0)


class _Reads(TorchDispatchMode):
    """Counts how often a value of a tensor is read."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("log_every", [1, 6])
def test_losses_are_read_every_log_every_steps(
    log_every: int, faces: Path, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from femae.training.loop import fit

    reads: list[int] = []
    real = fit.TrainStep.step

    def counted(self: Any, *arguments: Any, **named: Any) -> StepResult:
        with _Reads() as mode:
            result = real(self, *arguments, **named)
        reads.append(mode.count)
        return result

    monkeypatch.setattr(fit.TrainStep, "step", counted)
    train_stage(
        stage("emotion", faces, tiny, tmp_path, epochs=3, log_every=log_every), run=tmp_path / "run", quiet=True
    )
    assert reads == [0] * 12
    steps = RunFolder(tmp_path / "run").entries("step")
    assert [entry["step"] for entry in steps] == [
        n for n in range(1, 13) if n % log_every == 0 or n % 4 == 0
    ]  # and at the end of each epoch
    epochs = RunFolder(tmp_path / "run").entries("epoch")
    if log_every == 1:
        mean = np.mean([entry["loss"] for entry in steps[:4]])
        assert epochs[0]["loss"] == pytest.approx(mean, rel=1e-6)


def test_every_loss_is_judged_when_it_is_read(tmp_path: Path) -> None:
    def readings(**config: Any) -> PendingLosses:
        return PendingLosses(RunConfig(**config), world_size=1, where=tmp_path, epoch_of=lambda step: step / 10)

    def feed(values: list[float], norms: list[float], **config: Any) -> TrainState:
        state, reader = TrainState(step=len(values)), readings(**config)
        for loss, norm in zip(values, norms, strict=True):
            reader.add(StepResult(loss=torch.tensor(loss), norm=torch.tensor(norm)))
        reader.read(state)
        return state

    nan, inf = float("nan"), float("inf")
    state = feed([2.0] * 19 + [4.0, 5.0], [1.0] * 21)
    assert state.first_loss == pytest.approx(2.1) and state.loss_steps == 21 and state.loss_sum == 47
    for values, norms, words in (
        ([1.0, 1.0, nan, 1.0], [1.0] * 4, r"the loss is not finite at step 3 \(epoch 0.30\)"),
        ([1.0] * 3, [1.0, inf, 1.0], "the gradient is not finite at step 2"),
        ([1.0] * 20 + [30.0], [1.0] * 21, "the loss is 30, more than 20 times that of the first steps at step 21"),
    ):
        with pytest.raises(TrainingError, match=words):
            feed(values, norms)
    feed([1.0] * 3, [1.0, inf, 1.0], precision="16-mixed")  # fp16 leaves such a step out


def test_fp16_gradients_are_clipped_at_their_true_size() -> None:
    """As in 32 bits without a scale; a step with an overflowing gradient is skipped."""
    start = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    results = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=1024.0)):
        param = torch.nn.Parameter(start.clone())
        optimizer = torch.optim.AdamW([param], lr=0.1, fused=True)
        for _ in range(3):
            loss = (param**3).sum()
            (loss if scaler is None else scaler.scale(loss)).backward()
            norm = clip(optimizer, limit=0.5, scaler=scaler)
            assert float(norm) > 0.5 and float(param.grad.norm()) == pytest.approx(0.5, rel=1e-4)
            if scaler is None:
                optimizer.step()
            else:
                scaler.step(optimizer)
                scaler.update()
            optimizer.zero_grad()
        results.append(param.detach().clone())
    assert torch.allclose(*results, atol=1e-6)
    before = param.detach().clone()
    scaler.scale((param * float("inf")).sum()).backward()
    assert not torch.isfinite(clip(optimizer, limit=0.5, scaler=scaler))
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(param.detach(), before) and scaler.get_scale() == 512


def test_a_run_in_fp16_with_clipping_and_accumulation(
    faces: Path, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fabric rejects fp16 on the CPU only by its name: torch's autocast and scaler support it."""
    from femae.training.recipes import stage

    def fabric(config: RunConfig) -> Fabric:
        torch.set_num_threads(1)
        return Fabric(accelerator="cpu", plugins=MixedPrecision("16-mixed", device="cpu"))

    monkeypatch.setattr(stage, "make_fabric", fabric)
    config = EmotionConfig(
        data={"folders": (faces,)},
        model=tiny,
        optim={"lr": 3e-3, "warmup_epochs": 0.5, "clip_norm": 1.0},
        run={"epochs": 4, "batch_size": 24, "precision": "16-mixed", "tensorboard": False, "accumulate": 2},
    )
    result = train_stage(config, run=tmp_path / "run", quiet=True)
    entries = RunFolder(result.folder).entries("epoch")
    assert entries[-1]["loss"] < entries[0]["loss"]
    from femae.training.loop.checkpoint import LAST, read_state

    assert read_state(result.folder / LAST).scaler["scale"] > 0  # the scale goes on with the run


@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_networks_are_one_graph(stem: str) -> None:
    """torch.compile finds no graph breaks."""
    import torch._dynamo as dynamo

    from femae.config.model import DecoderConfig
    from femae.models.mae import MaskedAutoencoder
    from femae.training.loop.cost import example_inputs

    shape = ModelConfig(image_size=32, embed_dim=32, depth=2, num_heads=2, stem=stem, drop_path=0.2, class_token=True)
    mae = MaskedAutoencoder(shape, decoder=DecoderConfig(embed_dim=32, depth=1, num_heads=2))
    for network, masked in ((mae, True), (FaceModel(shape, outputs=EMOTIONS, au_names=("AU01",)), False)):
        dynamo.reset()
        inputs = example_inputs(shape, count=4, masked=masked, device="cpu")
        report = dynamo.explain(network.train())(*inputs)
        assert (report.graph_count, report.graph_break_count) == (1, 0), report.break_reasons


def test_arithmetic_is_counted_as_written_down() -> None:
    """A linear layer of N x M: 2NM forward, 4NM backward; the network itself is not changed."""
    layer = torch.nn.Linear(30, 20)
    first = torch.nn.Sequential(layer, torch.nn.BatchNorm1d(20), torch.nn.Linear(20, 10))
    flops = training_flops(first, (torch.zeros(4, 30),))
    assert flops == 2 * 2 * 30 * 20 + 3 * 2 * 20 * 10  # of the first layer no gradient of its input
    assert layer.weight.grad is None and not layer.weight.is_meta
    assert int(first[1].num_batches_tracked) == 0


def test_the_log_says_what_was_taken_and_what_it_costs(faces: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    import json

    train_stage(stage("pretrain", faces, tiny, tmp_path, log_every=2), run=tmp_path / "run", quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert lines[0]["kind"] == "start" and lines[0]["accelerator"] == ("cuda" if torch.cuda.is_available() else "cpu")
    assert lines[0]["processes"] == 1 and lines[0]["device"] and lines[0]["precision"] == "32-true"
    for entry in lines[1:3]:
        assert entry["kind"] == "step" and entry["pictures_per_s"] > 0 and entry["memory_mb"] > 10
        assert 0 <= entry["data_wait"] <= 1 and 0 < entry["mfu"] < 2


def test_what_an_accelerator_lacks_is_said_in_a_sentence() -> None:
    from types import SimpleNamespace

    from femae.training.loop.devices import explain_missing_ops

    for kind, error in (("mps", ConfigError), ("cpu", NotImplementedError)):
        with pytest.raises(error, match="aten::x"), explain_missing_ops(SimpleNamespace(device=torch.device(kind))):  # type: ignore[arg-type]
            raise NotImplementedError("The operator 'aten::x' is not currently implemented\nfor the MPS device.")


def test_an_accelerator_that_is_absent_is_an_error() -> None:
    from femae.training.loop.devices import make_fabric

    for name, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())):
        if not there:
            with pytest.raises(
                ConfigError, match=f"run.accelerator is {name}, but torch finds no such device here: set it to"
            ):
                make_fabric(RunConfig(accelerator=name))
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        assert make_fabric(RunConfig(precision="32-true")).device.type == "cpu"
        with pytest.raises(ConfigError, match="16-mixed needs an accelerator"):
            make_fabric(RunConfig(precision="16-mixed"))


_REUSE = """
import resource
import torch
from femae.config.train import RunConfig
from femae.training.loop.devices import make_fabric

make_fabric(RunConfig(accelerator="cpu", threads=1))
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        held = [torch.ones(2_000_000) for _ in range(12)]
        del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
def test_memory_that_a_step_frees_serves_the_next_one() -> None:
    """96 MB freed and allocated again, five times: by default some 80,000 page faults."""
    done = subprocess.run([sys.executable, "-c", _REUSE], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 1000
