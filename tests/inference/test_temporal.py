"""The streaming stage against the offline functions run on the whole series of each face id, and its delay."""

import itertools
import tracemalloc
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from femae.compound.rules import combine, decide
from femae.compound.smoothing import interpolate_gaps, smooth
from femae.errors import ConfigError
from femae.inference.temporal import TemporalStage
from femae.labels import ABAW_COMPOUNDS
from femae.types import Face, FaceResult, Frame, FrameResult

Floats = npt.NDArray[np.float32]


def face_result(face_id: int, *, probs: Floats, box: Sequence[float] = (0, 0, 10, 10)) -> FaceResult:
    scores = combine(probs[None], compounds=ABAW_COMPOUNDS)
    names, best = decide(scores, compounds=ABAW_COMPOUNDS)
    face = Face(box_xyxy=np.array(box, np.float32), landmarks=np.zeros((5, 2), np.float32), score=0.9)
    return FaceResult(
        face=face,
        face_id=face_id,
        probs=probs,
        scores=scores[0],
        compound=names[0],
        compound_score=float(best[0]),
        au_probs=probs[:2].copy(),
    )


def frame_result(
    index: int, *, time_s: float | None, faces: Sequence[FaceResult] = (), unreadable: bool = False
) -> FrameResult:
    image = None if unreadable else np.zeros((4, 4, 3), np.uint8)
    frame = Frame(index=index, time_s=time_s, image=image, source="clip.mp4")
    status = "unreadable" if unreadable else "ok" if faces else "no_face"
    return FrameResult(frame=frame, status=status, faces=tuple(faces))  # type: ignore[arg-type]


def stage(window_s: float, max_gap_s: float, threshold: float | None = None) -> TemporalStage:
    return TemporalStage(window_s=window_s, max_gap_s=max_gap_s, compounds=ABAW_COMPOUNDS, threshold=threshold)


@st.composite
def films(draw: st.DrawFn) -> list[FrameResult]:
    """Three faces that appear and disappear, unreadable frames, frames without a time, equal times, long gaps."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps = rng.choice([0.0, 0.033, 0.04, 0.2, 1.5], size=draw(st.integers(0, 40)), p=[0.05, 0.35, 0.35, 0.2, 0.05])
    present, results, time_s = np.zeros(3, bool), [], 0.5
    for index, step in enumerate(steps, start=1):
        time_s += float(step)
        present ^= rng.random(3) < 0.3
        faces = []
        for face_id in np.flatnonzero(present) + 1:
            box = rng.random(4) * 100
            faces.append(face_result(int(face_id), probs=rng.random(6, np.float32), box=box.tolist()))
        kind = rng.random()
        if kind < 0.1:
            results.append(frame_result(index, time_s=time_s, unreadable=True))
        else:
            results.append(frame_result(index, time_s=None if kind < 0.15 else time_s, faces=faces))
    return results


def offline(results: list[FrameResult], *, window_s: float, max_gap_s: float) -> dict[tuple[int, int], Floats]:
    """Values [6 probs, 4 box, 2 action units] by (frame, face id), computed on whole series."""
    usable = [r for r in results if r.frame.time_s is not None and r.status != "unreadable"]
    times = np.array([r.frame.time_s for r in usable], np.float64)
    values: dict[tuple[int, int], Floats] = {}
    for face_id in {face.face_id for r in usable for face in r.faces}:
        series = np.zeros((len(usable), 12), np.float32)
        known = np.zeros(len(usable), np.bool_)
        for row, result in enumerate(usable):
            for face in result.faces:
                if face.face_id == face_id:
                    series[row] = np.concatenate([face.probs, face.face.box_xyxy, face.au_probs])
                    known[row] = True
        filled, known = interpolate_gaps(times, series, known, max_gap_s=max_gap_s)
        smoothed = smooth(times[known], filled[known][:, :6], window_s=window_s)
        for place, row in enumerate(np.flatnonzero(known)):
            values[usable[row].frame.index, face_id] = np.concatenate([smoothed[place], filled[row, 6:]])
    return values


few = settings(max_examples=80, deadline=None)
SECONDS = st.sampled_from([0.0, 0.05, 0.3, 1.0, 4.0])


@few
@given(results=films(), window_s=SECONDS, max_gap_s=SECONDS)
def test_streaming_equals_offline(results: list[FrameResult], window_s: float, max_gap_s: float) -> None:
    out = list(stage(window_s, max_gap_s)(iter(results)))
    assert [r.frame for r in out] == [r.frame for r in results]  # the same frames, each once, in order
    wanted = offline(results, window_s=window_s, max_gap_s=max_gap_s)
    found = {}
    for before, after in zip(results, out, strict=True):
        if before.frame.time_s is None or before.status == "unreadable":
            assert after is before
            continue
        assert [face.face_id for face in after.faces] == sorted(face.face_id for face in after.faces)
        assert after.status == ("ok" if after.faces else "no_face")
        measured = {face.face_id: face for face in before.faces}
        for face in after.faces:
            found[after.frame.index, face.face_id] = np.concatenate([face.probs, face.face.box_xyxy, face.au_probs])
            assert face.filled == (face.face_id not in measured) == np.isnan(face.face.score)
            if face.filled:
                assert face.raw_probs is None and face.face.landmarks is None
            elif window_s > 0:
                assert face.raw_probs is measured[face.face_id].probs
            else:
                assert face is measured[face.face_id]
            scores = combine(face.probs[None], compounds=ABAW_COMPOUNDS)
            names, best = decide(scores, compounds=ABAW_COMPOUNDS)
            np.testing.assert_allclose(face.scores, scores[0], rtol=1e-6)
            assert face.compound == names[0] and face.compound_score == pytest.approx(float(best[0]))
    assert found.keys() == wanted.keys()
    for key, values in wanted.items():
        np.testing.assert_array_equal(found[key], values)  # to the last bit


@few
@given(results=films(), window_s=SECONDS, max_gap_s=SECONDS)
def test_no_frame_waits_longer_than_window_and_gap(
    results: list[FrameResult], window_s: float, max_gap_s: float
) -> None:
    for seen, waiting in held_back(stage(window_s, max_gap_s), results):
        times = [r.frame.time_s for r in seen if r.frame.time_s is not None]
        for result in waiting:
            if result.frame.time_s is not None:
                assert times[-1] - result.frame.time_s <= window_s + max_gap_s + 1e-5


@few
@given(results=films(), other=films(), window_s=SECONDS, max_gap_s=SECONDS)
def test_what_went_out_depends_on_nothing_later(
    results: list[FrameResult], other: list[FrameResult], window_s: float, max_gap_s: float
) -> None:
    """Frames yielded before two films diverge are the same with either ending."""
    cut = len(results) // 2
    start = next((r.frame.time_s for r in reversed(results[:cut]) if r.frame.time_s is not None), 0.0)
    ending = [
        frame_result(1000 + r.frame.index, time_s=start + r.frame.time_s - 0.5, faces=r.faces)
        for r in other
        if r.frame.time_s is not None
    ]
    runs = [list(stage(window_s, max_gap_s)(iter(results[:cut] + rest))) for rest in (results[cut:], ending, [])]
    num_out = cut - len(list(held_back(stage(window_s, max_gap_s), results[:cut]))[-1][1]) if cut else 0
    for rows in zip(*(run[:num_out] for run in runs), strict=True):
        signatures = [[(f.face_id, f.filled, f.probs.tobytes()) for f in row.faces] for row in rows]
        assert signatures[0] == signatures[1] == signatures[2]


def held_back(
    temporal: TemporalStage, results: list[FrameResult]
) -> Iterator[tuple[list[FrameResult], list[FrameResult]]]:
    """After each input frame: the frames so far, and those of them still held back."""
    seen: list[FrameResult] = []
    states: list[tuple[list[FrameResult], list[FrameResult]]] = []
    num_out = 0

    def feed() -> Iterator[FrameResult]:
        for result in results:
            seen.append(result)
            yield result
            states.append((list(seen), seen[num_out:]))  # the stage requests the next frame: all final ones are out

    for _ in temporal(feed()):
        num_out += 1
    yield from states


def probabilities(value: float) -> Floats:
    return np.full(6, value, np.float32)


def test_a_short_absence_is_filled_on_a_straight_line() -> None:
    one = face_result(1, probs=probabilities(0.2), box=(0, 0, 10, 10))
    two = face_result(1, probs=probabilities(0.8), box=(30, 0, 40, 10))
    results = [
        frame_result(1, time_s=0.0, faces=[one]),
        frame_result(2, time_s=0.1),
        frame_result(3, time_s=0.2, unreadable=True),
        frame_result(4, time_s=0.3, faces=[two]),
    ]
    out = list(stage(0, 0.5)(iter(results)))
    assert [r.status for r in out] == ["ok", "ok", "unreadable", "ok"]
    filled = out[1].faces[0]
    assert filled.filled and filled.face_id == 1
    np.testing.assert_allclose(filled.probs, 0.4, rtol=1e-6)
    np.testing.assert_allclose(filled.face.box_xyxy, [10, 0, 20, 10], rtol=1e-6)
    assert filled.compound_score == pytest.approx(0.8) and filled.compound == "Fearfully Surprised"
    assert out[0].faces[0] is one and out[3].faces[0] is two
    assert [r.status for r in stage(0, 0.25)(iter(results))] == ["ok", "no_face", "unreadable", "ok"]


def test_threshold_is_applied_to_the_smoothed_scores() -> None:
    results = [
        frame_result(i, time_s=i * 0.1, faces=[face_result(1, probs=probabilities(i % 2))]) for i in range(1, 20)
    ]
    out = list(stage(2.0, 0, threshold=1.5)(iter(results)))
    assert {r.faces[0].compound for r in out} == {""}
    assert all(0.7 < r.faces[0].compound_score < 1.3 for r in out)


def test_pictures_pass_untouched_and_at_once() -> None:
    pictures = [frame_result(1, time_s=None, faces=[face_result(1, probs=probabilities(0.5))]) for _ in range(5)]
    given_out = stage(1.0, 1.0)(iter(pictures))
    source = iter(pictures)
    for result in given_out:
        assert result is next(source)
    assert all(not waiting for _, waiting in held_back(stage(1.0, 1.0), pictures))


def test_nothing_asked_for_nothing_done() -> None:
    results = [frame_result(i, time_s=i / 25, faces=[face_result(1, probs=probabilities(i / 10))]) for i in range(1, 9)]
    assert all(a is b for a, b in zip(results, stage(0, 0)(iter(results)), strict=True))


def test_a_person_leaving_holds_the_stream_up_for_the_gap_only() -> None:
    here = face_result(1, probs=probabilities(0.5))
    results = [frame_result(i, time_s=i / 10, faces=[here] if i < 20 else []) for i in range(1, 200)]
    waits = [len(waiting) for _, waiting in held_back(stage(0, 1.0), results)]
    assert max(waits[:19]) == 0  # present: no delay
    assert max(waits) <= 11  # one second of frames after the last sample
    assert max(waits[35:]) == 0  # gone: each frame passes at once


def test_time_that_steps_back_starts_anew() -> None:
    """Two recordings in one file: the second is smoothed independently of the first."""
    rng = np.random.default_rng(5)
    take = [
        frame_result(i, time_s=i / 25, faces=[face_result(1, probs=rng.random(6, np.float32))] if i % 7 else [])
        for i in range(1, 40)
    ]
    alone = list(stage(0.4, 0.4)(iter(take)))
    both = list(stage(0.4, 0.4)(iter(take + take)))
    for first, second in zip(alone + alone, both, strict=True):
        assert [f.probs.tobytes() for f in first.faces] == [f.probs.tobytes() for f in second.faces]


def test_memory_is_flat_in_the_length_of_the_film() -> None:
    """Two thousand frames with pictures of 30 kB and ever new faces: only the delayed frames are in memory."""
    rng = np.random.default_rng(1)

    def film() -> Iterator[FrameResult]:
        for i in itertools.count(1):
            time_s = i / 25
            faces = [face_result(1 + i // 50, probs=rng.random(6, np.float32))] if i % 10 else []
            frame = Frame(index=i, time_s=time_s, image=np.zeros((100, 100, 3), np.uint8), source="a")
            yield FrameResult(frame=frame, status="ok" if faces else "no_face", faces=tuple(faces))

    stream = stage(0.2, 0.4)(film())
    tracemalloc.start()
    try:
        peaks = []
        for _ in range(3):
            tracemalloc.reset_peak()
            for _ in itertools.islice(stream, 700):
                pass
            peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert max(peaks) < 1.5e6  # 15 frames of delay are 0.45 MB
    assert peaks[2] < 1.2 * peaks[1]


@pytest.mark.parametrize("seconds", [-0.1, float("nan"), float("inf")])
def test_seconds_out_of_range(seconds: float) -> None:
    with pytest.raises(ConfigError, match="smoothing window cannot be"):
        stage(seconds, 0)
    with pytest.raises(ConfigError, match="longest gap to fill cannot be"):
        stage(0, seconds)
