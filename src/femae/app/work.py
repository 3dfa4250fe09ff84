"""Runs one job: what `femae predict` does, on uploaded files, with progress and cancellation."""

import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from femae.app.jobs import Job
from femae.app.view import digest
from femae.config.options import DeviceName
from femae.errors import FemaeError, InputError
from femae.inference.item import ItemOutputs, OutputSpec, process_item
from femae.inference.predictor import Predictor, open_source
from femae.labels import Compound
from femae.types import FrameResult, LabelView, SourceInfo
from femae.video.discover import InputItem, discover

__all__ = ["MakeReport", "Worker"]

_FORMATS = ("csv", "parquet", "jsonl")


class MakeReport(Protocol):
    """Writes the report of one table."""

    def __call__(
        self,
        table: Path,
        *,
        subject: Path | Mapping[Path, str],
        out: Path,
        title: str,
        labels: LabelView,
        advance: Callable[[], None],
    ) -> None:
        """`table` is Parquet, `out` the HTML file to write.

        `subject` is the film that the table was made from, or the pictures, each with its name in the table. `labels`:
        which label the report shows. `advance` is called after each frame of a film; an exception that it raises ends
        the work. Raises FemaeError.
        """


class Worker:
    """Runs one job after the other; holds the settings they have in common."""

    def __init__(
        self,
        *,
        max_minutes: float,
        device: DeviceName = "auto",
        threads: int | None = None,
        make_report: MakeReport | None = None,
    ) -> None:
        self._max_s, self._device, self._threads, self._make_report = max_minutes * 60, device, threads, make_report

    def load(self) -> None:
        """Load the networks once, so that the libraries are initialised before the first job."""
        Predictor(device=self._device, threads=1)

    def __call__(self, job: Job) -> None:
        """Run the job; fills its `outputs`, `facts` and `problems`.

        Raises FemaeError, whose message has the user's own file names, and JobCancelledError.
        """
        try:
            self._run(job)
        except FemaeError as error:
            raise type(error)(_with_user_names(str(error), job)) from error

    def _run(self, job: Job) -> None:
        job.phase = "loading the model"
        settings = job.detect.model_dump() | job.rules.model_dump()
        predictor = Predictor(model=job.model, device=self._device, threads=self._threads, **settings)
        item = _only_item(job)
        job.facts["kind"] = item.kind
        with open_source(item) as source:
            self._check_length(source.info.duration_s)
            job.num_total = _num_frames(source.info)
            job.phase = "reading"
            wanted = OutputSpec(
                out=job.folder / "out",
                stem="result",
                formats=_FORMATS,
                video=True,
                labels=job.labels,
                shown_names={upload.path.name: upload.name for upload in job.uploads},
            )
            done = process_item(
                source,
                item=item,
                predictor=predictor,
                wanted=wanted,
                on_result=lambda result: self._on_frame(job, result),
            )
        job.problems = [_with_user_names(problem, job) for problem in done.problems]
        self._collect_outputs(job, done, compounds=predictor.compounds)
        if self._make_report is not None:
            self._write_report(job, self._make_report, is_film=item.kind == "video")

    def _on_frame(self, job: Job, result: FrameResult) -> None:
        job.check()
        job.num_done += 1
        self._check_length(result.frame.time_s)

    def _check_length(self, seconds: float | None) -> None:
        if seconds is not None and seconds > self._max_s:
            raise InputError(
                f"the film is longer than {self._max_s / 60:g} minutes, the most that this page takes: cut it, start "
                "`femae app` with a larger --max-minutes, or use `femae predict`"
            )

    def _collect_outputs(self, job: Job, done: ItemOutputs, *, compounds: tuple[Compound, ...]) -> None:
        """Set `job.outputs`, with a summary of the table for the page."""
        outputs = {f"table{path.suffix}": path for path in done.tables}
        assert done.pictures is not None
        if done.pictures.is_dir():
            pictures = sorted(done.pictures.iterdir())
            outputs |= {f"picture-{number}.png": path for number, path in enumerate(pictures, start=1)}
            job.facts["pictures"] = _names_of(pictures, job)
            outputs["pictures.zip"] = _zip(pictures, job.folder / "out" / "pictures.zip", names=job.facts["pictures"])
        else:
            outputs["film.mp4"] = done.pictures
        job.check()
        summary = job.folder / "out" / "look.json"
        facts = digest(outputs["table.parquet"], labels=job.labels, compounds=compounds)
        summary.write_text(json.dumps(facts), encoding="utf-8")
        outputs["look.json"] = summary
        job.outputs = outputs

    def _write_report(self, job: Job, make_report: MakeReport, *, is_film: bool) -> None:
        """Write the report; where that fails, the job keeps its other outputs."""
        job.check()
        job.phase = "writing the report"
        out = job.folder / "out" / "report.html"
        first = job.uploads[0]
        title = first.name if len(job.uploads) == 1 else f"{len(job.uploads)} pictures"
        subject: Path | dict[Path, str] = {upload.path: upload.name for upload in job.uploads}
        try:
            if is_film:
                subject = job.folder / "report" / first.path.name
                subject.parent.mkdir()
                first.path.replace(subject)
            table = job.outputs["table.parquet"]
            make_report(table, subject=subject, out=out, title=title, labels=job.labels, advance=job.check)
            job.outputs["report.html"] = out
        except FemaeError as error:
            job.problems.append(f"the report could not be written: {_with_user_names(str(error), job)}")
        finally:
            shutil.rmtree(job.folder / "report", ignore_errors=True)


def _only_item(job: Job) -> InputItem:
    items = discover([str(upload.path) for upload in job.uploads])
    if len(items) != 1:
        raise InputError("films and pictures cannot be mixed in one job: send each film separately")
    return items[0]


def _num_frames(info: SourceInfo) -> int | None:
    """Expected number of frames, from the headers; None if they do not state it."""
    if info.num_frames is not None or info.duration_s is None or info.frame_rate is None:
        return info.num_frames
    return max(1, round(info.duration_s * info.frame_rate))


def _with_user_names(text: str, job: Job) -> str:
    """Replace the server's paths in a message by the names of the uploaded files."""
    for upload in job.uploads:
        text = text.replace(str(upload.path), upload.name).replace(upload.path.name, upload.name)
    return text.replace(str(job.folder), "the working folder")


def _names_of(pictures: list[Path], job: Job) -> list[str]:
    names = {upload.path.stem: upload.name for upload in job.uploads}
    return [names.get(path.stem, path.name) for path in pictures]


def _zip(pictures: list[Path], path: Path, *, names: list[str]) -> Path:
    """Archive annotated pictures, named by number and sanitised file name; returns `path`."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, (picture, name) in enumerate(zip(pictures, names, strict=True), start=1):
            safe = "".join(c if c.isalnum() or c in " -_()" else "_" for c in Path(name).stem)[:80]
            archive.write(picture, f"{number:04d} {safe}.png")
    return path
