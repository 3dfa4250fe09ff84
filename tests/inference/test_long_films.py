"""Films processed in parts against the same films undivided: rows, ids, labels; and the file of a part's results."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pytest
from PIL import Image

from femae.cli import main
from femae.config.predict import DetectConfig, PredictConfig, RuleConfig
from femae.errors import ConfigError, OutputError
from femae.inference.console import RunConsole
from femae.inference.joining import joined, read_part, read_part_notes, write_part
from femae.inference.predictor import Predictor
from femae.inference.work import UnitWorker
from femae.inference.work_unit import WorkUnit
from femae.types import Face, FaceResult, Frame, FrameResult
from femae.video.discover import discover
from femae.video.source import Tally

Picture = npt.NDArray[np.uint8]
NUM_FRAMES, STEP_S = 60, 6  # one every six seconds
IN_THREE = ["--part-minutes", "2", "--smooth", "1.5", "--quiet"]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, make_video: Callable[..., Path], astronaut: Picture) -> Path:
    """Six minutes: one face moves back and forth, the other is absent for 50 s across the border of parts at 120 s."""
    face = np.asarray(Image.fromarray(astronaut[20:220, 130:330]).resize((110, 110)))
    other = face[:, ::-1, ::-1]  # the colours of another person
    blotches = np.random.default_rng(3).integers(60, 190, (6, 10, 3), dtype=np.uint8)
    scene = np.asarray(Image.fromarray(blotches).resize((400, 224), Image.Resampling.BICUBIC))
    pictures = []
    for second in range(0, STEP_S * NUM_FRAMES, STEP_S):
        picture = scene.copy()
        x = 20 + round(30 * (1 + np.sin(second / 9)))
        picture[60:170, x : x + 110] = face
        if not (95 <= second < 145 or second >= 300):
            picture[50:160, 260:370] = other
        pictures.append(picture)
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    return make_video(path, pictures, rate=Fraction(1, STEP_S), options={"g": "5", "bf": "2"})


@pytest.fixture(scope="module")
def table(film: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The table of one process with one thread, in parts of two minutes."""
    out = tmp_path_factory.mktemp("one")
    assert main(["predict", str(film), "--out", str(out), "--threads", "1", *IN_THREE]) == 0
    return (out / "long.csv").read_bytes()


def test_a_film_in_parts_has_the_rows_and_ids_of_the_uncut_one(film: Path) -> None:
    parts = Predictor(part_minutes=1, threads=1).predict(film)
    whole = Predictor(part_minutes=0, threads=1).predict(film)
    assert len(parts) == len(whole) and parts.problems == whole.problems == ()
    for column in ("source", "frame", "time_s", "face_id", "status"):
        assert parts.table[column].equals(whole.table[column]), column
    assert pc.unique(whole.table["face_id"]).to_pylist() == [1, 2]
    for column in ("x1", "y2", "happiness", "sadness"):
        differences = np.abs(parts.table[column].to_numpy() - whole.table[column].to_numpy())
        assert differences.max() < 1e-4 * (400 if column in ("x1", "y2") else 1), column
    assert parts.table["expression"].equals(whole.table["expression"])


def test_one_process_twice_and_more_threads_give_the_same_table(film: Path, table: bytes, tmp_path: Path) -> None:
    assert main(["predict", str(film), "--out", str(tmp_path), "--threads", "3", *IN_THREE]) == 0
    assert (tmp_path / "long.csv").read_bytes() == table


def test_workers_say_how_a_film_is_divided_and_join_what_is_there(film: Path, table: bytes, tmp_path: Path) -> None:
    """A worker that joins parts processes those that are missing, as after another worker's death."""
    out = tmp_path / "there"
    config = PredictConfig(
        inputs=(str(film),), out=out, detect=DetectConfig(part_minutes=2), rules=RuleConfig(smooth=1.5)
    )
    worker, quiet = UnitWorker(config, shared=True), RunConsole(quiet=True).frames_of
    (item,) = discover([str(film)])
    unit = WorkUnit(number=0, item=item, stem="long")
    divided = worker(unit, frames_of=quiet)
    assert divided.num_parts == 3 and divided.record is None and not divided.error
    for part in (0, 2):
        done = worker(replace(unit, num_parts=3, part=part), frames_of=quiet)
        assert done.record is None and not done.error
    assert len(list((out / ".parts").iterdir())) == 2
    joined_up = worker(replace(unit, num_parts=3), frames_of=quiet)
    assert joined_up.record is not None and joined_up.record.num_frames == NUM_FRAMES, joined_up.error
    assert (out / "long.csv").read_bytes() == table
    assert not (out / ".parts").exists()
    alone = UnitWorker(config)(unit, frames_of=quiet)
    assert alone.record is not None and alone.record.num_frames == NUM_FRAMES


def a_face(face_id: int, x: float) -> FaceResult:
    box = np.array([x, 10, x + 20, 30], np.float32)
    rng = np.random.default_rng(round(x))
    return FaceResult(
        face=Face(box_xyxy=box, landmarks=None, score=0.9),
        face_id=face_id,
        probs=rng.random(6, np.float32),
        scores=rng.random(7, np.float32),
        compound="Sadly Angry",
        compound_score=0.7,
    )


def a_result(index: int, time_s: float, faces: dict[int, float]) -> FrameResult:
    frame = Frame(index=index, time_s=time_s, image=None, source="film.mp4")
    found = tuple(a_face(face_id, x) for face_id, x in sorted(faces.items()))
    return FrameResult(frame=frame, status="ok" if found else "no_face", faces=found)


def test_ids_go_on_where_faces_stood_in_the_same_places() -> None:
    first = [a_result(1, 0.0, {1: 100, 2: 200}), a_result(2, 1.0, {1: 102, 2: 199}), a_result(3, 2.0, {})]
    # the second part has numbered the same two faces the other way round, and has a new third one
    second = [
        a_result(0, 0.0, {1: 199, 2: 101}),
        a_result(0, 1.0, {1: 199, 2: 102}),
        a_result(0, 2.0, {}),
        a_result(1, 3.0, {2: 103}),
        a_result(2, 4.0, {1: 198, 2: 104, 3: 300}),
    ]
    third = [a_result(0, 4.0, {5: 50}), a_result(1, 5.0, {4: 51, 5: 104})]  # no face overlaps an earlier one
    frames = list(joined([first, second, third]))
    assert [result.frame.index for result in frames] == [1, 2, 3, 4, 5, 6]
    assert [[face.face_id for face in result.faces] for result in frames] == [
        [1, 2],
        [1, 2],
        [],
        [1],
        [1, 2, 3],
        [4, 5],
    ]
    assert [float(face.face.box_xyxy[0]) for face in frames[4].faces] == [104, 198, 300]


def test_an_id_that_agrees_seldom_is_a_new_one() -> None:
    first = [a_result(n + 1, float(n), {1: 100}) for n in range(10)]
    near = [a_result(0, float(n), {1: 100 if n < 4 else 300}) for n in range(10)]
    assert [f.faces[0].face_id for f in joined([first, [*near, a_result(1, 10.0, {1: 300})]])][-1] == 2
    near = [a_result(0, float(n), {1: 100 if n < 5 else 300}) for n in range(10)]
    assert [f.faces[0].face_id for f in joined([first, [*near, a_result(1, 10.0, {1: 300})]])][-1] == 1


def test_results_of_a_part_come_back_bit_by_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    full = replace(
        a_face(3, 40),
        face=Face(box_xyxy=rng.random(4, np.float32), landmarks=rng.random((5, 2), np.float32), score=1 / 3),
        au_probs=rng.random(5, np.float32),
        none_probs=np.array([0.1], np.float32),
        measured=np.array([np.nan, 2.5], np.float32),
        compound="",
        compound_score=float("nan"),
    )
    unscored = replace(a_face(1, 5), face=Face(box_xyxy=rng.random(4, np.float32), landmarks=None, score=float("nan")))
    lost = FrameResult(
        frame=Frame(index=2, time_s=0.1, image=None, source="é.mp4", problem="gone"), status="unreadable"
    )
    results = [
        FrameResult(frame=Frame(index=0, time_s=None, image=None, source="é.mp4"), status="ok", faces=(unscored, full)),
        lost,
        *(a_result(n, n / 3, {k: 20.0 * k for k in range(1, n % 4 + 1)}) for n in range(3, 700)),
    ]
    tally = Tally()
    path = tmp_path / "parts" / "a.parquet"

    def coming() -> object:
        for result in results:
            tally.add(0.5, lost=result.status == "unreadable", damaged=False)
            yield result

    write_part(path, coming(), tally=lambda: tally)  # type: ignore[arg-type]
    assert repr(list(read_part(path))) == repr(results)
    found, seconds = read_part_notes(path)
    assert found == tally and found.lost.number == 1 and found.lost.first_index == 2 and seconds > 0
    assert [entry.name for entry in path.parent.iterdir()] == ["a.parquet"]


def test_a_part_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def breaking() -> object:
        yield a_result(1, 0.0, {1: 5})
        raise ConfigError("no more")

    with pytest.raises(ConfigError):
        write_part(tmp_path / "a.parquet", breaking(), tally=Tally)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_part(tmp_path / "file" / "a.parquet", [], tally=Tally)
