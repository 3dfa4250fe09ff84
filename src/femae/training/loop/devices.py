"""One process, or many under torchrun: lightning-fabric with the settings of a recipe."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from timm.layers.config import set_fused_attn
from torch import nn

from femae.allocator import keep_freed_memory
from femae.config.train import RunConfig
from femae.cores import num_cores
from femae.errors import ConfigError

__all__ = ["explain_missing_ops", "first_process", "make_fabric", "set_up"]


def first_process() -> bool:
    """Whether this process has rank 0, which alone writes files."""
    return int(os.environ.get("RANK", "0")) == 0


def make_fabric(config: RunConfig) -> Fabric:
    """The launched Fabric of this process. Raises ConfigError when the settings do not suit the machine."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    accelerator = _accelerator(config)
    if config.batch_size < world * config.pieces(world):
        raise ConfigError(
            f"run.batch_size {config.batch_size} is less than one picture for each part of a step on {world} "
            "processes: raise it, or lower run.accumulate or the number of processes"
        )
    strategy: Any = "auto"
    if config.strategy == "fsdp":
        if world == 1:
            raise ConfigError("run.strategy fsdp splits a model over processes: start it with torchrun, or set auto")
        strategy = ModelParallelStrategy(_shard, data_parallel_size=world, tensor_parallel_size=1)
    elif world > 1:
        strategy = DDPStrategy()
    threads = config.threads or min(torch.get_num_threads(), num_cores())
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)
    fabric = Fabric(
        accelerator=accelerator,
        devices=local if world > 1 else 1,
        num_nodes=world // local,
        strategy=strategy,
        precision=config.precision,
    )
    if accelerator == "cuda" and config.precision != "32-true":
        torch.set_float32_matmul_precision("high")  # TF32 for the products that mixed precision leaves in 32 bits
    if accelerator == "cpu":
        keep_freed_memory()
    # with a few dozen tokens, fused attention's backward pass is slower on the CPU than two matrix products
    set_fused_attn(accelerator != "cpu")
    fabric.launch()
    return fabric


def _accelerator(config: RunConfig) -> str:
    """The configured or the best available accelerator. Raises ConfigError when it is absent or lacks the precision."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    available = [name for name, is_available in (("cuda", cuda), ("mps", mps), ("cpu", True)) if is_available]
    name: str = available[0] if config.accelerator == "auto" else config.accelerator
    if name not in available:
        raise ConfigError(
            f"run.accelerator is {name}, but torch finds no such device here: set it to auto, or to "
            f"{', '.join(available)}"
        )
    if name == "cpu" and config.precision == "16-mixed":
        raise ConfigError("run.precision 16-mixed needs an accelerator: on the CPU, use bf16-mixed or 32-true")
    return name


def _shard(model: nn.Module, mesh: Any) -> nn.Module:
    """Apply FSDP: each transformer block is one unit, the remaining parameters another."""
    from torch.distributed.fsdp import fully_shard

    for name, module in model.named_modules():
        if name.split(".")[-2:-1] in (["blocks"], ["decoder_blocks"]):
            fully_shard(module, mesh=mesh["data_parallel"])
    fully_shard(model, mesh=mesh["data_parallel"])
    return model


@contextmanager
def explain_missing_ops(fabric: Fabric) -> Iterator[None]:
    """Turn torch's NotImplementedError for an operation missing on MPS (Apple's GPUs) into a ConfigError."""
    try:
        yield
    except NotImplementedError as error:
        if fabric.device.type != "mps":
            raise
        raise ConfigError(
            f"run.accelerator mps: torch {torch.__version__} does not support this operation there "
            f"({str(error).splitlines()[0]}); set "
            "PYTORCH_ENABLE_MPS_FALLBACK=1 to run it on the CPU, or run.accelerator to cpu"
        ) from error


def set_up(fabric: Fabric, model: nn.Module, config: RunConfig) -> Any:
    """The network to call in training: on its device, compiled and wrapped for several processes as configured."""
    model.to(memory_format=torch.channels_last)
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if config.grad_checkpointing:
        encoder: Any = model.encoder
        encoder.set_grad_checkpointing(True)
    network: Any = torch.compile(model, dynamic=False) if config.compile else model
    return fabric.setup_module(network)
