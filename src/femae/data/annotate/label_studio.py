"""Faces of shards as a Label Studio project, and its exports as ballots: who chose which emotions for which face.

The project is a folder:

    config.xml       the labelling interface: six emotions and Others, as many as fit
    tasks-001.json   tasks, at most 1,000 in a file
    pictures/        the crops, when they are not inside the tasks
    README.md        what to click

`embed` puts each crop into its task as a data URI (about 10 KB): nothing has to be served, tasks can be dropped into
the import window. `files` writes the crops beside the tasks and refers to them through Label Studio's local file
serving; it is for more than some ten thousand crops. The known label is not shown to annotators.

Both forms of an export are read. JSON: tasks with `data` and `annotations`, each with `completed_by`, `was_cancelled`,
`lead_time` and `result`. JSON_MIN: one flat row per annotation with the task's data, `annotator`, and the choices as a
word (one) or `{"choices": [...]}` (several). Skipped (cancelled) annotations, drafts, predictions and empty answers are
no votes; they are counted. Of two annotations of one face by one person the later one counts. The two forms may call a
person differently, so several files of one project should be of one form.
"""

import base64
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from femae.data.store.manifest import Manifest, read_manifest
from femae.data.store.shard_reader import ShardReader
from femae.errors import DataError, OutputError
from femae.labels import EMOTIONS

__all__ = [
    "CHOICES",
    "CONTROL",
    "OTHERS",
    "AnnotationProject",
    "Ballot",
    "Ballots",
    "export_label_studio",
    "labelling_interface",
    "read_label_studio",
]

OTHERS: Final = "Others"
CHOICES: Final[tuple[str, ...]] = (*(emotion.capitalize() for emotion in EMOTIONS), OTHERS)
CONTROL: Final = "emotion"  # name of the choices in the interface, and of their column in JSON_MIN
_TASKS_PER_FILE: Final = 1000
_SKIPPED: Final = "skipped by the annotator"


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotationProject:
    """What an export wrote."""

    folder: Path
    num_tasks: int
    num_task_files: int


def labelling_interface() -> str:
    """The XML of the interface: one crop, the seven choices with the number keys, several allowed, one required."""
    choices = "".join(
        f'    <Choice value={quoteattr(name)} hotkey="{number}"/>\n' for number, name in enumerate(CHOICES, start=1)
    )
    return (
        "<View>\n"
        '  <Header value="Which emotions does this face show? Choose every one that you see; '
        'Others if it is none of the six, neutral included."/>\n'
        '  <Image name="image" value="$image" width="400px" zoom="true"/>\n'
        f'  <Choices name="{CONTROL}" toName="image" choice="multiple" showInLine="true" required="true" '
        'requiredMessage="Choose at least one; Others if none of the six fits.">\n'
        f"{choices}"
        "  </Choices>\n"
        "</View>\n"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceDraw:
    """Which faces of a folder of shards are annotated."""

    limit: int | None = None  # so many, drawn at random by `seed`; None: all
    unlabelled_only: bool = False
    seed: int = 0


_ALL: Final = FaceDraw()


def export_label_studio(
    shards: Path,
    *,
    out: Path,
    pictures: Literal["embed", "files"] = "embed",
    document_root: Path | None = None,
    faces: FaceDraw = _ALL,
) -> AnnotationProject:
    """Write the project into the new folder `out`.

    `document_root`: the folder Label Studio serves, for `files` (default: the folder above `out`). Tasks are in random
    order, so that neighbouring frames do not follow each other. Raises DataError when there is no face to export,
    OutputError when `out` exists or is outside of the root.
    """
    if out.exists() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty: an export goes into a new folder")
    manifest = read_manifest(shards)
    positions = _draw(manifest, faces)
    root = (document_root or out.parent).resolve()
    if pictures == "files" and not out.resolve().is_relative_to(root):
        raise OutputError(f"{out} is not inside {root}, the folder that Label Studio serves; see --document-root")
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.xml").write_text(labelling_interface(), encoding="utf-8")
    tasks = _tasks(manifest, positions, out=out, root=root if pictures == "files" else None)
    files = [tasks[start : start + _TASKS_PER_FILE] for start in range(0, len(tasks), _TASKS_PER_FILE)]
    for number, part in enumerate(files, start=1):
        text = json.dumps(part, ensure_ascii=False, indent=1)
        (out / f"tasks-{number:03d}.json").write_text(text + "\n", encoding="utf-8")
    (out / "README.md").write_text(_how_to(root if pictures == "files" else None, len(tasks)), encoding="utf-8")
    return AnnotationProject(folder=out, num_tasks=len(tasks), num_task_files=len(files))


def _draw(manifest: Manifest, faces: FaceDraw) -> list[int]:
    chosen = np.arange(len(manifest))
    if faces.unlabelled_only:
        chosen = np.flatnonzero(~manifest.vectors("mask").any(1))
    if not len(chosen):
        what = "no face without a label" if faces.unlabelled_only else "no face"
        raise DataError(f"{manifest.folder} holds {what} to annotate")
    order: list[int] = np.random.default_rng(faces.seed).permutation(chosen).tolist()
    return order[: faces.limit]


def _tasks(manifest: Manifest, positions: Sequence[int], *, out: Path, root: Path | None) -> list[dict[str, Any]]:
    """One task per face, in the order of `positions`; pictures are written when `root` is given."""
    columns = {name: manifest.strings(name) for name in ("source", "key", "group", "sha256")}
    images: dict[int, str] = {}
    if root is not None:
        (out / "pictures").mkdir()
    for position, data in ShardReader(manifest).picture_bytes(np.array(positions, np.intp)):
        suffix = "png" if data.startswith(b"\x89PNG") else "jpg"
        if root is None:
            kind = "png" if suffix == "png" else "jpeg"
            images[position] = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        else:
            path = out / "pictures" / f"{columns['sha256'][position][:16]}-{position:07d}.{suffix}"
            path.write_bytes(data)
            images[position] = f"/data/local-files/?d={quote(path.resolve().relative_to(root).as_posix())}"
    return [
        {"data": {"image": images[position], **{name: values[position] for name, values in columns.items()}}}
        for position in positions
    ]


def _how_to(root: Path | None, num_tasks: int) -> str:
    serving = (
        "The crops are inside the task files; nothing has to be served.\n"
        if root is None
        else (
            "The crops are in `pictures/`. Let Label Studio serve them before it starts, with the folder that holds "
            "this one as the document root:\n\n"
            "    export LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true\n"
            f'    export LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT="{root}"\n\n'
            "and in the project under Settings > Cloud Storage add a Local files source storage of that `pictures` "
            "folder (it need not be synchronised): without one, Label Studio refuses to serve its files.\n"
        )
    )
    return (
        f"# Annotation project: {num_tasks} faces\n\n"
        "1. Create a project in Label Studio; under Settings > Labeling Interface > Code paste `config.xml`.\n"
        "2. Let several people annotate each face (FER+ has ten): by the overlap under Settings > Quality where your "
        "edition has it; else everyone opens the tasks and submits an annotation of their own.\n"
        "3. Import the files `tasks-*.json`.\n"
        "4. When the work is done, export as JSON (better: it tells skipped tasks) or JSON-MIN, and run\n\n"
        "       femae data import EXPORT.json --shards SHARDS --out VOTED_SHARDS\n\n"
        f"{serving}"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Ballot:
    """One person's answer for one face."""

    source: str
    key: str
    annotator: str
    choices: frozenset[str]  # of CHOICES, at least one
    lead_time_s: float | None = None
    when: str = ""  # ISO time of the last change


@dataclass(frozen=True, kw_only=True, slots=True)
class Ballots:
    """All answers of an export and what was no vote, by cause."""

    ballots: tuple[Ballot, ...]  # by source, key, annotator
    left_out: dict[str, int]
    num_skipped: dict[str, int]  # annotator -> tasks skipped
    num_tasks: int


def read_label_studio(paths: list[Path]) -> Ballots:
    """Read one or several exports of one project. Raises DataError when a file is none, or an answer is unknown."""
    left_out: Counter[str] = Counter()
    latest: dict[tuple[str, str, str], Ballot] = {}
    skipped: Counter[str] = Counter()
    faces: set[tuple[str, str]] = set()
    for path in paths:
        for entry in _entries(path):
            data = entry.get("data", entry)
            face = (str(data.get("source", "")), str(data.get("key", "")))
            if not face[0] or not face[1]:
                raise DataError(f"{path}: a task has no 'source' and 'key': only tasks of `femae data` can be imported")
            faces.add(face)
            read = _answers if "data" in entry else _flat_answer
            for annotator, choices, lead_time_s, when in read(entry, path, left_out, skipped):
                ballot = Ballot(
                    source=face[0],
                    key=face[1],
                    annotator=annotator,
                    choices=choices,
                    lead_time_s=lead_time_s,
                    when=when,
                )
                _keep_latest(latest, ballot, left_out)
    ordered = tuple(latest[mark] for mark in sorted(latest))
    return Ballots(
        ballots=ordered,
        left_out={cause: count for cause, count in sorted(left_out.items()) if count},
        num_skipped=dict(sorted(skipped.items())),
        num_tasks=len(faces),
    )


def _keep_latest(latest: dict[tuple[str, str, str], Ballot], ballot: Ballot, left_out: Counter[str]) -> None:
    mark = (ballot.source, ballot.key, ballot.annotator)
    if mark in latest:
        left_out["older answer of the same person"] += 1
    if mark not in latest or ballot.when >= latest[mark].when:
        latest[mark] = ballot


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}): export the project as JSON or JSON-MIN") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{path} is not an export of Label Studio: expected a list of tasks (JSON or JSON-MIN)")
    return entries


_Answer = tuple[str, frozenset[str], float | None, str]


def _answers(task: dict[str, Any], path: Path, left_out: Counter[str], skipped: Counter[str]) -> Iterator[_Answer]:
    """The votes of one task of the JSON form."""
    left_out["draft"] += len(task.get("drafts") or ())
    left_out["prediction of a model"] += len(task.get("predictions") or ())
    annotations = task.get("annotations", task.get("completions")) or []
    for annotation in annotations:
        if annotation.get("was_cancelled"):
            left_out[_SKIPPED] += 1
            skipped[_person(annotation.get("completed_by"), annotation)] += 1
            continue
        words: list[str] = []
        for item in annotation.get("result") or ():
            if item.get("from_name") == CONTROL or (item.get("type") == "choices" and len(annotation["result"]) == 1):
                words += item.get("value", {}).get("choices", [])
        if not words:
            left_out["answer without a choice"] += 1
            continue
        when = str(annotation.get("updated_at") or annotation.get("created_at") or "")
        yield _person(annotation.get("completed_by"), annotation), _checked(words, path), _seconds(annotation), when


def _flat_answer(row: dict[str, Any], path: Path, left_out: Counter[str], skipped: Counter[str]) -> Iterator[_Answer]:
    """The vote of one row of the JSON_MIN form."""
    value = row.get(CONTROL)
    words = value.get("choices", []) if isinstance(value, dict) else [value] if isinstance(value, str) else value or []
    if row.get("was_cancelled"):
        left_out[_SKIPPED] += 1
        skipped[_person(row.get("annotator"), row)] += 1
    elif not words:
        left_out["answer without a choice"] += 1
    else:
        when = str(row.get("updated_at") or row.get("created_at") or "")
        yield _person(row.get("annotator"), row), _checked(list(words), path), _seconds(row), when


def _person(value: Any, annotation: dict[str, Any]) -> str:
    """A number, a mail address, or a dict of both; then the address, as JSON_MIN has it."""
    if isinstance(value, dict):
        value = value.get("email") or value.get("id", value.get("username"))
    if value is not None:
        return str(value)
    return f"unnamed-{annotation.get('annotation_id', annotation.get('id', 0))}"  # never one person for all


def _seconds(annotation: dict[str, Any]) -> float | None:
    value = annotation.get("lead_time")
    return float(value) if isinstance(value, int | float) and value >= 0 else None


def _checked(words: list[str], path: Path) -> frozenset[str]:
    by_name = {name.lower(): name for name in CHOICES}
    unknown = [word for word in words if str(word).strip().lower() not in by_name]
    if unknown:
        raise DataError(f"{path}: '{unknown[0]}' is not a choice; expected {', '.join(CHOICES)} (see config.xml)")
    return frozenset(by_name[str(word).strip().lower()] for word in words)
