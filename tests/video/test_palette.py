"""The colours of labels differ enough for every reader, and text on them is readable."""

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest

from femae.labels import EMOTIONS, NO_EXPRESSION, RAF_DB_COMPOUNDS
from femae.video.palette import INK, label_colours, label_styles

LEAST = 20.0  # units of CIELAB; 2.3 is a just noticeable difference
NAMES = (NO_EXPRESSION, *EMOTIONS, *(compound.name for compound in RAF_DB_COMPOUNDS))


def as_seen(colour: tuple[int, int, int], reader: str) -> npt.NDArray[np.float64]:
    """CIELAB of a colour as seen without one type of cones (Machado et al. 2009)."""
    convert = pytest.importorskip("colorspacious").cspace_convert
    rgb = np.array(colour) / 255
    if reader:
        rgb = np.clip(convert(rgb, {"name": "sRGB1+CVD", "cvd_type": reader, "severity": 100}, "sRGB1"), 0, 1)
    return np.asarray(convert(rgb, "sRGB1", "CIELab"))


def contrast(first: tuple[int, int, int], second: tuple[int, int, int]) -> float:
    """Contrast ratio of two colours as defined by WCAG 2."""

    def luminance(colour: tuple[int, int, int]) -> float:
        part = np.array(colour) / 255
        linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("reader", ["", "deuteranomaly", "protanomaly", "tritanomaly"])
def test_every_two_labels_differ_for_every_reader(reader: str) -> None:
    """The distance of two labels is the larger of those of their upper and their lower halves."""
    halves = {name: (label_colours(name, RAF_DB_COMPOUNDS) * 2)[:2] for name in NAMES}
    seen = {colour: as_seen(colour, reader) for pair in halves.values() for colour in pair}
    assert len(seen) == 7
    for first, second in combinations(NAMES, 2):
        apart = max(
            float(np.linalg.norm(seen[a] - seen[b])) for a, b in zip(halves[first], halves[second], strict=True)
        )
        assert apart >= LEAST, (reader, first, second, apart)


def test_letters_can_be_read_on_every_emotion() -> None:
    for emotion in EMOTIONS:
        assert contrast(label_colours(emotion, ())[0], INK) >= 4.5, emotion  # WCAG AA
    gray = label_colours(NO_EXPRESSION, ())[0]
    assert contrast(gray, (255, 255, 255)) >= 4.5 and contrast(gray, (0x1D, 0x20, 0x26)) >= 3  # a shape on dark


def test_styles_name_each_label_once() -> None:
    styles = label_styles(NAMES, RAF_DB_COMPOUNDS)
    assert [style["name"] for style in styles] == list(NAMES)
    assert len({style["code"] for style in styles}) == len(NAMES) and styles[0]["code"] == ""
    assert [len(style["colours"]) for style in styles] == [1] * 7 + [2] * 11
    assert [style["name"] for style in styles if style["quiet"]] == ["none"]
    assert label_colours("", RAF_DB_COMPOUNDS) == () == label_colours("Sadly Angry", ())
