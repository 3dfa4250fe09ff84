"""First cut of the emotion stage: vote shares of FER+ to a ViT with sigmoid outputs (paper, section 3.4, eq. (1)).

    python -m femae.training.emotion recipes/open/emotion.yaml --data FERPLUS --run runs/emotion

Besides the six emotions the head has two outputs that only training uses, neutral and contempt. The loss is eq. (1)
with W_j = 1 over these eight, plus the cross-entropy of the softmax over the same logits with the vote shares. Rare
emotions are drawn more often. The run folder can be resumed at each epoch.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import load_file, save_file
from timm.layers.config import set_fused_attn
from torch import nn

from femae.config.emotion import EmotionConfig
from femae.data.augment import augment_batch
from femae.data.sources.ferplus import FerPlus, read_ferplus
from femae.labels import EMOTIONS
from femae.metrics.f1 import f1_per_class
from femae.models.vit import EmotionModel

__all__ = ["train_emotion"]

NUM_TARGETS = 8  # the six emotions, neutral, contempt
MEAN, STD = 0.5, 0.25  # of gray values in 0..1


def vote_shares(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Votes i64[N, 10] -> shares f32[N, 8] of the votes that name an expression, keep bool[N] (most votes do)."""
    named = votes[:, :NUM_TARGETS].sum(1)
    shares = votes[:, :NUM_TARGETS] / np.maximum(named, 1)[:, None]
    return shares.astype(np.float32), named >= 6


def sampling_weights(shares: torch.Tensor, balance: float) -> torch.Tensor:
    """float[N]: expected vote share times its class's count ** -balance, so that rare emotions come more often."""
    return (shares * shares.sum(0).clamp(min=1) ** -balance).sum(1)


def loss_function(logits: torch.Tensor, targets: torch.Tensor, softmax_weight: float) -> torch.Tensor:
    """Eq. (1) with W_j = 1, plus softmax_weight times the cross-entropy with the vote shares."""
    binary = F.binary_cross_entropy_with_logits(logits, targets)
    return binary + softmax_weight * F.cross_entropy(logits, targets)


def _pack(model: nn.Module, ema: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()} | {f"ema.{k}": v for k, v in ema.items()}
    for position, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optim.{position}.{k}": torch.as_tensor(v) for k, v in state.items()}
    return {k: v.contiguous().clone() for k, v in tensors.items()}


def _save(run: Path, tensors: dict[str, torch.Tensor], state: dict[str, object]) -> None:
    part = run / "checkpoint.safetensors.part"
    save_file(tensors, part, metadata={"state": json.dumps(state)})
    part.replace(run / "checkpoint.safetensors")


def _resume(run: Path, model: nn.Module, ema: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> int:
    """Restore a checkpoint in place; returns the number of epochs it has done (0: there is none)."""
    path = run / "checkpoint.safetensors"
    if not path.is_file():
        return 0
    tensors = load_file(path)
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    ema.update({k[4:]: v for k, v in tensors.items() if k.startswith("ema.")})
    params = [param for group in optimizer.param_groups for param in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optim."):
            _, position, name = key.split(".")
            param = params[int(position)]
            # the fused step walks memory, so a moment must lie in memory as its parameter does
            laid = torch.empty_like(param, requires_grad=False).copy_(value) if value.shape == param.shape else value
            state.setdefault(int(position), {})[name] = laid
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return 1 + max(int(entry["epoch"]) for entry in log)


@torch.inference_mode()
def predict_probs(model: nn.Module, pictures: torch.Tensor, *, flip: bool = False) -> np.ndarray:
    """Sigmoid probabilities f32[N, 6] of u8[N, 1, S, S], without or with flip averaging."""
    model.eval()
    parts = []
    for chunk in pictures.split(256):
        pixels = (chunk.float() / 255 - MEAN) / STD
        probs = torch.sigmoid(model(pixels))
        if flip:
            probs = (probs + torch.sigmoid(model(pixels.flip(3)))) / 2
        parts.append(probs[:, : len(EMOTIONS)])
    return torch.cat(parts).float().numpy()


def quick_f1(probs: np.ndarray, data: FerPlus) -> dict[str, float]:
    """F1 of the largest of six probabilities against the top vote, where it is one of the six with 3 votes or more."""
    six = data.votes[:, :6]
    top = six.argmax(1)
    keep = (six.max(1) >= 3) & (six.max(1) > data.votes[:, 6]) & (data.votes[:, 9] == 0) & ~data.in_training
    pred, true = probs[keep].argmax(1), top[keep]
    f1 = f1_per_class(pred, true=true, num_classes=len(EMOTIONS))
    scores = {"macro_f1": float(f1.mean()), "accuracy": float((pred == true).mean())}
    return scores | {name: float(value) for name, value in zip(EMOTIONS, f1, strict=True)}


def train_emotion(config: EmotionConfig) -> Path:
    """Train, or go on training, one model; returns the path of its weights (EMA, safetensors)."""
    set_fused_attn(False)  # on the CPU the fused attention's backward pass takes twice as long at 36 tokens
    torch.set_num_threads(config.num_threads)
    torch.manual_seed(config.seed)
    config.run.mkdir(parents=True, exist_ok=True)
    (config.run / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    train, test = (read_ferplus(config.data, split=split) for split in ("Training", "PublicTest"))
    shares_np, keep = vote_shares(train.votes)
    pictures = torch.from_numpy(train.pictures[keep][: config.limit])[:, None]
    shares = torch.from_numpy(shares_np[keep][: config.limit])
    test_pictures = torch.from_numpy(test.pictures)[:, None]

    model = EmotionModel(config.model, num_outputs=NUM_TARGETS).to(memory_format=torch.channels_last)
    averaged = EmotionModel(config.model, num_outputs=NUM_TARGETS)
    ema = {k: v.clone() for k, v in model.state_dict().items()}
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": config.optim.weight_decay}, {"params": rest, "weight_decay": 0.0}],
        lr=config.optim.lr,
        betas=config.optim.betas,
        fused=True,
    )
    first_epoch = _resume(config.run, model, ema, optimizer)
    forward = torch.compile(model) if config.compile else model
    weights = sampling_weights(shares, config.balance)
    steps = len(pictures) // config.batch_size
    total, warmup = steps * config.epochs, max(1, int(steps * config.optim.warmup_epochs))
    for epoch in range(first_epoch, config.epochs):
        torch.manual_seed(config.seed * 100_000 + epoch)
        order = torch.multinomial(weights, steps * config.batch_size, replacement=True)
        started, loss_sum = time.perf_counter(), 0.0
        model.train()
        for i in range(steps):
            step = epoch * steps + i
            cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, max(0, step - warmup) / max(1, total - warmup))))
            for group in optimizer.param_groups:
                group["lr"] = config.optim.lr * min(1.0, (step + 1) / warmup) * max(cosine, 1e-3)
            chosen = order[i * config.batch_size : (i + 1) * config.batch_size]
            pixels, targets = augment_batch(pictures[chosen], config.augment), shares[chosen]
            if config.mixup_alpha > 0:
                lam = torch.distributions.Beta(config.mixup_alpha, config.mixup_alpha).sample((len(chosen),))
                lam = torch.maximum(lam, 1 - lam)
                partner = torch.randperm(len(chosen))
                pixels = torch.lerp(pixels[partner], pixels, lam[:, None, None, None])
                targets = torch.lerp(targets[partner], targets, lam[:, None])
            pixels = ((pixels - MEAN) / STD).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                logits = forward(pixels)
            loss = loss_function(logits.float(), targets, config.softmax_weight)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip_norm)
            optimizer.step()
            loss_sum += loss.item()
            if not math.isfinite(loss_sum):
                raise RuntimeError(f"the loss is not finite at epoch {epoch}, step {i}; the last checkpoint is intact")
            blend = 1 - min(config.ema_decay, (step + 1) / (step + 10))
            for key, value in model.state_dict().items():
                if value.is_floating_point():
                    ema[key].lerp_(value, blend)
                else:
                    ema[key].copy_(value)
        rate = steps * config.batch_size / (time.perf_counter() - started)
        averaged.load_state_dict(ema)
        scores = quick_f1(predict_probs(averaged, test_pictures), test)
        entry = {"epoch": epoch, "loss": loss_sum / steps, "pictures_per_s": rate, **scores}
        _save(config.run, _pack(model, ema, optimizer), {"epoch": epoch})
        with (config.run / "log.jsonl").open("a") as log:
            log.write(json.dumps({k: round(v, 4) for k, v in entry.items()}) + "\n")
    weights_path = config.run / "model.safetensors"
    about = {
        "config": config.model.model_dump_json(),
        "num_outputs": str(NUM_TARGETS),
        "class_shares": json.dumps([round(float(share), 2) for share in shares.sum(0)]),
    }
    save_file({k: v.contiguous() for k, v in ema.items()}, weights_path, metadata=about)
    return weights_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    arguments = parser.parse_args()
    settings = yaml.safe_load(arguments.recipe.read_text()) or {}
    train_emotion(EmotionConfig(**(settings | {"data": arguments.data, "run": arguments.run})))


if __name__ == "__main__":
    main()
