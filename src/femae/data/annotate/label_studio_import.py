"""Label Studio's exports -> ballots: who chose which emotions for which face.

Both forms are read. JSON: tasks with `data` and `annotations`, each with `completed_by`, `was_cancelled`, `lead_time`
and `result`. JSON_MIN: one flat row per annotation with the task's data, `annotator`, and the choices as a word (one)
or `{"choices": [...]}` (several). Skipped (cancelled) annotations, drafts, predictions and empty answers are no votes;
they are counted. Of two annotations of one face by one person the later one counts. The two forms may call a person
differently, so several files of one project should be of one form.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from femae.data.annotate.label_studio import CHOICES, CONTROL
from femae.errors import DataError

__all__ = ["Ballot", "Ballots", "read_label_studio"]

_SKIPPED: Final = "skipped by the annotator"


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
        raise DataError(f"{path} is no JSON ({error}): export the project as JSON or JSON-MIN") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{path} is no export of Label Studio: expected a list of tasks (JSON or JSON-MIN)")
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
