"""Summaries that the data commands print at the end."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from femae.data.annotate.label_studio import AnnotationProject
    from femae.data.annotate.voted_shards import VotedShards
    from femae.data.doctor.run import Diagnosis
    from femae.data.folds import FoldReport
    from femae.data.prepare.run import PrepareResult
    from femae.data.pseudo_aus.measure import PseudoAuResult

__all__ = ["doctor_lines", "export_lines", "fold_lines", "import_lines", "prepare_lines", "pseudo_au_lines"]

_MAX_CAUSES = 12


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def prepare_lines(result: "PrepareResult") -> list[str]:
    """Per data set the faces in the shards and what was left out, then the speed, or that there was nothing to do."""
    lines = []
    for name in result.sources:
        counts = result.info["sources"][name]
        lines.append(
            f"{name}: {_count(counts['num_samples'], 'face')} of {_count(counts['num_read'], 'sample')}, "
            f"{_count(counts['num_groups'], 'group')}"
        )
        labels = [f"{name} {count['positive']:,}" for name, count in counts["labels"].items()]
        if labels:
            lines.append(f"  positive (0.5 or more): {', '.join(labels)}")
        for who, key in (("reader", "left_out_by_reader"), ("prepare", "left_out")):
            causes = sorted(counts[key].items(), key=lambda item: -item[1]["count"])
            for cause, entry in causes[:_MAX_CAUSES]:
                example = f", e.g. {entry['examples'][0]}" if entry["examples"] else ""
                lines.append(f"  left out by {who}: {cause}: {entry['count']:,}{example}")
    if result.nothing_to_do:
        lines.append(f"nothing to do: all {result.num_units:,} shards of {result.folder} are already there")
        return lines
    kept = result.num_units - result.num_units_made
    rate = result.num_faces / max(result.seconds, 1e-9)
    workers, made = _count(result.num_workers, "worker"), f"{_count(result.num_units_made, 'shard')} made"
    lines.append(
        f"{made}{f', {kept:,} kept' if kept else ''}: {_count(result.num_pictures, 'picture')}, "
        f"{_count(result.num_faces, 'face')} in {result.seconds:.1f} s, {rate:,.1f} faces/s with {workers}"
    )
    lines.append(f"-> {result.folder}")
    return lines


def doctor_lines(diagnosis: "Diagnosis", *, page: str) -> list[str]:
    """The findings, most severe first."""
    sets = _count(len(diagnosis.sources), "data set")
    lines = [f"{diagnosis.subject}: {_count(diagnosis.num_samples, 'sample')} of {sets}"]
    for finding in diagnosis.findings:
        example = f" (e.g. {finding.examples[0]})" if finding.examples else ""
        lines.append(f"  {finding.severity}: {finding.kind} {finding.count:,}: {finding.text}{example}")
    if not diagnosis.findings:
        lines.append("  no problems found")
    return [*lines, f"-> {page}"]


def fold_lines(report: "FoldReport") -> list[str]:
    """The counts of each fold of each data set, and of joined groups."""
    lines = []
    for row in report.rows:
        emotions = ", ".join(f"{name} {total:,.0f}" for name, total in row.emotions.items() if total)
        where = "held out" if row.fold < 0 else f"fold {row.fold}"
        known = f": {emotions}" if emotions else ""
        lines.append(
            f"{row.source}, {where}: {_count(row.num_samples, 'sample')}, {_count(row.num_groups, 'group')}{known}"
        )
    lines.append(
        f"{report.num_groups:,} subjects and films, {report.num_joined:,} after joining copies "
        f"({_count(report.num_pairs, 'pair')}; the largest has {_count(report.largest, 'sample')})"
    )
    if report.num_held_out_by_join:
        lines.append(f"{report.num_held_out_by_join:,} more held out, as they belong with held-out ones")
    return lines


def export_lines(project: "AnnotationProject") -> list[str]:
    """The number of faces and task files."""
    files = _count(project.num_task_files, "task file")
    return [f"{_count(project.num_tasks, 'face')} in {files}; how to go on: {project.folder / 'README.md'}"]


def import_lines(result: "VotedShards") -> list[str]:
    """The number of votes, excluded answers by cause, and the agreement."""
    agreement = result.agreement
    alpha = "not defined" if agreement.alpha is None else f"{agreement.alpha:.3f}"
    lines = [
        f"{result.num_samples:,} faces with votes: {agreement.num_ballots:,} ballots of "
        f"{len(agreement.annotators)} annotators, Krippendorff's alpha {alpha}"
    ]
    lines += [f"  no vote: {cause}: {count:,}" for cause, count in result.ballots.left_out.items()]
    if result.num_unknown:
        lines.append(f"  not in the shards: {result.num_unknown:,} faces")
    return [*lines, f"-> {result.folder}, agreement.md"]


def pseudo_au_lines(result: "PseudoAuResult") -> list[str]:
    """Per data set the share of pictures with a face, the units given, then the speed."""
    lines = []
    for name, count in result.num_pictures.items():
        seen = result.num_seen[name]
        lines.append(f"{name}: a face in {seen:,} of {count:,} pictures ({seen / max(count, 1):.1%})")
    lines.append(f"units: {', '.join(result.units)}; all others are unknown")
    if result.num_measured:
        rate = result.num_measured / max(result.seconds, 1e-9)
        lines.append(f"{result.num_measured:,} pictures measured in {result.seconds:.1f} s, {rate:,.1f} pictures/s")
    return [*lines, f"-> {result.path}"]
