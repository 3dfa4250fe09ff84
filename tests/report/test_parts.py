"""The parts of reports that need no browser: reading, decimation, JSON, budgets, comparison, figures, errors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from femae.cli import main
from femae.compound.expression import ExpressionRule
from femae.config.model import ExpressionParams
from femae.config.report import ReportConfig
from femae.errors import ConfigError, InputError, MissingDependencyError
from femae.labels import ABAW_COMPOUNDS, EMOTIONS
from femae.report.compare import agreement, condition_means, differences, film_means, read_conditions
from femae.report.film.contents import strongest
from femae.report.film.small_film import plan_film
from femae.report.parts.page import safe_json
from femae.report.parts.series import keep_peaks
from femae.report.parts.tables import read_alike, read_predictions
from femae.report.parts.tracks import SHARES_OF, clock_text, find_gaps, label_words, parts_of, split_tracks
from femae.report.training_runs.files import read_log


@pytest.mark.parametrize("labels", ["expression", "compound"])
@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_a_table_reads_the_same_from_every_format(
    suffix: str, labels: Any, tmp_path: Path, make_table: Callable[..., Any]
) -> None:
    table = make_table(num_frames=20, missing={2: range(1, 5)}, gaps={"no_face": range(8, 12)})
    direct = read_predictions(table, labels=labels)
    read = read_predictions(table.write(tmp_path / f"clip.{suffix}"), labels=labels)
    assert read.compounds == direct.compounds and len(read) == len(direct) and read.names == direct.names
    words = table.table[labels].to_pylist()
    assert [direct.name_of(row) for row in range(len(direct))] == [word or "" for word in words]
    for name in ("frame", "face_id", "status", "label", "source"):
        assert (getattr(read, name) == getattr(direct, name)).all(), name
    for name in ("time_s", "boxes", "emotions", "scores", "certainty"):
        np.testing.assert_allclose(getattr(read, name), getattr(direct, name), atol=1e-5, err_msg=name)


def test_what_is_no_table_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "a.txt").write_text("x")
    for name, words in (("a.csv", "no column source"), ("a.txt", "not a table format"), ("b.csv", "does not exist")):
        with pytest.raises(InputError, match=words):
            read_predictions(tmp_path / name)


@given(st.integers(1, 400), st.integers(1, 4), st.integers(10, 120), st.integers(0, 2**31))
def test_no_peak_is_lost_by_decimation(num_rows: int, columns: int, max_rows: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(num_rows, columns))
    kept = keep_peaks(values, max_rows=max_rows)
    assert (np.diff(kept) > 0).all() and kept[0] == 0 and kept[-1] == num_rows - 1
    assert len(kept) <= max(max_rows, 2 * columns + 1) + 2
    assert (values[kept].max(0) == values.max(0)).all() and (values[kept].min(0) == values.min(0)).all()


@given(st.text())
def test_json_cannot_end_a_script_and_says_the_same(text: str) -> None:
    written = safe_json({"name": text, "nan": float("nan")})
    assert not set("<>&'\u2028\u2029") & set(written)
    assert json.loads(written) == {"name": text, "nan": None}


def test_the_film_keeps_to_its_budget() -> None:
    plan = plan_film(max_bytes=15e6, duration_s=600)
    assert plan is not None and plan.sound and plan.longest == 640 and plan.bits * 600 / 8 < 15e6
    short = plan_film(max_bytes=15e6, duration_s=5)
    assert short is not None and short.longest == 854
    assert plan_film(max_bytes=15e6, duration_s=3 * 3600) is None


def test_stretches_gaps_and_clock(make_table: Callable[..., Any]) -> None:
    assert parts_of(np.array([1, 2, 3, 7, 9, 10])) == [(1, 3), (7, 7), (9, 10)]
    gaps = find_gaps(read_predictions(make_table(num_frames=9, gaps={"no_face": [1, 2], "unreadable": [9]})))
    assert [(gap.status, gap.from_frame, gap.to_frame) for gap in gaps] == [("no_face", 1, 2), ("unreadable", 9, 9)]
    assert [clock_text(t) for t in (0, 59.9996, 3600.5)] == ["0:00.000", "1:00.000", "1:00:00.500"]


@pytest.mark.parametrize("labels", ["expression", "compound"])
def test_the_strongest_moments_are_peaks_of_what_is_shown(labels: Any, make_table: Callable[..., Any]) -> None:
    table = read_predictions(make_table(num_frames=500, lift=-0.15), labels=labels)
    tracks = split_tracks(table)
    moments = strongest(tracks)
    assert moments == sorted(moments, key=lambda m: -m.certainty) and {m.track for m in moments} == {0, 1}
    shown = {table.name_of(moment.row) for moment in moments}
    assert "none" not in shown and len(shown) > 2
    for moment in moments:
        assert moment.certainty == table.certainty[moment.row]
        near = tracks[moment.track].rows
        near = near[np.abs(table.time_s[near] - table.time_s[moment.row]) < 1]
        assert table.certainty[near[table.label[near] == table.label[moment.row]]].max() == np.float32(moment.certainty)
    said = (table.label >= 0) & (table.label != table.quiet)
    assert moments[0].certainty == table.certainty[said].max()


def test_what_a_probability_means_is_said_where_it_is_known() -> None:
    fitted = ExpressionRule(ABAW_COMPOUNDS, params=ExpressionParams(num_faces=9)).describe()
    notes = [
        label_words("expression", SHARES_OF[0], settings=settings)["note"]
        for settings in ({"expression": fitted}, {"expression": ExpressionRule(ABAW_COMPOUNDS).describe()}, {})
    ]
    assert "annotators agree on about seven" in notes[0] and "are rough" in notes[1]
    assert notes[0].startswith(notes[2]) and notes[1].startswith(notes[2]) and "rough" not in notes[2]
    assert "mean scores" in label_words("compound", SHARES_OF[1], settings={"expression": fitted})["note"]


def test_tables_are_compared_by_a_label_that_all_have(tmp_path: Path, make_table: Callable[..., Any]) -> None:
    table = make_table(num_frames=20)
    new = table.write(tmp_path / "new.parquet")
    old = tmp_path / "old.parquet"
    pq.write_table(table.table.drop_columns(["expression", "expression_probability"]), old)
    assert [read.labels for read in read_alike([new, new], labels="expression")] == ["expression"] * 2
    first, second = read_alike([new, old], labels="expression")
    assert first.labels == second.labels == "compound" and (first.label == second.label).all()
    assert first.problems == () and len(second.problems) == 1 and "no column expression" in second.problems[0]


def test_a_log_after_a_resume_counts_the_later_lines(tmp_path: Path) -> None:
    lines = [{"kind": "step", "step": step, "loss": 1.0} for step in range(1, 8)]
    lines += [{"kind": "resume", "step": 4}, *({"kind": "step", "step": step, "loss": 2.0} for step in (5, 6))]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"kind": "st')
    log = read_log(tmp_path / "log.jsonl")
    assert log.column("steps", "loss").tolist() == [1, 1, 1, 1, 2, 2] and log.num_resumes == 1 and log.num_bad == 1


def test_two_tables_of_one_film_agree_where_they_are_equal(make_table: Callable[..., Any]) -> None:
    first = read_predictions(make_table(num_frames=50))
    same = agreement(first, first)
    assert same.num_both == 100 and same.same_label == 1 and same.differences.max() == 0
    np.testing.assert_allclose(same.correlations, 1)
    lifted = agreement(first, read_predictions(make_table(num_frames=50, lift=0.1)))
    assert 0.05 < lifted.differences.mean() <= 0.1001 and lifted.same_label > 0.5


def test_conditions_differ_by_what_was_put_in(make_table: Callable[..., Any]) -> None:
    def films(lift: float, first_seed: int) -> list[Any]:
        tables = [make_table(num_frames=40, seed=first_seed + n, lift=lift, source=f"{n}.mp4") for n in range(5)]
        return [film for table in tables for film in film_means(read_predictions(table))]

    calm, moved = films(0.0, 0), films(0.15, 0)
    change = differences(moved, calm)
    assert all(0.05 < estimate.value <= 0.1501 for estimate in change[:6])
    means = condition_means(calm)
    assert all(estimate.low <= estimate.value <= estimate.high for estimate in means)
    assert means == condition_means(calm)  # equal inputs, equal intervals
    assert np.isnan(condition_means(calm[:2])[0].low)  # too few films


def test_conditions_are_checked(tmp_path: Path) -> None:
    for text, words in (
        ("film,group\na,b\n", "needs the columns"),
        ("source,condition\na,x\na,y\n", "two conditions"),
        ("source,condition\n", "names no source"),
    ):
        (tmp_path / "c.csv").write_text(text)
        with pytest.raises(InputError, match=words):
            read_conditions(tmp_path / "c.csv")


def test_figures_for_print(tmp_path: Path, make_table: Callable[..., Any]) -> None:
    table = make_table(num_frames=60, missing={1: range(20, 30)}).write(tmp_path / "clip.csv")
    assert main(["report", str(table), "--figures", "--format", "pdf,svg,png", "--out", str(tmp_path / "f")]) == 0
    names = {path.name for path in (tmp_path / "f").iterdir()}
    figures = ("clip-shares", "clip-timeline-1", "clip-timeline-2")
    assert names == {f"{name}.{kind}" for name in figures for kind in ("pdf", "svg", "png")}
    pdf = (tmp_path / "f" / "clip-timeline-1.pdf").read_bytes()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf  # embedded TrueType, no Type 3 fonts
    with Image.open(tmp_path / "f" / "clip-shares.png") as picture:
        assert abs(picture.width / 600 * 25.4 - 85) < 0.2
    with Image.open(tmp_path / "f" / "clip-timeline-1.png") as picture:
        assert abs(picture.width / 600 * 25.4 - 178) < 0.2
    seen = set(pyarrow.csv.read_csv(table)["expression"].to_pylist())
    for name, words in (("shares", seen), ("timeline-1", {*EMOTIONS, "probability", "expression"})):
        text = (tmp_path / "f" / f"clip-{name}.svg").read_text("utf-8")
        assert len(words) > 2 and all(f">{word}</text>" in text for word in words), name
    paper = ["--labels", "compound", "--format", "svg", "--out", str(tmp_path / "paper")]
    assert main(["report", str(table), "--figures", *paper]) == 0
    for name in ("shares", "timeline-1"):
        text = (tmp_path / "paper" / f"clip-{name}.svg").read_text("utf-8")
        assert all(f">{compound.name}</text>" in text for compound in ABAW_COMPOUNDS), name


def test_options_that_do_not_go_together_are_refused(tmp_path: Path, make_table: Callable[..., Any]) -> None:
    from femae.report.run import run_report

    table, other = make_table(num_frames=5).write(tmp_path / "a.csv"), tmp_path / "x.mp4"
    other.touch()
    (tmp_path / "run").mkdir()
    for settings, kind in (
        ({"inputs": (tmp_path / "run",), "film": other}, ConfigError),
        ({"inputs": (table,), "pictures": tmp_path}, ConfigError),
        ({"inputs": (table,), "film": tmp_path / "none.mp4"}, InputError),
        ({"inputs": (tmp_path / "run",)}, InputError),
    ):
        with pytest.raises(kind):
            run_report(ReportConfig(out=tmp_path / "out", **settings))
    with pytest.raises(ConfigError, match="figure format"):
        ReportConfig(inputs=(table,), format="gif")


def test_the_missing_extra_is_told_before_the_run(
    tmp_path: Path, carphone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    assert main(["predict", str(carphone), "--report", "--out", str(tmp_path / "out")]) == 2
    assert "femae[report]" in capsys.readouterr().err and not (tmp_path / "out").exists()
    with pytest.raises(MissingDependencyError):
        main(["predict", str(carphone), "--report", "--out", str(tmp_path / "out"), "--debug"])


def test_report_reads_a_scores_table_without_emotions(tmp_path: Path) -> None:
    from femae.report.training_runs.files import read_scores

    pq.write_table(
        pa.table({"key": ["a"], "AU01": [0.5], "target_AU01": pa.array([None], pa.float32())}), tmp_path / "s"
    )
    emotions, units = read_scores(tmp_path / "s")
    assert emotions is None and units is not None and not units.mask.any()


def test_speed_and_use_of_the_device_are_drawn_where_the_log_has_them() -> None:
    from femae.report.training_runs.files import RunLog
    from femae.report.training_runs.page import curve_figures

    step = {
        "step": 1,
        "epoch": 0.5,
        "loss": 1.0,
        "pictures_per_s": 900.0,
        "data_wait": 0.25,
        "mfu": 0.4,
        "memory_mb": 7.0,
    }
    log = RunLog(steps=[step, step | {"step": 2, "epoch": 1.0, "mfu": 1.2}])
    charts = {figure["caption"]: str(figure["svg"]) for figure in curve_figures(log)}
    assert {"Loss", "Speed", "Device utilisation", "Memory"} <= set(charts)
    assert "waiting for data" in charts["Device utilisation"] and "arithmetic used" in charts["Device utilisation"]
    old = RunLog(steps=[{"step": 1, "epoch": 0.5, "loss": 1.0}])
    assert [figure["caption"] for figure in curve_figures(old)] == ["Loss"]
