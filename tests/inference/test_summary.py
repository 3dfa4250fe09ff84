"""The summary lines on screen: faces, labels, and the share of weak faces."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from femae.inference.console import Summary
from femae.types import Face, FaceResult, Frame, FrameResult


def frame(index: int, *faces: FaceResult) -> FrameResult:
    return FrameResult(
        frame=Frame(index=index, time_s=0.0, image=None, source="x"), status="ok" if faces else "no_face", faces=faces
    )


def face(probs: Sequence[float], compound: str, *, expression: str = "none", face_id: int = 1) -> FaceResult:
    return FaceResult(
        face=Face(box_xyxy=np.array([0, 0, 9, 9], np.float32), landmarks=None, score=0.9),
        face_id=face_id,
        probs=np.array(probs, np.float32),
        scores=np.zeros(7, np.float32),
        compound=compound,
        compound_score=0.5,
        expression=expression,
        expression_probability=0.7,
    )


BLEND = face([0.45, 0.45, 0, 0, 0, 0], "Fearfully Surprised", expression="Fearfully Surprised")
NOTHING = face([0.01, 0.01, 0.01, 0.1, 0.2, 0.1], "Sadly Angry")
CLEAR = face([0, 0, 0, 0.9, 0, 0], "Happily Surprised", expression="happiness", face_id=2)
FRAMES = [(BLEND,), (NOTHING,), (NOTHING,), (CLEAR, face([0.9] * 6, "")), ()]


def test_the_line_tells_the_share_of_each_expression() -> None:
    summary = Summary("clip")
    for number, faces in enumerate(FRAMES, 1):
        summary.add(frame(number, *faces))
    lines = summary.lines(outputs=[Path("clip.csv")], film=True)
    assert lines[0].startswith("clip: 5 frames (4 with a face, 1 without), 2 face ids")
    assert lines[1:] == ["  none 60%, Fearfully Surprised 20%, happiness 20%", "  -> clip.csv"]


def test_compounds_of_faces_that_show_nothing_are_counted_by_themselves() -> None:
    summary = Summary("clip", labels="compound")
    for number, faces in enumerate(FRAMES, 1):
        summary.add(frame(number, *faces))
    lines = summary.lines(outputs=[Path("clip.csv")], film=True)
    assert lines[1] == "  nothing clear 40%, Fearfully Surprised 20%, Happily Surprised 20%, abstained 20%"
    assert "less than 0.5" in lines[2] and lines[3] == "  -> clip.csv"


def test_without_faces_or_weak_ones_nothing_is_said_of_them() -> None:
    summary = Summary("clip", labels="compound")
    summary.add(frame(1))
    assert len(summary.lines(outputs=[], film=False)) == 1
    summary.add(frame(2, CLEAR))
    assert summary.lines(outputs=[], film=False)[1:] == ["  Happily Surprised 100%"]
