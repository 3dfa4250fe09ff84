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
    """Is this the process that writes what is written once?"""
    return int(os.environ.get("RANK", "0")) == 0


def make_fabric(config: RunConfig) -> Fabric:
    """Fabric for this process. Raises ConfigError where machine and settings do not fit."""
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
        torch.set_float32_matmul_precision("high")  # TF32 for what mixed precision leaves in 32 bits
    if accelerator == "cpu":
        keep_freed_memory()
    # at some tens of tokens the fused attention's backward pass is slower on the CPU than two matrix products
    set_fused_attn(accelerator != "cpu")
    fabric.launch()
    return fabric


def _accelerator(config: RunConfig) -> str:
    """What is asked for, or the best that is there. Raises ConfigError when it is absent or lacks the precision."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    taken: str = config.accelerator
    if taken == "auto":
        taken = next(name for name in there if there[name])
    if not there[taken]:
        found = ", ".join(name for name in there if there[name])
        raise ConfigError(
            f"run.accelerator is {taken}, but torch finds no such device here: set it to auto, or to {found}"
        )
    if taken == "cpu" and config.precision == "16-mixed":
        raise ConfigError("run.precision 16-mixed needs an accelerator: on the CPU, use bf16-mixed or 32-true")
    return taken


def _shard(model: nn.Module, mesh: Any) -> nn.Module:
    """FSDP: each block is a unit of its own, what is left another."""
    from torch.distributed.fsdp import fully_shard

    for name, module in model.named_modules():
        if name.split(".")[-2:-1] == ["blocks"] or name.split(".")[-2:-1] == ["decoder_blocks"]:
            fully_shard(module, mesh=mesh["data_parallel"])
    fully_shard(model, mesh=mesh["data_parallel"])
    return model


@contextmanager
def explain_missing_ops(fabric: Fabric) -> Iterator[None]:
    """Say in one sentence what torch lacks on Apple's GPUs, where not every operation has been written yet."""
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
    """The network as it is called in training: on its device, compiled and spread over processes as asked for."""
    model.to(memory_format=torch.channels_last)
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if config.grad_checkpointing:
        encoder: Any = model.encoder
        encoder.set_grad_checkpointing(True)
    network: Any = torch.compile(model, dynamic=False) if config.compile else model
    return fabric.setup_module(network)
