"""Speed, FLOP/s and memory of training: femae's loop against the same step in plain PyTorch and a plain loader.

    python benchmarks/train.py --data SHARDS --out benchmarks/results/train.md

Every measurement runs in a separate process. `ours` is `femae train` itself (labels, augmentation, EMA, clipping, log)
with pictures in memory or, `stream`, decoded by two reading threads; `limit` is the same network and optimizer in a
bare loop over one batch in memory, without augmentation; `plain` is timm's VisionTransformer with a torch DataLoader of
two workers that decodes and augments picture by picture with torchvision (for pretraining, since timm has no masked
autoencoder: its encoder on all patches). Pictures are those of the shards, resized for the network. FLOPs are counted
by torch's FlopCounterMode over forward and backward pass of the limit's step, and compared with one large matrix
product in the same precision, measured in the same run. Memory is the peak resident size of `ours`.
"""

import argparse
import io
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from femae import __version__
from femae.config.model import DecoderConfig, ModelConfig
from femae.config.train import EmotionConfig, PretrainConfig

SIZES: dict[str, dict[str, Any]] = {
    "open, 48 px, 36 tokens": {"model": {}, "decoder": {}, "batch": 128, "steps": 16},
    "ViT-Ti/8, 64 px": {
        "model": {"image_size": 64, "depth": 12, "mlp_ratio": 4.0, "stem": "patch"},
        "decoder": {},
        "batch": 64,
        "steps": 12,
    },
    "ViT-S/16, 224 px": {
        "model": {
            "image_size": 224,
            "patch_size": 16,
            "in_chans": 3,
            "embed_dim": 384,
            "depth": 12,
            "num_heads": 6,
            "mlp_ratio": 4.0,
            "stem": "patch",
            "class_token": True,
        },
        "decoder": {"embed_dim": 256, "depth": 4, "num_heads": 8},
        "batch": 16,
        "steps": 6,
    },
    "ViT-B/16, 224 px": {
        "model": {
            "image_size": 224,
            "patch_size": 16,
            "in_chans": 3,
            "embed_dim": 768,
            "depth": 12,
            "num_heads": 12,
            "mlp_ratio": 4.0,
            "stem": "patch",
            "class_token": True,
        },
        "decoder": {"embed_dim": 512, "depth": 8, "num_heads": 16},
        "batch": 8,
        "steps": 4,
    },
}


def stage(size: str, kind: str, data: Path, *, stream: bool = False) -> PretrainConfig | EmotionConfig:
    setting = SIZES[size]
    common: dict[str, Any] = {
        "data": {
            "folders": (data,),
            "train_splits": ("train",),
            "val_splits": ("val",),
            "limit": setting["batch"] * setting["steps"],
            "loader": "stream" if stream else "memory",
        },
        "model": setting["model"],
        "run": {"epochs": 1, "batch_size": setting["batch"], "log_every": 1, "tensorboard": False},
    }
    if kind == "pretrain":
        return PretrainConfig(**common, decoder=setting["decoder"])
    common["data"]["sources"] = ("ferplus",)
    common["data"]["val_splits"] = ("test",)
    return EmotionConfig(**common, class_weights="none")


def ours(size: str, kind: str, data: Path, *, stream: bool) -> dict[str, float]:
    from femae.training.loop.run_folder import RunFolder
    from femae.training.recipes.stage import train_stage

    config = stage(size, kind, data, stream=stream)
    with tempfile.TemporaryDirectory() as run:
        train_stage(config, run=Path(run), quiet=True)
        steps = RunFolder(Path(run)).entries("step")
    return {"rate": median([entry["pictures_per_s"] for entry in steps[2:]])}


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def network(size: str, kind: str) -> tuple[torch.nn.Module, ModelConfig]:
    from femae.models.face import FaceModel
    from femae.models.mae import MaskedAutoencoder

    model = ModelConfig(**SIZES[size]["model"])
    if kind == "pretrain":
        return MaskedAutoencoder(model, decoder=DecoderConfig(**SIZES[size]["decoder"])), model
    return FaceModel(model, outputs=("a", "b", "c", "d", "e", "f")), model


def step_loss(net: torch.nn.Module, kind: str, pixels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        if kind == "pretrain":
            return net(pixels, targets).loss
        logits = net(pixels).logits
    return torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), targets)


def limit(size: str, kind: str, _data: Path) -> dict[str, float]:
    from timm.layers.config import set_fused_attn
    from torch.utils.flop_counter import FlopCounterMode

    set_fused_attn(False)
    net, model = network(size, kind)
    net.to(memory_format=torch.channels_last).train()
    batch = SIZES[size]["batch"]
    pixels = torch.randn(batch, model.in_chans, model.image_size, model.image_size)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    targets = torch.rand(batch, model.num_patches if kind == "pretrain" else 6)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
    times = []
    for _ in range(SIZES[size]["steps"]):
        started = time.perf_counter()
        step_loss(net, kind, pixels, targets).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - started)
    with FlopCounterMode(display=False) as counter:
        step_loss(net, kind, pixels, targets).backward()
    rate = batch / median(times[2:])
    return {"rate": rate, "flops": counter.get_total_flops() * rate / batch, "matmul": matrix_product()}


def matrix_product() -> float:
    """FLOP/s of a large product in bfloat16."""
    a, b = (torch.randn(4096, 4096, dtype=torch.bfloat16) for _ in range(2))
    best = 0.0
    for _ in range(4):
        started = time.perf_counter()
        a @ b
        best = max(best, 2 * 4096**3 / (time.perf_counter() - started))
    return best


class Faces(torch.utils.data.Dataset[torch.Tensor]):
    """A plain data set of encoded pictures that are decoded and augmented one by one."""

    def __init__(self, data: Path, model: ModelConfig, count: int) -> None:
        import numpy as np
        from torchvision.transforms import v2

        from femae.data.store.manifest import read_manifest
        from femae.data.store.shard_reader import ShardReader

        manifest = read_manifest(data)
        self.bytes = [b for _, b in ShardReader(manifest).picture_bytes(np.arange(count))]
        self.mode = "L" if model.in_chans == 1 else "RGB"
        self.change = v2.Compose(
            [
                v2.RandomResizedCrop(model.image_size, scale=(0.6, 1.0), antialias=True),
                v2.RandomHorizontalFlip(),
                v2.RandomRotation(10),
                v2.ColorJitter(0.2, 0.2),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([0.5] * model.in_chans, [0.25] * model.in_chans),
            ]
        )

    def __len__(self) -> int:
        return len(self.bytes)

    def __getitem__(self, number: int) -> torch.Tensor:
        from torchvision.transforms.v2.functional import pil_to_tensor

        return self.change(pil_to_tensor(Image.open(io.BytesIO(self.bytes[number])).convert(self.mode)))


def plain(size: str, _kind: str, data: Path) -> dict[str, float]:
    from timm.models.vision_transformer import VisionTransformer

    model = ModelConfig(**SIZES[size]["model"])
    net = VisionTransformer(
        img_size=model.image_size,
        patch_size=model.patch_size,
        in_chans=model.in_chans,
        embed_dim=model.embed_dim,
        depth=model.depth,
        num_heads=model.num_heads,
        mlp_ratio=model.mlp_ratio,
        num_classes=6,
    )
    batch, steps = SIZES[size]["batch"], SIZES[size]["steps"]
    faces = Faces(data, model, batch * steps)
    loader = torch.utils.data.DataLoader(faces, batch_size=batch, shuffle=True, num_workers=2)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
    times, started = [], time.perf_counter()
    for pixels in islice(loader, steps):
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(pixels)
        torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), torch.rand(len(pixels), 6)).backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - started)
        started = time.perf_counter()
    return {"rate": batch / median(times[2:])}


MEASURES = {
    "ours": lambda size, kind, data: ours(size, kind, data, stream=False),
    "ours, stream": lambda size, kind, data: ours(size, kind, data, stream=True),
    "limit": limit,
    "plain": plain,
}


def measure(size: str, kind: str, what: str, data: Path) -> dict[str, float]:
    """One measurement, in a separate process."""
    command = [sys.executable, __file__, "--data", str(data), "--one", json.dumps([size, kind, what])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="shards of `femae data open`")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/train.md"))
    parser.add_argument("--repeat", type=int, default=3, help="runs of each measure, in turn; the median counts")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        size, kind, what = json.loads(arguments.one)
        found = MEASURES[what](size, kind, arguments.data)
        found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(found))
        return
    head = "| size | stage | ours | ours, stream | limit | ours / limit | stream / limit | plain | ours / plain | "
    lines = [head + "GFLOP/s | of a matrix product | memory, MB |", "|---|---" + "|---:" * 10 + "|"]
    for size in SIZES:
        for kind in ("pretrain", "emotion"):
            repeat = arguments.repeat if SIZES[size]["batch"] > 16 else 1  # the large ones take minutes each
            turns = [{what: measure(size, kind, what, arguments.data) for what in MEASURES} for _ in range(repeat)]
            runs = {what: [turn[what] for turn in turns] for what in MEASURES}
            found = {what: {key: median([run[key] for run in many]) for key in many[0]} for what, many in runs.items()}
            rate = {what: values["rate"] for what, values in found.items()}
            top, stream = rate["limit"], rate["ours, stream"]
            cells = [
                size,
                kind,
                f"{rate['ours']:.1f}",
                f"{stream:.1f}",
                f"{top:.1f}",
                f"{rate['ours'] / top:.2f}",
                f"{stream / top:.2f}",
                f"{rate['plain']:.1f}",
                f"{rate['ours'] / rate['plain']:.1f}",
                f"{found['limit']['flops'] / 1e9:.0f}",
                f"{found['limit']['flops'] / found['limit']['matmul']:.2f}",
                f"{found['ours']['memory']:.0f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    about = [
        "# Training",
        "",
        f"femae {__version__}, torch {torch.__version__}, Python {platform.python_version()}, {date.today()}, "
        f"{torch.get_num_threads()} threads, bf16 autocast, not compiled; pictures per second, median step; of the "
        f"sizes below 224 px the median of {arguments.repeat} runs in turn. Single runs differ by up to a fifth.",
        "",
        " ".join(__doc__.split("\n\n")[2].split()),
        "",
    ]
    arguments.out.write_text("\n".join(about + lines) + "\n")


if __name__ == "__main__":
    main()
