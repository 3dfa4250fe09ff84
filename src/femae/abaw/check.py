"""`femae abaw validate` and `femae abaw score`: output and exit status."""

from collections import Counter

from femae.abaw.label_file import read_labels, read_template
from femae.abaw.score import is_challenge, score_labels
from femae.abaw.validate import check_file
from femae.abaw.write import class_shares
from femae.config.abaw import ScoreConfig, ValidateConfig
from femae.printing import print_lines

__all__ = ["run_score", "run_validate"]


def run_validate(config: ValidateConfig) -> int:
    """Print the faults with their lines, up to `limit` per kind; returns 1 if there is any, else 0."""
    template = read_template(config.template) if config.template is not None else None
    checked = check_file(config.file, template=template, track=config.track, any_videos=config.any_videos)
    if not checked.faults:
        shares = class_shares(checked.values, track=checked.track)
        videos = f"{checked.num_videos} video{'s' * (checked.num_videos != 1)}"
        print_lines(
            [f"{config.file}: {checked.track.name}, {checked.num_rows:,} frames of {videos}, no faults; {shares}"]
        )
        return 0
    shown: Counter[str] = Counter()
    for fault in checked.faults:
        shown[fault.kind] += 1
        if shown[fault.kind] <= config.limit:
            print_lines([f"{config.file}, line {fault.line}: {fault.kind}: {fault.text}"])
    more = [f"{count - config.limit:,} more: {kind}" for kind, count in shown.items() if count > config.limit]
    print_lines([f"... and {', '.join(more)} (--limit N shows more)"] if more else [])
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in shown.most_common())
    count = len(checked.faults)
    print_lines([f"{config.file}: {checked.track.name}, {count:,} fault{'s' * (count != 1)}: {kinds}"])
    return 1


def run_score(config: ScoreConfig) -> int:
    """Print macro-F1, the F1 of each class and, for CE, Table 3 with this result; returns 0. Raises FemaeError."""
    labels = read_labels(config.labels, track=config.track, other_is_unknown=True)
    predictions = read_labels(config.file, track=labels.track.name)
    score = score_labels(predictions, labels=labels)
    track = labels.track
    left_out = f"; {score.num_unknown:,} without a known label do not count" if score.num_unknown else ""
    print_lines([f"macro-F1 {score.macro_f1:.4f} over {score.num_frames:,} frames{left_out}"])
    width = max(map(len, track.classes))
    rows = zip(track.classes, score.f1, score.support, score.predicted, strict=True)
    print_lines(
        f"  {name:<{width}}  F1 {f1:.4f}  {support:,} frames, {predicted:,} predicted"
        for name, f1, support, predicted in rows
    )
    absent = [name for name, support in zip(track.classes, score.support, strict=True) if not support]
    if absent:
        print_lines([f"  without a single frame in the labels, and counted as 0: {', '.join(absent)}"])
    if track.name == "ce":
        from femae.metrics.tables import table3

        print_lines(["", table3(score.macro_f1, name=config.name)])
        if not is_challenge(labels):
            print_lines(["Not comparable with the published scores: those are over the challenge's own frames."])
    return 0
