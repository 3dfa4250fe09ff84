"""Every engine on every kind of file: the same probabilities as the trained weights, from any thread."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs femae[train]")
pytest.importorskip("openvino", reason="needs femae[openvino]")

from femae.engine.load import load_engine
from femae.engine.spec import Engine
from femae.errors import ModelError
from femae.labels import EMOTIONS
from femae.models.weights import load_model

FP32, INT8 = 1e-4, 0.1  # largest difference of a probability; larger for random networks than for trained ones
INT8_MEAN = 0.02
KINDS = [
    ("onnx", "model.onnx", "fp32"),
    ("onnx", "model.int8.onnx", "int8"),
    ("openvino", "model.onnx", "fp32"),
    ("openvino", "model.int8.onnx", "int8"),
    ("openvino", "model.xml", "fp32"),
    ("openvino", "model.int8.xml", "int8"),
    ("torch", "model.safetensors", "fp32"),
    ("torch", ".", "fp32"),  # the folder of a run
]


@pytest.fixture(params=KINDS, ids=[f"{engine}-{file}" for engine, file, _ in KINDS])
def kind(request):
    return request.param


@cache
def loaded(path: Path, name: str) -> Engine:
    return load_engine(path, engine=name)


@pytest.fixture
def engine(kind, exported) -> Engine:
    return loaded(exported.folder / kind[1], kind[0])


def by_hand(exported) -> tuple[np.ndarray, ...]:
    """Reference probabilities: preprocessing, calibration and sigmoid written out in float64."""
    model, info = load_model(exported.folder / "model.safetensors")
    spec, crops = exported.spec, exported.crops
    if spec.color == "gray":
        weights = np.array([19595, 38470, 7471])
        planes = ((crops.astype(np.int64) @ weights + 0x8000) >> 16)[:, None]
    else:
        planes = crops.transpose(0, 3, 1, 2)
    mean, std = (np.array(values, np.float64)[:, None, None] for values in (spec.mean, spec.std))
    pixels = torch.from_numpy((planes / 255 - mean) / std)
    with torch.inference_mode():
        out = model.double()(pixels)
    logits = out.logits.double().numpy()
    none = logits[:, [place for place, name in enumerate(info.outputs) if name == "none"]]
    logits = logits[:, :6]
    if info.scale:
        logits = logits * np.array(info.scale) + np.array(info.offset)
    return tuple(1 / (1 + np.exp(-values)) for values in (logits, out.au_logits.double().numpy(), none))


def test_the_probabilities_are_those_of_the_weights(engine, kind, exported) -> None:
    expected, found = by_hand(exported), engine.run(exported.crops)
    names = exported.spec.au_names
    assert [part.shape for part in found] == [(16, 6), (16, len(names)), (16, int(exported.spec.says_none))]
    assert all(part.dtype == np.float32 for part in found)
    difference = np.abs(np.concatenate(found, 1) - np.concatenate(expected, 1))
    assert difference.max() < (FP32 if kind[2] == "fp32" else INT8)
    assert difference.mean() < (FP32 if kind[2] == "fp32" else INT8_MEAN)
    assert np.ptp(found[0], axis=0).max() > 0.02  # the pictures do differ


@pytest.mark.parametrize("batch", [0, 1, 3, 16])
def test_any_number_of_crops(engine, exported, batch) -> None:
    found = engine.run(exported.crops[:batch])
    sizes = (len(EMOTIONS), len(exported.spec.au_names), int(exported.spec.says_none))
    assert [part.shape for part in found] == [(batch, size) for size in sizes]
    for part, whole in zip(found, engine.run(exported.crops), strict=True):
        np.testing.assert_allclose(part, whole[:batch], atol=1e-5)


def test_the_file_says_what_the_weights_say(engine, kind, exported) -> None:
    assert engine.spec == exported.spec.model_copy(update={"precision": kind[2]})
    assert engine.spec.description == 'nothing & <nobody>, "é"'


@pytest.mark.parametrize("num_threads", [1, 3])
def test_several_threads_at_once_get_what_one_gets(kind, exported, num_threads) -> None:
    before = torch.get_num_threads()
    try:
        engine = load_engine(exported.folder / kind[1], engine=kind[0], num_threads=num_threads)
        parts = [exported.crops[i : i + 1 + i % 3] for i in range(12)]
        alone = [engine.run(part) for part in parts]
        start = threading.Barrier(4)

        def work(_: int) -> list[tuple[np.ndarray, np.ndarray]]:
            start.wait()
            return [engine.run(part) for part in parts]

        with ThreadPoolExecutor(4) as pool:
            for results in pool.map(work, range(4)):
                for found, expected in zip(results, alone, strict=True):
                    for one, other in zip(found, expected, strict=True):
                        np.testing.assert_allclose(one, other, atol=1e-6)
    finally:
        torch.set_num_threads(before)


def test_results_stay_as_they_were_given(engine, exported) -> None:
    first = engine.run(exported.crops[:4])
    kept = [part.copy() for part in first]
    engine.run(exported.crops[4:8])  # must not overwrite results returned before
    for part, copy in zip(first, kept, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_eight_bits_are_eight_bits(exported) -> None:
    import onnx

    kinds = {node.op_type for node in onnx.load(str(exported.folder / "model.int8.onnx")).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    xml = (exported.folder / "model.int8.xml").read_text("utf-8")
    assert 'element_type="i8"' in xml
    plain = (exported.folder / "model.xml").read_text("utf-8")
    assert 'element_type="f16"' not in plain and 'element_type="i8"' not in plain


def test_a_file_without_its_other_half_is_refused_in_words(exported, tmp_path) -> None:
    (tmp_path / "alone.xml").write_bytes((exported.folder / "model.xml").read_bytes())
    with pytest.raises(ModelError, match=r"lacks its weights: alone\.bin must be in the same folder"):
        load_engine(tmp_path / "alone.xml")
