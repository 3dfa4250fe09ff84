"""Exports faces of shards as a Label Studio project, and reads its exports as ballots (an annotator's emotions).

The project is a folder:

    config.xml       the labelling interface: six emotions and Others, multiple choice
    tasks-001.json   tasks, at most 1,000 per file
    pictures/        the crops, unless they are embedded in the tasks
    README.md        instructions

`embed` puts each crop into its task as a data URI (about 10 KB): nothing has to be served, and tasks can be dropped
into the import window. `files` writes the crops beside the tasks and refers to them through Label Studio's local file
serving; it is meant for more than some ten thousand crops. Known labels are not shown to annotators.

Both export formats are read. JSON: tasks with `data` and `annotations`, each with `completed_by`, `was_cancelled`,
`lead_time` and `result`. JSON_MIN: one flat row per annotation with the task's data, `annotator`, and the choices as a
string (one) or `{"choices": [...]}` (several). Skipped (cancelled) annotations, drafts, predictions and empty answers
are not votes; they are counted. Of two annotations of one face by one annotator the later one counts. The two formats
may name an annotator differently, so several files of one project should have the same format.
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
    """The project that an export wrote."""

    folder: Path
    num_tasks: int
    num_task_files: int


def labelling_interface() -> str:
    """The XML of the interface: one crop and seven choices with number keys, of which at least one is required."""
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
    """Which faces of a folder of shards to annotate."""

    limit: int | None = None  # number of faces, drawn at random with `seed`; None: all
    unlabelled_only: bool = False
    seed: int = 0


_ALL_FACES: Final = FaceDraw()


def export_label_studio(
    shards: Path,
    *,
    out: Path,
    pictures: Literal["embed", "files"] = "embed",
    document_root: Path | None = None,
    faces: FaceDraw = _ALL_FACES,
) -> AnnotationProject:
    """Write the project into the new folder `out`.

    `document_root`: the folder Label Studio serves, for `files` (default: the parent of `out`). Tasks are in random
    order, so that consecutive frames are not neighbours. Raises DataError when there is no face to export,
    OutputError when `out` is not empty or is outside of the root.
    """
    if out.exists() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty: an export goes into a new folder")
    manifest = read_manifest(shards)
    positions = _draw_faces(manifest, faces)
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
    (out / "README.md").write_text(_instructions(root if pictures == "files" else None, len(tasks)), encoding="utf-8")
    return AnnotationProject(folder=out, num_tasks=len(tasks), num_task_files=len(files))


def _draw_faces(manifest: Manifest, faces: FaceDraw) -> list[int]:
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
            subtype = "png" if suffix == "png" else "jpeg"
            images[position] = f"data:image/{subtype};base64,{base64.b64encode(data).decode()}"
        else:
            path = out / "pictures" / f"{columns['sha256'][position][:16]}-{position:07d}.{suffix}"
            path.write_bytes(data)
            images[position] = f"/data/local-files/?d={quote(path.resolve().relative_to(root).as_posix())}"
    return [
        {"data": {"image": images[position], **{name: values[position] for name, values in columns.items()}}}
        for position in positions
    ]


def _instructions(root: Path | None, num_tasks: int) -> str:
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
    """One annotator's answer for one face."""

    source: str
    key: str
    annotator: str
    choices: frozenset[str]  # at least one of CHOICES
    lead_time_s: float | None = None
    when: str = ""  # ISO time of the last change


@dataclass(frozen=True, kw_only=True, slots=True)
class Ballots:
    """All valid answers of an export, and counts of the others."""

    ballots: tuple[Ballot, ...]  # sorted by source, key, annotator
    left_out: dict[str, int]  # cause -> number of answers
    num_skipped: dict[str, int]  # annotator -> skipped tasks
    num_tasks: int


def read_label_studio(paths: list[Path]) -> Ballots:
    """Read the exports of a project. Raises DataError when a file is not an export or has an unknown choice."""
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
            parse = _parse_task if "data" in entry else _parse_flat_row
            for annotator, choices, lead_time_s, when in parse(entry, path, left_out, skipped):
                ballot = Ballot(
                    source=face[0],
                    key=face[1],
                    annotator=annotator,
                    choices=choices,
                    lead_time_s=lead_time_s,
                    when=when,
                )
                _keep_latest(latest, ballot, left_out)
    ordered = tuple(latest[key] for key in sorted(latest))
    return Ballots(
        ballots=ordered,
        left_out={cause: count for cause, count in sorted(left_out.items()) if count},
        num_skipped=dict(sorted(skipped.items())),
        num_tasks=len(faces),
    )


def _keep_latest(latest: dict[tuple[str, str, str], Ballot], ballot: Ballot, left_out: Counter[str]) -> None:
    key = (ballot.source, ballot.key, ballot.annotator)
    if key in latest:
        left_out["older answer of the same person"] += 1
    if key not in latest or ballot.when >= latest[key].when:
        latest[key] = ballot


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


def _parse_task(task: dict[str, Any], path: Path, left_out: Counter[str], skipped: Counter[str]) -> Iterator[_Answer]:
    """The answers of one task in the JSON format."""
    left_out["draft"] += len(task.get("drafts") or ())
    left_out["prediction of a model"] += len(task.get("predictions") or ())
    annotations = task.get("annotations", task.get("completions")) or []
    for annotation in annotations:
        if annotation.get("was_cancelled"):
            left_out[_SKIPPED] += 1
            skipped[_annotator_name(annotation.get("completed_by"), annotation)] += 1
            continue
        choices: list[str] = []
        for item in annotation.get("result") or ():
            if item.get("from_name") == CONTROL or (item.get("type") == "choices" and len(annotation["result"]) == 1):
                choices += item.get("value", {}).get("choices", [])
        if not choices:
            left_out["answer without a choice"] += 1
            continue
        when = str(annotation.get("updated_at") or annotation.get("created_at") or "")
        yield (
            _annotator_name(annotation.get("completed_by"), annotation),
            _parse_choices(choices, path),
            _lead_time_s(annotation),
            when,
        )


def _parse_flat_row(
    row: dict[str, Any], path: Path, left_out: Counter[str], skipped: Counter[str]
) -> Iterator[_Answer]:
    """The answer of one row in the JSON_MIN format, if it is valid."""
    value = row.get(CONTROL)
    choices = (
        value.get("choices", []) if isinstance(value, dict) else [value] if isinstance(value, str) else value or []
    )
    if row.get("was_cancelled"):
        left_out[_SKIPPED] += 1
        skipped[_annotator_name(row.get("annotator"), row)] += 1
    elif not choices:
        left_out["answer without a choice"] += 1
    else:
        when = str(row.get("updated_at") or row.get("created_at") or "")
        yield _annotator_name(row.get("annotator"), row), _parse_choices(list(choices), path), _lead_time_s(row), when


def _annotator_name(value: Any, annotation: dict[str, Any]) -> str:
    """The annotator's id or mail address; of a dict with both the address, as in JSON_MIN."""
    if isinstance(value, dict):
        value = value.get("email") or value.get("id", value.get("username"))
    if value is not None:
        return str(value)
    return f"unnamed-{annotation.get('annotation_id', annotation.get('id', 0))}"  # unnamed ones all differ


def _lead_time_s(annotation: dict[str, Any]) -> float | None:
    value = annotation.get("lead_time")
    return float(value) if isinstance(value, int | float) and value >= 0 else None


def _parse_choices(choices: list[str], path: Path) -> frozenset[str]:
    by_name = {name.lower(): name for name in CHOICES}
    unknown = [choice for choice in choices if str(choice).strip().lower() not in by_name]
    if unknown:
        raise DataError(f"{path}: '{unknown[0]}' is not a choice; expected {', '.join(CHOICES)} (see config.xml)")
    return frozenset(by_name[str(choice).strip().lower()] for choice in choices)
