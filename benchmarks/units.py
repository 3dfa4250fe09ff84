"""Evaluates the action units of a model on faces that it was not trained on.

    python benchmarks/units.py SHARDS --table au.parquet [--model model.onnx] [--out FILE.md]

SHARDS: a folder of `femae data open`; --table: its pseudo-labels (`femae data pseudo-au`). Only test splits are used:
the units of FER+ PublicTest and LFW are those of MediaPipe's blendshapes, those of the renders are exact. A unit is
present from 0.5 on. F1 with the 95 % interval of 1,000 bootstrap samples of the faces, and AUROC.
"""

import argparse
import platform
import sys
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from femae import __version__
from femae.data.pseudo_aus.table import read_pseudo_aus
from femae.data.store.manifest import Manifest, read_manifest
from femae.data.store.shards import ACTION_UNITS
from femae.engine.load import load_engine
from femae.engine.spec import Engine
from femae.export.check import read_crops
from femae.metrics.f1 import binary_f1

SETS = {"FER+ PublicTest": "ferplus", "LFW, test": "lfw", "renders, test": "synth3d"}
_DRAWS = 1000

Floats = npt.NDArray[np.float32]


def predict_units(engine: Engine, manifest: Manifest) -> Floats:
    """f32[N, A]: the probabilities of the units in each row."""
    return np.concatenate([engine.run(crops).au_probs for crops in read_crops(manifest, size=engine.spec.image_size)])


def interval(probs: Floats, shown: Floats) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(probs), (_DRAWS, len(probs)))
    found = [binary_f1(probs[draw, None], targets=shown[draw, None])[0] for draw in draws]
    return float(np.percentile(found, 2.5)), float(np.percentile(found, 97.5))


def rows_of(engine: Engine, manifest: Manifest, table: Path | None) -> list[list[str]]:
    """A row for each unit: number of faces with it, F1, interval, AUROC."""
    targets, mask = manifest.vectors("au_targets"), manifest.vectors("au_mask")
    if table is not None:
        targets, mask = read_pseudo_aus(table, manifest)
    probs = predict_units(engine, manifest)
    rows = []
    for column, name in enumerate(engine.spec.au_names):
        unit = ACTION_UNITS.index(name)
        known = mask[:, unit].astype(bool)
        predicted, target = probs[known, column], targets[known, unit]
        present = target >= 0.5
        if not present.any() or present.all():
            rows.append([name, f"{int(present.sum())} of {int(known.sum()):,}", "-", "-", "-"])
            continue
        f1 = binary_f1(predicted[:, None], targets=target[:, None])[0]
        low, high = interval(predicted, target)
        auroc = roc_auc_score(present, predicted)
        count = f"{int(present.sum()):,} of {int(known.sum()):,}"
        rows.append([name, count, f"{f1:.3f}", f"{low:.3f} to {high:.3f}", f"{auroc:.3f}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path("femae:model"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    engine = load_engine(options.model)
    if not engine.spec.au_names:
        sys.exit(f"{options.model} says no action units")
    whole = read_manifest(options.shards)
    source, split = (np.array(whole.strings(column)) for column in ("source", "split"))
    version = f"{engine.spec.name} {engine.spec.version}".strip()
    lines = [
        "# Action units",
        "",
        f"{version}, femae {__version__}, Python {platform.python_version()}, {date.today()}.",
    ]
    for title, name in SETS.items():
        chosen = whole.select((source == name) & (split == "test"))
        lines += ["", f"## {title} ({len(chosen):,} faces)", ""]
        lines += ["| unit | shown | F1 | 95 % | AUROC |", "|---|---|---|---|---|"]
        table = None if name == "synth3d" else options.table
        lines += ["| " + " | ".join(row) + " |" for row in rows_of(engine, chosen, table)]
    text = "\n".join(lines) + "\n"
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
