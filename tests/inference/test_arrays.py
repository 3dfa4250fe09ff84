"""Pictures in memory: single arrays, lists, generators, and OpenCV's channel order."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import femae
from femae.errors import InputError

Picture = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def predictor() -> femae.Predictor:
    return femae.Predictor()


@pytest.fixture(scope="module")
def face(astronaut: Picture) -> Picture:
    return np.ascontiguousarray(astronaut[:300, 80:380])


def test_one_array_is_one_picture(predictor: femae.Predictor, face: Picture, tmp_path: Path) -> None:
    Image.fromarray(face).save(tmp_path / "a.png")
    of_file, of_array = (predictor.predict(x).to_pandas() for x in (tmp_path / "a.png", face))
    assert of_array.source.tolist() == ["array 1"] and of_array.expression.tolist() == ["happiness"]
    assert of_array.drop(columns="source").equals(of_file.drop(columns="source"))
    assert femae.predict(face).to_pandas().equals(of_array)


def test_colours_in_opencvs_order_gray_and_transparency(predictor: femae.Predictor, face: Picture) -> None:
    plain = predictor.predict(face).to_pandas()
    assert predictor.predict(face[..., ::-1], order="bgr").to_pandas().equals(plain)
    opaque = np.full((*face.shape[:2], 1), 255, np.uint8)
    for given, order in (
        (np.concatenate([face, opaque], axis=2), "rgb"),
        (np.concatenate([face[..., ::-1], opaque], axis=2), "bgr"),
        (Image.fromarray(face), "rgb"),
    ):
        assert predictor.predict(given, order=order).to_pandas().equals(plain)  # type: ignore[arg-type]
    gray = np.asarray(Image.fromarray(face).convert("L"))
    two, three = (predictor.predict(x).to_pandas() for x in (gray, gray[..., None]))
    assert two.equals(three) and two.expression.tolist() == ["happiness"]
    assert not predictor.predict(face[..., ::-1]).to_pandas().equals(plain)


def test_several_are_pictures_or_with_a_rate_a_film(predictor: femae.Predictor, face: Picture) -> None:
    pictures = predictor.predict([face, face[:, ::-1], np.zeros_like(face)]).to_pandas()
    assert pictures.source.tolist() == ["array 1", "array 2", "array 3"]
    assert pictures.status.tolist() == ["ok", "ok", "no_face"] and pictures.time_s.isna().all()
    film = predictor.predict([face] * 5, frame_rate=12.5).to_pandas()
    assert film.frame.tolist() == [1, 2, 3, 4, 5] and set(film.face_id) == {1}
    assert film.time_s.tolist() == pytest.approx([0, 0.08, 0.16, 0.24, 0.32])
    assert predictor.predict([]).to_pandas().empty


def test_frames_of_a_film_in_memory_give_the_films_table(predictor: femae.Predictor, carphone: Path) -> None:
    with av.open(str(carphone)) as container:
        rate = container.streams.video[0].average_rate
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert rate is not None
    of_arrays = predictor.predict(frames, frame_rate=float(rate)).to_pandas()
    of_film = predictor.predict(carphone).to_pandas()
    assert (of_arrays.expression == of_film.expression).mean() > 0.97
    np.testing.assert_allclose(of_arrays.time_s, of_film.time_s - of_film.time_s[0], atol=1e-3)


def test_a_generator_is_read_as_results_are_taken(predictor: femae.Predictor, face: Picture) -> None:
    taken = 0

    def frames() -> Iterator[Picture]:
        nonlocal taken
        while True:
            taken += 1
            yield face

    stream = predictor.stream(frames(), frame_rate=25)
    got = [next(stream) for _ in range(40)]
    stream.close()
    assert [result.frame.index for result in got] == list(range(1, 41)) and taken < 40 + 120


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (np.zeros((20, 20, 3), np.float32), "has the type float32; expected uint8, 0 to 255: call .astype"),
        (np.zeros((20, 20, 3), np.int64), "has the type int64"),
        (np.zeros((3, 20, 20), np.uint8), "has the shape 3x20x20.*move it to the end"),
        (np.zeros((20, 20, 2), np.uint8), "expected height x width x 3"),
        (np.zeros((0, 20, 3), np.uint8), "has the shape 0x20x3"),
        (np.zeros((4, 20, 20, 3), np.uint8), "has the shape 4x20x20x3"),
        (["clip.mp4"], "array 1 is a str; expected an array"),
    ],
)
def test_what_is_no_picture_is_said_in_a_sentence(predictor: femae.Predictor, value: object, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        predictor.predict(value)  # type: ignore[arg-type]


def test_wrong_order_and_rate(predictor: femae.Predictor, face: Picture, carphone: Path) -> None:
    with pytest.raises(InputError, match="order cannot be 'gbr'"):
        predictor.predict(face, order="gbr")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="frame_rate cannot be 0"):
        predictor.predict([face], frame_rate=0)
    with pytest.raises(InputError, match="files have their own times"):
        predictor.predict(carphone, frame_rate=25)
