"""The reliability of action-unit pseudo-labels, on rendered faces with known intensities and real faces with votes.

    femae data pseudo-au SHARDS --landmarker FILE --out all.parquet
    python benchmarks/pseudo_aus.py SHARDS --table all.parquet [--landmarker FILE] [--sheets FOLDER] [--out FILE.md]

SHARDS are those of `femae data open` (FER+, LFW, rendered faces). `rest` and `full` in data/pseudo_aus/arkit_aus.py are
from the second table. With --landmarker the framings are compared, which takes about ten minutes.
"""

import argparse
import platform
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import roc_auc_score

from femae import __version__
from femae.data.pseudo_aus import blendshapes as net_module
from femae.data.pseudo_aus.arkit_aus import AU_RULES, AuRule, action_units_from_blendshapes, raw_action_unit
from femae.data.store.manifest import Manifest, read_manifest
from femae.data.store.shard_reader import load_pictures
from femae.data.store.shards import ACTION_UNITS
from femae.labels import EMOTIONS

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
RENDERED, VOTED, WEAK = "synth3d", "ferplus", "lfw"
# Units whose shapes the rendered faces name by another unit.
RENDERED_AS = {"AU25": "AU27", "AU26": "AU27", "AU43": "AU45"}
CLEAR = 0.6  # share of votes from which a picture counts as showing an emotion
FRAMINGS = [(1.0, 1.5), (1.2, 1.5), (1.4, 1.25), (1.4, 1.5), (1.4, 1.75), (1.6, 1.5)]


class Measured:
    """The rows of a manifest with their pseudo-labels; rows that are in no table have presence 0."""

    def __init__(self, manifest: Manifest, tables: Sequence[Path]) -> None:
        table = pa.concat_tables([pq.read_table(path).replace_schema_metadata(None) for path in tables])
        names = list(zip(table.column("source").to_pylist(), table.column("key").to_pylist(), strict=True))
        row_of = {name: row for row, name in enumerate(names)}
        pictures = zip(manifest.strings("source"), manifest.strings("key"), strict=True)
        rows = np.array([row_of.get(name, -1) for name in pictures])
        self.manifest = manifest
        self.presence = np.where(rows >= 0, table.column("presence").to_numpy()[rows], 0).astype(np.float32)
        flat = table.column("blendshapes").combine_chunks().flatten().to_numpy()
        self.blendshapes: Floats = np.asarray(flat, np.float32).reshape(len(table), -1)[rows]
        self.seen: Bools = (self.presence >= 0.5) & (rows >= 0)
        self.held: Bools = rows >= 0
        self.source = np.array(manifest.strings("source"))
        self.train = np.array(manifest.strings("split")) == "train"
        self.emotions: Floats = manifest.vectors("targets")
        self.neutral = (np.array(manifest.strings("class_name")) == "neutral") & (self.emotions.sum(1) <= 0.201)
        self.au_targets, self.au_mask = action_units_from_blendshapes(self.blendshapes)

    def of(self, source: str) -> Bools:
        """bool[N]: rows of a data set in which a face was found."""
        return (self.source == source) & self.seen


def markdown(heads: Sequence[str], rows: Iterator[Sequence[str]] | list[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def auroc(positive: Floats, negative: Floats) -> float:
    if not len(positive) or not len(negative):
        return float("nan")
    truth = np.r_[np.ones(len(positive)), np.zeros(len(negative))]
    return float(roc_auc_score(truth, np.r_[positive, negative]))


def figure(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"


def presence_table(data: Measured) -> list[str]:
    rows = []
    for source in (VOTED, WEAK, RENDERED):
        for part, chosen in (("train", data.train), ("others", ~data.train)):
            of = (data.source == source) & chosen & data.held
            if of.any():
                rows.append((source, part, f"{of.sum():,}", f"{data.seen[of].sum():,}", f"{data.seen[of].mean():.1%}"))
    return markdown(("set", "split", "pictures", "presence at least 0.5", "share"), rows)


def value_table(data: Measured) -> list[str]:
    """The values of rest and full on these pictures, and the distribution of the targets."""
    real = (data.of(VOTED) & data.train) | data.of(WEAK)
    rest_of = data.of(VOTED) & data.train & data.neutral
    rows = []
    for rule in AU_RULES:
        raw = raw_action_unit(data.blendshapes, rule=rule)
        cells = [rule.unit, ", ".join(rule.shapes), f"{np.median(raw[rest_of]):.3f}"]
        cells += [f"{np.percentile(raw[real], level):.3f}" for level in (50, 95, 99)]
        for source in (VOTED, WEAK):
            known = data.of(source) & data.au_mask[:, ACTION_UNITS.index(rule.unit)]
            values = data.au_targets[known, ACTION_UNITS.index(rule.unit)]
            share = known.sum() / max(1, int(((data.source == source) & data.held).sum()))
            given = (
                [f"{share:.3f}", f"{values.mean():.3f}", f"{(values >= 0.5).mean():.3f}"] if known.any() else ["-"] * 3
            )
            cells += given
        rows.append((*cells, rule.masked or "given"))
    heads = ("unit", "shapes", "rest", "50 %", "95 %", "99 % (full)")
    spread = tuple(f"{name} {what}" for name in ("FER+", "LFW") for what in ("known", "mean", ">= 0.5"))
    return markdown((*heads, *spread, ""), rows)


def rendered_table(data: Measured) -> list[str]:
    """Pseudo-labels against exact intensities, for all rendered faces and for those with a closed mouth."""
    truth: Floats = data.manifest.vectors("au_targets")
    rendered = data.of(RENDERED)
    closed = rendered & (truth[:, ACTION_UNITS.index("AU27")] < 0.2)
    units = [unit for unit in range(len(ACTION_UNITS)) if truth[rendered, unit].max(initial=0) > 0]
    rows = []
    for rule in AU_RULES:
        raw = raw_action_unit(data.blendshapes, rule=rule)
        name = RENDERED_AS.get(rule.unit, rule.unit)
        exact = truth[:, ACTION_UNITS.index(name)]
        rho = {ACTION_UNITS[unit]: spearmanr(raw[rendered], truth[rendered, unit])[0] for unit in units}
        other = max((unit for unit in rho if unit != name), key=lambda unit: abs(rho[unit]))
        cells = [rule.unit, name, f"{(exact[rendered] >= 0.5).sum():,}", figure(rho.get(name, np.nan))]
        cells.append(figure(pearsonr(raw[rendered], exact[rendered])[0]))
        for chosen in (rendered, closed):
            cells.append(figure(auroc(raw[chosen & (exact >= 0.5)], raw[chosen & (exact == 0)])))
        rows.append((*cells, f"{other} {rho[other]:+.2f}", "masked" if rule.masked else "given"))
    heads = ("unit", "rendered as", "n >= 0.5", "Spearman", "Pearson", "AUROC", "AUROC, mouth closed")
    return markdown((*heads, "strongest other unit", ""), rows)


def emotion_table(data: Measured, *, test: bool) -> list[str]:
    """Mean target of each unit over FER+ pictures by emotion; AUROC against neutral in brackets."""
    chosen = data.of(VOTED) & (data.train != test)
    groups = {name: chosen & (data.emotions[:, number] >= CLEAR) for number, name in enumerate(EMOTIONS)}
    rows: list[Sequence[str]] = [
        ("pictures", *(f"{of.sum():,}" for of in groups.values()), f"{(chosen & data.neutral).sum():,}")
    ]
    for rule in AU_RULES:
        unit = ACTION_UNITS.index(rule.unit)
        known = data.au_mask[:, unit]
        values = data.au_targets[:, unit]
        if rule.masked:
            continue
        calm = values[chosen & data.neutral & known]
        cells = [
            f"{values[of & known].mean():.2f} ({figure(auroc(values[of & known], calm))})" for of in groups.values()
        ]
        rows.append((rule.unit, *cells, f"{calm.mean():.2f}"))
    return markdown(("unit", *groups, "neutral"), rows)


def framing_table(data: Measured, *, landmarker: Path, count: int = 300) -> list[str]:
    """Presence, and agreement on rendered and voted faces, for several sides of the two squares."""
    task, _ = net_module.read_landmarker(landmarker)
    rng = np.random.default_rng(0)
    chosen = {
        source: np.sort(rng.choice(np.flatnonzero((data.source == source) & data.train), count, replace=False))
        for source in (VOTED, WEAK, RENDERED)
    }
    pictures = {s: load_pictures(data.manifest, size=96, positions=positions) for s, positions in chosen.items()}
    truth = data.manifest.vectors("au_targets")[chosen[RENDERED]]
    emotions = data.emotions[chosen[VOTED]]
    rows = []
    for first, second in FRAMINGS:
        vars(net_module).update(FIRST_SIDE=first, SECOND_SIDE=second)
        net = net_module.BlendshapeNet(task)
        found = {source: [net.measure(picture) for picture in pictures[source]] for source in chosen}
        cells = [f"{first} / {second}"]
        cells += [f"{np.mean([p >= 0.5 for _, p in found[source]]):.3f}" for source in chosen]
        rendered = np.stack([coefficients for coefficients, _ in found[RENDERED]])
        voted = np.stack([coefficients for coefficients, _ in found[VOTED]])
        cells.append(figure(mean_rho(rendered, truth)))
        for unit, emotion in (("AU12", "happiness"), ("AU01", "surprise"), ("AU05", "surprise"), ("AU04", "anger")):
            raw = raw_action_unit(voted, rule=rule_of(unit))
            is_it = emotions[:, EMOTIONS.index(emotion)] >= 0.5  # type: ignore[arg-type]
            cells.append(figure(auroc(raw[is_it], raw[~is_it])))
        rows.append(cells)
    heads = ("first / second side", "presence FER+", "LFW", "rendered", "rendered: mean Spearman")
    return markdown((*heads, "AU12: happiness", "AU01: surprise", "AU05: surprise", "AU04: anger"), rows)


def rule_of(unit: str) -> AuRule:
    return next(rule for rule in AU_RULES if rule.unit == unit)


def mean_rho(blendshapes: Floats, truth: Floats) -> float:
    """Mean Spearman correlation of the unmasked units with their rendered counterparts."""
    found = []
    for rule in AU_RULES:
        if not rule.masked:
            exact = truth[:, ACTION_UNITS.index(RENDERED_AS.get(rule.unit, rule.unit))]
            found.append(spearmanr(raw_action_unit(blendshapes, rule=rule), exact)[0])
    return float(np.nanmean(found))


def write_sheets(data: Measured, folder: Path, *, columns: int = 20, cell: int = 64) -> None:
    """Write a sheet per data set with one row per unit: a random sample of the 200 pictures with the largest values."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in (VOTED, WEAK):
        sheet = Image.new("L", (columns * cell + 60, len(AU_RULES) * cell))
        pen = ImageDraw.Draw(sheet)
        rows = np.flatnonzero(data.of(source))
        for number, rule in enumerate(AU_RULES):
            raw = raw_action_unit(data.blendshapes[rows], rule=rule)
            known = np.ones(len(rows), np.bool_) if rule.masked else data.au_mask[rows, ACTION_UNITS.index(rule.unit)]
            top = rows[np.argsort(np.where(known, -raw, 1))[:200]]
            picked = np.sort(np.random.default_rng(1).choice(top, columns, replace=False))
            pen.text((2, number * cell + 20), f"{rule.unit}\n{'masked' if rule.masked else ''}", fill=255)
            for column, picture in enumerate(load_pictures(data.manifest, size=cell, gray=True, positions=picked)):
                sheet.paste(Image.fromarray(picture[..., 0]), (60 + column * cell, number * cell))
        sheet.save(folder / f"{source}.png")


def report(data: Measured, *, landmarker: Path | None) -> list[str]:
    parts: list[tuple[str, str, Callable[[], list[str]]]] = [
        ("Pictures", "", lambda: presence_table(data)),
        (
            "Coefficients and targets",
            "Coefficients over FER+ (train) and LFW; `rest` is the median of neutral FER+ pictures. Known, mean and "
            "share of at least 0.5: of the targets.",
            lambda: value_table(data),
        ),
        (
            "Rendered faces",
            "Coefficient against the exact intensity; AUROC of an intensity of at least 0.5 against 0. The rendered "
            "faces call the shape mouthUpperUp AU11, and mouthShrugUpper AU10.",
            lambda: rendered_table(data),
        ),
        (
            "Voted faces, FER+ train",
            "Mean target by emotion (at least 0.6 of the votes), AUROC against neutral in brackets.",
            lambda: emotion_table(data, test=False),
        ),
        ("Voted faces, FER+ test", "", lambda: emotion_table(data, test=True)),
    ]
    if landmarker is not None:
        words = "300 pictures of each set. AUROC of a unit for an emotion (half of the votes) against all others."
        parts.append(("Framing", words, lambda: framing_table(data, landmarker=landmarker)))
    lines = ["# Action-unit pseudo-labels", ""]
    lines += [f"femae {__version__}, Python {platform.python_version()}, {date.today()}.", ""]
    for title, words, make in parts:
        lines += [f"## {title}", "", *([words, ""] if words else []), *make()]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--table", type=Path, nargs="+", required=True)
    parser.add_argument("--landmarker", type=Path)
    parser.add_argument("--sheets", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*constant.*")
    data = Measured(read_manifest(options.shards), options.table)
    if options.sheets:
        write_sheets(data, options.sheets)
    text = "\n".join(report(data, landmarker=options.landmarker)).rstrip() + "\n"
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
