"""The host's time per training step besides network and decoding, measured without an accelerator.

    python benchmarks/host.py --out benchmarks/results/host.md

The loop is that of `femae train` itself (order of the rows, gathering by threads, seeds of the random numbers,
optimizer, log, states); the device's work is omitted by a stage whose network has a single parameter and ignores the
pictures: they are gathered, but not processed. So the result is the rate at which the host could feed an infinitely
fast device. Pictures are in memory, more than fit into the processor's caches.
"""

import argparse
import os
import platform
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from femae import __version__
from femae.config.train import PretrainConfig
from femae.training.loader.sets import FaceSet, RowMask
from femae.training.loop.devices import make_fabric
from femae.training.loop.fit import fit
from femae.training.loop.run_folder import RunFolder
from femae.training.loop.task import Evaluation, StepOutput

BATCH = 256
SIZES = {"48 gray": (48, 1, 65_536, 60_000), "96 gray": (96, 1, 32_768, None), "224 RGB": (224, 3, 4_096, 6_000)}


def faces(size: int, channels: int, count: int) -> FaceSet:
    """`count` pictures in memory, written once so that no page faults occur during the measurement."""
    rng = np.random.default_rng(0)
    pictures = np.empty((count, channels, size, size), np.uint8)
    pictures[:] = rng.integers(0, 256, (1, channels, size, size), np.uint8)
    return FaceSet(
        readers=(),
        rows=RowMask.of(np.ones(count, np.bool_)),
        targets=np.zeros((count, 6), np.float32),
        mask=np.ones((count, 6), bool),
        au_targets=np.zeros((count, 46), np.float32),
        au_mask=np.zeros((count, 46), bool),
        fold=np.full(count, -1, np.int8),
        pictures=pictures,
    )


class ConstantNetwork(torch.nn.Module):
    """A network with one parameter that ignores the pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.number = torch.nn.Parameter(torch.ones(()))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.number * len(pixels)


class NullTask:
    """A stage without work for the device."""

    def __init__(self, config: PretrainConfig, train: FaceSet) -> None:
        self.config, self.train_set, self.val_set = config, train, train.select(np.arange(1))
        self.model = ConstantNetwork()

    def shown(self) -> np.ndarray:
        return np.zeros((len(self.train_set), 0), np.float32)

    def example(self, count: int) -> tuple[torch.Tensor, ...]:
        return (torch.zeros(count, 1),)

    def loss(self, forward: Callable[..., Any], batch: Any, **_: Any) -> StepOutput:
        return StepOutput(loss=self.model.number * 1.0)

    def collect(self, forward: Callable[..., Any], batch: Any, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"rows": rows}

    def evaluate(self, collected: Any) -> Evaluation:
        return Evaluation(score=0.0, log={"loss": 0.0})

    def save(self, path: Path, tensors: dict[str, torch.Tensor]) -> None:
        return None


def measure(name: str, seconds: float) -> dict[str, float]:
    size, channels, count, _ = SIZES[name]
    train = faces(size, channels, count)
    steps = max(60, int(seconds * (40_000 if size == 48 else 10_000 if size == 96 else 4_000) / BATCH))
    config = PretrainConfig(
        model={"image_size": size, "in_chans": channels, "stem": "patch"},
        optim={"warmup_epochs": 0},
        run={
            "epochs": max(1, round(steps * BATCH / count)),
            "batch_size": BATCH,
            "precision": "32-true",
            "tensorboard": False,
            "patience": None,
            "accelerator": "cpu",
        },
    )
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        fit(NullTask(config, train), fabric=make_fabric(config.run), folder=run, quiet=True)  # type: ignore[arg-type]
        lines = run.entries("step")[1:]
    rates = sorted(line["pictures_per_s"] for line in lines)
    waits = sorted(line["data_wait"] for line in lines)
    return {"rate": rates[len(rates) // 2], "best": rates[-1], "wait": waits[len(waits) // 2], "lines": len(rates)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the table here; default: only print it")
    parser.add_argument("--seconds", type=float, default=6.0, help="about so long per size")
    arguments = parser.parse_args()
    lines = [
        "| pictures | pictures/s | best | ms per step of 256 | waiting for the gather | asked for |",
        "|---" * 6 + "|",
    ]
    for name, (_, _, _, wanted) in SIZES.items():
        found = SimpleNamespace(**measure(name, arguments.seconds))
        asked = "-" if wanted is None else f"{wanted:,}"
        step = 1000 * BATCH / found.rate
        lines.append(f"| {name} | {found.rate:,.0f} | {found.best:,.0f} | {step:.1f} | {found.wait:.0%} | {asked} |")
        print(lines[-1], flush=True)
    about = [
        "# What the host spends per step",
        "",
        f"femae {__version__}, torch {torch.__version__}, Python {platform.python_version()}, {date.today()}, "
        f"{os.cpu_count()} cores; median over lines of the log (20 steps each), and the best of them: other work ran "
        "beside on these cores.",
        "",
        " ".join(__doc__.split("\n\n")[2].split()),
        "",
    ]
    if arguments.out:
        arguments.out.write_text("\n".join(about + lines) + "\n")


if __name__ == "__main__":
    main()
