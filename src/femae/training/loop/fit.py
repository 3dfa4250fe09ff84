"""The training loop of all stages (paper, section 4.2): steps, averages, schedule, validation, states, early stopping.

What is learned is up to the task. A run that was interrupted at any step resumes from its last state and gives the same
numbers as an uninterrupted one.
"""

import errno
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from femae.errors import OutputError, TrainingError
from femae.training.loader.loader import BatchShare, LoaderSpec, batches
from femae.training.loader.sampler import RowStream, row_weights
from femae.training.loop.checkpoint import (
    BEST,
    LAST,
    ShardedWriter,
    StateWriter,
    TrainState,
    gather_tensors,
    is_sharded,
    load_checkpoint,
    load_sharded,
    newest_state,
    own_tensors,
    read_sharded_state,
    read_state,
)
from femae.training.loop.cost import training_flops
from femae.training.loop.devices import explain_missing_ops, set_up
from femae.training.loop.ema import WeightAverage
from femae.training.loop.meter import Meter, TimedIterator, machine
from femae.training.loop.monitor import Monitor
from femae.training.loop.optim import make_optimizer, make_schedule
from femae.training.loop.run_folder import RunFolder, fingerprint
from femae.training.loop.scores import write_table
from femae.training.loop.step import PendingLosses, TrainStep
from femae.training.loop.task import Evaluation, Task
from femae.training.loop.validate import evaluate

__all__ = ["FitResult", "fit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FitResult:
    """The best validation of a run."""

    folder: Path
    best_score: float
    best_epoch: int
    log: dict[str, Any]  # of the validation at the best epoch


@dataclass(kw_only=True, slots=True)
class _Run:
    """State that the functions of the loop share."""

    task: Task
    fabric: Fabric
    folder: RunFolder
    stepper: TrainStep
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    average: WeightAverage
    stream: RowStream
    state: TrainState
    pending: PendingLosses
    flops: float  # of forward and backward pass, per picture
    writer: StateWriter | ShardedWriter
    monitor: Monitor | None = None
    last_saved: float = field(default_factory=time.monotonic)


def fit(task: Task, *, fabric: Fabric, folder: RunFolder, quiet: bool = False) -> FitResult:
    """Train a task in a run folder, or resume its training; returns its best validation.

    Writes model.safetensors (the best averaged weights), the last and the best state, log.jsonl and the task's tables.
    Raises TrainingError when the loss is not finite or explodes, or when the folder holds a run with other settings,
    and OutputError when files cannot be written; the folder stays intact.
    """
    run = _prepare(task, fabric, folder)
    config = task.config.run
    epochs = config.epochs
    last_step = run.stream.first_step(epochs)
    if run.state.finished or run.state.step >= last_step:
        return _result(run)
    spec = LoaderSpec(
        faces=task.train_set,
        model=task.config.model,
        device=fabric.device,
        workers=task.config.data.workers,
        on_device=task.config.data.decode == "device",
    )
    pieces = batches(spec, run.stream, run.stepper.share, steps=range(run.state.step, last_step))
    timed = TimedIterator(pieces)
    used = machine(fabric, config)
    folder.log({"kind": "resume" if run.state.step else "start", "step": run.state.step, **used})
    with (
        closing(pieces),
        closing(run.writer),
        Monitor(folder, config, title=folder.path.name, steps=last_step, quiet=quiet) as run.monitor,
    ):
        run.monitor.print(f"on {used['accelerator']}: {used['device']}; {used['strategy']}, {used['precision']}")
        epoch = _epoch_at(run.stream, run.state.step)
        while run.state.step < last_step and not run.state.finished:
            epoch, started = epoch + 1, time.perf_counter()
            with explain_missing_ops(fabric):
                _train_epoch(run, timed, until=run.stream.first_step(epoch))
                _end_epoch(run, epoch, last=epoch == epochs, started=started)
    fabric.barrier()  # all processes see what the first one wrote
    return _result(run)


def _epoch_at(stream: RowStream, step: int) -> int:
    epoch = 0
    while stream.first_step(epoch + 1) <= step:
        epoch += 1
    return epoch


def _prepare(task: Task, fabric: Fabric, folder: RunFolder) -> _Run:
    config = task.config
    weights = _sampling_weights(task)
    blocks = None if task.train_set.pictures is not None else task.train_set.blocks()
    stream = RowStream(
        len(task.train_set), batch_size=config.run.batch_size, seed=config.run.seed, weights=weights, blocks=blocks
    )
    flops = training_flops(task.model, task.example(2))
    torch.manual_seed(config.run.seed)
    forward, optim = set_up(fabric, task.model, config.run), config.scaled_optim
    optimizer = make_optimizer(task.model, optim, depth=config.model.depth)
    schedule = make_schedule(optimizer, optim, epochs=config.run.epochs, epoch_of=stream.epoch)
    wrapped: Any = fabric.setup_optimizers(optimizer)
    average = WeightAverage(task.model, decay=config.run.ema_decay)
    share = BatchShare(
        rank=fabric.global_rank, world_size=fabric.world_size, accumulate=config.run.pieces(fabric.world_size)
    )
    run = _Run(
        task=task,
        fabric=fabric,
        folder=folder,
        stepper=TrainStep(task=task, fabric=fabric, forward=forward, optimizer=wrapped, average=average, share=share),
        optimizer=wrapped,
        schedule=schedule,
        average=average,
        stream=stream,
        state=TrainState(config=_settings_fingerprint(task)),
        pending=PendingLosses(config.run, world_size=fabric.world_size, where=folder.path, epoch_of=stream.epoch),
        flops=flops,
        writer=ShardedWriter() if is_sharded(task.model) else StateWriter(),
    )
    _resume(run, optimizer)
    return run


def _sampling_weights(task: Task) -> np.ndarray | None:
    data = task.config.data
    source = None
    if data.source_weights:
        codes, names = task.train_set.codes("source")
        source = np.array([data.source_weights.get(name, 1.0) for name in names])[codes]
    if data.balance == 0 and source is None:
        return None
    return row_weights(task.balance_targets(), balance=data.balance, source_weight=source)


def _settings_fingerprint(task: Task) -> str:
    """Fingerprint of the settings that a resumed run must share: all but those of the machine and of logging.

    Later settings are left out at their defaults, so that fingerprints of older runs stay valid.
    """
    settings = task.config.model_dump(mode="json")
    for name in ("accelerator", "strategy", "threads", "checkpoint_minutes", "checkpoint_steps", "log_every"):
        settings["run"].pop(name)
    for name in ("tensorboard", "mlflow", "compile", "grad_checkpointing", "accumulate", "device_batch"):
        settings["run"].pop(name)
    if settings["optim"]["lr_batch"] is None:
        settings["optim"].pop("lr_batch")
    if settings["data"]["decode"] == "host":
        settings["data"].pop("decode")
    if settings["init"]["head"] == "new":
        settings["init"].pop("head")
    if settings.get("distill", {}).get("views") == 0:
        settings["distill"].pop("views")
    settings["data"].pop("workers")
    settings["data"].pop("loader")
    return fingerprint(settings)


def _resume(run: _Run, optimizer: torch.optim.Optimizer) -> None:
    path = run.folder.path / LAST
    unsharded = read_state(path) if path.is_file() else None
    sharded_path = newest_state(_sharded_folder(path))
    sharded = read_sharded_state(sharded_path) if sharded_path is not None else None
    newest = max(
        (state for state in (unsharded, sharded) if state is not None), key=lambda state: state.step, default=None
    )
    if newest is None:
        run.folder.forget_after(-1)
        return
    if newest.config != run.state.config:
        raise TrainingError(
            f"{run.folder.path} holds a run with other settings (see its config.yaml): choose another --out, or "
            f"delete that folder to train from scratch"
        )
    if sharded_path is not None and newest is sharded:
        run.state = load_sharded(sharded_path, model=run.task.model, optimizer=optimizer, average=run.average)
    else:
        run.state = load_checkpoint(path, model=run.task.model, optimizer=optimizer, average=run.average)
    run.schedule.last_epoch = run.state.step
    for group, factor in zip(optimizer.param_groups, run.schedule.lr_lambdas, strict=True):
        group["lr"] = group["initial_lr"] * factor(run.state.step)
    if run.state.scaler and run.fabric._precision.scaler is not None:  # type: ignore[attr-defined]
        run.fabric._precision.scaler.load_state_dict(run.state.scaler)  # type: ignore[attr-defined]
    run.folder.forget_after(run.state.step)


def _train_epoch(run: _Run, pieces: TimedIterator, *, until: int) -> None:
    config, state, monitor = run.task.config.run, run.state, run.monitor
    assert monitor is not None
    run.task.model.train()
    steps = max(run.stream.first_step(config.epochs), 1)
    meter = Meter(run.fabric, config, step=state.step, flops=run.flops)
    pieces.waited_s = 0.0
    while state.step < until:
        result = run.stepper.step(pieces, state.step, progress=state.step / steps)
        state.step += 1
        run.pending.add(result)
        monitor.step(state.step)
        is_checkpoint = config.checkpoint_steps is not None and state.step % config.checkpoint_steps == 0
        is_logged = state.step % config.log_every == 0 or state.step == until
        if is_logged or is_checkpoint:
            loss, parts, norm = run.pending.read(state)
            if is_logged:
                entry = {"kind": "step", "step": state.step, "epoch": round(run.stream.epoch(state.step), 4)}
                entry |= {"loss": loss, **parts, "grad_norm": norm, "lr": run.optimizer.param_groups[-1]["lr"]}
                monitor.write(entry | meter.read(state.step, waited_s=pieces.waited_s))
                pieces.waited_s = 0.0
            is_due = _from_first_process(run, time.monotonic() - run.last_saved > 60 * config.checkpoint_minutes)
            if (is_checkpoint or is_due) and state.step < until:  # at the end of an epoch, _end_epoch saves
                _save(run, LAST)
        run.schedule.step()
    state.first_loss = state.first_loss or state.loss_sum / max(state.loss_steps, 1)


def _from_first_process(run: _Run, value: bool) -> bool:
    """The first process's value, on all processes."""
    return bool(run.fabric.broadcast(value)) if run.fabric.world_size > 1 else value


def _end_epoch(run: _Run, epoch: int, *, last: bool, started: float) -> None:
    config, state = run.task.config.run, run.state
    loss = state.loss_sum / max(state.loss_steps, 1)
    state.loss_sum, state.loss_steps = 0.0, 0
    if epoch % config.validate_every == 0 or last:
        with run.average.applied():
            evaluation = evaluate(run.task, run.fabric)
            better = state.best_score is None or evaluation.score > state.best_score
            if better:
                state.best_score, state.best_epoch, state.bad_epochs = evaluation.score, epoch, 0
                _write_best(run, evaluation)
            else:
                state.bad_epochs += config.validate_every
        state.finished = last or (config.patience is not None and state.bad_epochs >= config.patience)
        entry = {"kind": "epoch", "epoch": epoch, "step": state.step, "loss": loss, "best": better}
        entry |= {"seconds": round(time.perf_counter() - started, 2), "val": evaluation.log}
        assert run.monitor is not None
        run.monitor.write(entry)
        if better:
            run.monitor.tables(evaluation.tables, step=state.step)
    if epoch == state.best_epoch:
        _save(run, BEST)
    _save(run, LAST)


def _write_best(run: _Run, evaluation: Evaluation) -> None:
    """Write model.safetensors and the tables of the best validation."""
    weights = gather_tensors(run.average.tensors)
    if not run.folder.writes:
        return
    try:
        run.task.save(run.folder.path / "model.safetensors", weights)
        for name, table in evaluation.tables.items():
            write_table(run.folder.path / name, table)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else str(error)
        raise OutputError(
            f"{run.folder.path} cannot be written ({reason}); its last state is intact: free some space and run the "
            f"same command again"
        ) from error


def _save(run: _Run, name: str) -> None:
    scaler = getattr(run.fabric._precision, "scaler", None)
    run.state.scaler = scaler.state_dict() if scaler is not None else {}
    tensors = own_tensors(run.task.model, run.optimizer, run.average)
    if isinstance(run.writer, ShardedWriter):
        run.writer.save(_sharded_folder(run.folder.path / name), tensors, run.state)
    else:
        tensors = gather_tensors(tensors)
        if run.folder.writes:
            run.writer.save(run.folder.path / name, tensors, run.state)
    run.last_saved = time.monotonic()


def _sharded_folder(path: Path) -> Path:
    """The folder of sharded states that belongs to the path of an unsharded one."""
    return path.with_suffix("")


def _result(run: _Run) -> FitResult:
    epochs = [entry for entry in run.folder.entries("epoch") if entry["epoch"] == run.state.best_epoch]
    return FitResult(
        folder=run.folder.path,
        best_score=float(run.state.best_score or 0.0),
        best_epoch=run.state.best_epoch,
        log=epochs[-1]["val"] if epochs else {},
    )
