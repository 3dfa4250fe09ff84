"""The FER+ rules: against a reimplementation on synthetic votes, and against the reference script on real ones."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from femae.cli import main

SIX = ("surprise", "fear", "disgust", "happiness", "sadness", "anger")
VOTES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
PAIRS = {
    "Fearfully Surprised": ("fear", "surprise"),
    "Happily Surprised": ("happiness", "surprise"),
    "Sadly Surprised": ("sadness", "surprise"),
    "Disgustedly Surprised": ("disgust", "surprise"),
    "Angrily Surprised": ("anger", "surprise"),
    "Sadly Fearful": ("sadness", "fear"),
    "Sadly Angry": ("sadness", "anger"),
}


def f1(pred: list[Any], true: list[Any], name: str) -> float:
    hits = sum(p == t == name for p, t in zip(pred, true, strict=True))
    return 2 * hits / max(1, pred.count(name) + true.count(name))


def expected(rows: list[dict[str, Any]], scores: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Six-class and compound figures of PublicTest, implemented from the rules in the documentation."""
    pairs: dict[str, list[Any]] = {"six": [], "true": [], "pair": [], "compound": []}
    for row in rows:
        if row["split"] != "PublicTest" or row["dup_in_training"]:
            continue
        got = scores.get(row["name"])
        ranked = sorted(SIX, key=lambda emotion: -row[emotion])  # a stable sort: ties in their order
        if row["NF"] == 0 and row[ranked[0]] >= 3 and row[ranked[0]] > row["neutral"]:
            pairs["true"].append(ranked[0])
            pairs["six"].append(max(SIX, key=got.__getitem__) if got else None)
        total = sum(row[emotion] for emotion in SIX)
        name = next((name for name, pair in PAIRS.items() if set(pair) == set(ranked[:2])), None)
        clear = row[ranked[1]] >= 0.3 * total and row[ranked[1]] > row[ranked[2]] and total >= 4
        if name and clear and max(row["neutral"], row["unknown"], row["NF"]) <= row[ranked[0]]:
            pairs["compound"].append(name)
            best = got and max(PAIRS, key=lambda key: got[PAIRS[key][0]] + got[PAIRS[key][1]])
            pairs["pair"].append(best)
    present = [name for name in PAIRS if pairs["compound"].count(name) >= 3]
    return {
        "num": len(pairs["true"]),
        "six": {name: f1(pairs["six"], pairs["true"], name) for name in SIX},
        "num_compound": len(pairs["compound"]),
        "compound": {name: f1(pairs["pair"], pairs["compound"], name) for name in PAIRS},
        "present": present,
    }


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def noisy_scores(rows: list[dict[str, Any]], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Six probabilities correlated with the votes; every ninth picture of the table is missing."""
    out = []
    for number, row in enumerate(rows):
        probs = np.clip([0.07 * int(row[emotion]) + rng.uniform(0, 0.5) for emotion in SIX], 0, 1)
        if number % 9:
            out.append({"index": row["index"], **dict(zip(SIX, np.round(probs, 5).tolist(), strict=True))})
    return out


@pytest.fixture
def votes() -> list[dict[str, Any]]:
    rng = np.random.default_rng(8)
    rows = []
    for index in range(900):
        strengths = rng.dirichlet(np.array([2, 2, 3, 2, 2, 1, 2, 0.3, 0.5, 0.2]) * 0.5)
        counts = dict(zip(VOTES, rng.multinomial(10, strengths).tolist(), strict=True))
        split = "PublicTest" if index % 2 else "Training"
        copy = int(split == "PublicTest" and index % 7 == 0)
        rows.append({"index": index, "name": f"fer{index:07d}.png", "split": split, **counts, "dup_in_training": copy})
    return rows


def run(*arguments: str | Path, out: Path) -> dict[str, Any]:
    assert main(["evaluate", *map(str, arguments), "--out", str(out), "--no-figures", "--quiet"]) == 0
    content: dict[str, Any] = json.loads((out / "metrics.json").read_text("utf-8"))
    return content


def test_votes_are_judged_by_the_rules(tmp_path: Path, votes: list[dict[str, Any]]) -> None:
    scores = noisy_scores(votes, np.random.default_rng(1))
    labels, table = write(tmp_path / "labels.csv", votes), write(tmp_path / "scores.csv", scores)
    got = run(table, "--labels", labels, "--split", "PublicTest", "--bootstrap", "0", out=tmp_path / "out")
    want = expected(votes, {f"fer{row['index']:07d}.png": row for row in scores})
    assert got["emotions"]["num"] == want["num"] > 100
    assert got["emotions"]["f1"] == pytest.approx(want["six"], abs=1e-6)
    assert got["emotions"]["num_missed"] > 10 and got["emotions"]["num_missed"] < got["emotions"]["num"]
    assert got["compound"]["num"] == want["num_compound"] > 50
    assert got["compound"]["f1"] == pytest.approx(want["compound"], abs=1e-6)
    assert got["compound"]["present"] == want["present"]
    shown = [want["compound"][name] for name in want["present"]]
    assert got["compound"]["macro_f1_present"] == pytest.approx(np.mean(shown), abs=1e-6)
    assert got["emotions"]["macro_f1_interval"] is None  # without draws


def test_a_table_of_compound_labels_gives_the_same_as_the_votes(tmp_path: Path, votes: list[dict[str, Any]]) -> None:
    scores = write(tmp_path / "scores.csv", noisy_scores(votes, np.random.default_rng(2)))
    of_votes = run(scores, "--labels", write(tmp_path / "labels.csv", votes), out=tmp_path / "a")
    rows = []
    for row in votes:
        single = expected([{**row, "split": "PublicTest"}], {})
        if single["num_compound"]:
            name = next(
                name for name, pair in PAIRS.items() if set(pair) == set(sorted(SIX, key=lambda e: -row[e])[:2])
            )
            rows.append({key: row[key] for key in ("index", "name", "split", "dup_in_training")} | {"compound": name})
    of_words = run(scores, "--labels", write(tmp_path / "compound.csv", rows), out=tmp_path / "b")
    assert of_words["emotions"] is None  # it has no labels of the six
    assert of_words["compound"]["f1"] == of_votes["compound"]["f1"]
    assert of_words["compound"]["confusion"] == of_votes["compound"]["confusion"]


@pytest.mark.shared
@pytest.mark.parametrize("with_compound_table", [False, True])
def test_figures_equal_those_of_the_script(tmp_path: Path, shared_data: Path, with_compound_table: bool) -> None:
    script = shared_data.parent / "tools" / "score_ferplus.py"
    if not script.is_file():
        pytest.skip(f"no {script}")
    with (shared_data / "ferplus" / "labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "PublicTest"]
    scores = write(tmp_path / "scores.csv", noisy_scores(rows, np.random.default_rng(3)))
    command = [sys.executable, str(script), str(scores), "--labels", str(shared_data / "ferplus")]
    said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    labels = shared_data / "ferplus" / ("compound.csv" if with_compound_table else "labels.csv")
    got = run(scores, "--labels", labels, "--split", "PublicTest", "--bootstrap", "20", out=tmp_path / "out")
    pairs = [("compound", "compound")] + [("six", "emotions")] * (not with_compound_table)
    for theirs, ours in pairs:
        want, have = said[theirs], got[ours]
        assert have["num"] == want["n"]
        assert have["accuracy"] == pytest.approx(want["accuracy"], abs=5.1e-5)
        assert have["macro_f1_present"] == pytest.approx(want["macro_f1"], abs=1.1e-4)  # the script averages rounded F1
        assert {name: have["f1"][name] for name in want["f1"]} == pytest.approx(want["f1"], abs=5.1e-5)
    assert (got["emotions"] is None) == with_compound_table


def labelled_scores(rows: list[dict[str, Any]], rng: np.random.Generator) -> list[dict[str, Any]]:
    """noisy_scores with a label that is often right, and an overconfident probability."""
    out = []
    by_index = {row["index"]: row for row in rows}
    for row in noisy_scores(rows, rng):
        votes = by_index[row["index"]]
        ranked = sorted(SIX, key=lambda emotion: -int(votes[emotion]))
        pair = next((name for name, pair in PAIRS.items() if set(pair) == set(ranked[:2])), "none")
        guess = ["none", ranked[0], pair, "Angrily Disgusted", *SIX][
            rng.choice(10, p=[0.3, 0.4, 0.2, 0.01, *[0.015] * 6])
        ]
        out.append(row | {"expression": guess, "expression_probability": round(float(rng.uniform(0.3, 1)), 4)})
    return out


def expected_expression(rows: list[dict[str, Any]], given: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """The figures of the label for people, implemented from the rule in the documentation."""
    pairs = []
    for row in rows:
        if row["split"] != "PublicTest" or row["dup_in_training"] or row["NF"]:
            continue
        single = expected([row], {})
        ranked = sorted(SIX, key=lambda emotion: -row[emotion])
        if single["num_compound"]:
            true = next(name for name, pair in PAIRS.items() if set(pair) == set(ranked[:2]))
        elif row["neutral"] >= 6:
            true = "none"
        elif row[ranked[0]] >= 6:
            true = ranked[0]
        else:
            continue
        got = given.get(row["index"], {})
        pairs.append((true, got.get("expression"), got.get("expression_probability")))
    true, said = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    present = [name for name in ("none", *SIX, *PAIRS) if true.count(name) >= 3]
    other = [name in PAIRS for (t, name, _) in pairs if t not in PAIRS]
    bins: dict[int, list[float]] = {}
    for t, name, prob in pairs:
        if prob is not None:
            bins.setdefault(min(9, int(prob * 10)), []).append((t == name) - prob)
    return {
        "num": len(pairs),
        "accuracy": np.mean([t == name for t, name in zip(true, said, strict=True)]),
        "macro_f1_present": np.mean([f1(said, true, name) for name in present]),
        "compound_said_of_others": np.mean(other),
        "compound_found": np.mean([t == name for t, name, _ in pairs if t in PAIRS]),
        "ece": sum(abs(sum(values)) for values in bins.values()) / sum(map(len, bins.values())),
    }


def test_the_label_for_people_is_judged_by_its_rule(tmp_path: Path, votes: list[dict[str, Any]]) -> None:
    scores = labelled_scores(votes, np.random.default_rng(4))
    labels, table = write(tmp_path / "labels.csv", votes), write(tmp_path / "scores.csv", scores)
    got = run(table, "--labels", labels, "--split", "PublicTest", "--bootstrap", "200", out=tmp_path / "out")
    want = expected_expression(votes, {row["index"]: row for row in scores})
    have = got["expression"]
    assert want["num"] > 100 and want["compound_found"] > 0.05 < want["compound_said_of_others"]
    assert {name: have[name] for name in want} == pytest.approx(want, abs=1e-6)
    for name in ("accuracy", "macro_f1_present", "compound_said_of_others", "compound_found", "ece"):
        low, high = have[f"{name}_interval"]
        assert low < high and low - 0.05 < have[name] < high + 0.05
    assert sum(map(sum, have["confusion"]["rows"])) == want["num"]
    page = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert "## One label for each face" in page and "other faces called a compound" in page and "ECE in 10 bins" in page


def test_tables_without_the_label_are_not_judged_by_it(tmp_path: Path, votes: list[dict[str, Any]]) -> None:
    scores = write(tmp_path / "scores.csv", noisy_scores(votes, np.random.default_rng(1)))
    got = run(scores, "--labels", write(tmp_path / "labels.csv", votes), out=tmp_path / "out")
    assert got["expression"] is None and got["emotions"] is not None


@pytest.mark.shared
def test_figures_of_the_label_equal_those_of_the_script(tmp_path: Path, shared_data: Path) -> None:
    script = shared_data.parent / "tools" / "score_expression.py"
    if not script.is_file():
        pytest.skip(f"no {script}")
    labels = shared_data / "ferplus" / "labels.csv"
    with labels.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "PublicTest"]
    scores = write(tmp_path / "scores.csv", labelled_scores(rows, np.random.default_rng(5)))
    command = [sys.executable, str(script), str(scores), "--labels", str(shared_data / "ferplus")]
    want = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    have = run(scores, "--labels", labels, "--split", "PublicTest", "--bootstrap", "0", out=tmp_path / "out")[
        "expression"
    ]
    assert have["num"] == want["n"] > 2000
    for ours, theirs in (("accuracy", "accuracy"), ("macro_f1_present", "macro_f1"), ("ece", "ece")):
        assert have[ours] == pytest.approx(want[theirs], abs=1.1e-4), ours
    for name in ("compound_said_of_others", "compound_found"):
        assert have[name] == pytest.approx(want[name], abs=5.1e-5), name
    assert {name: have["f1"][name] for name in want["f1"]} == pytest.approx(want["f1"], abs=5.1e-5)
