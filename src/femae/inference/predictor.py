"""The Python API: films and pictures in, compound expressions per frame out (paper, step 4).

predictor = Predictor(smooth=0.5)
for result in predictor.stream("clip.mp4"):
    print(result.frame.index, [face.compound for face in result.faces])
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from femae.compound.expression import ExpressionRule
from femae.compound.rules import parse_weights
from femae.config.options import DeviceName, EngineName
from femae.config.predict import DetectConfig, PredictConfig, RuleConfig, split_columns
from femae.config.storage import is_remote
from femae.cores import num_cores
from femae.engine.load import load_engine
from femae.errors import ConfigError, InputError, ModelError
from femae.faces.crop import Framing, crop_face, whole_crop
from femae.faces.load import load_detector
from femae.faces.pixels import brighten_crop
from femae.faces.track import Tracker
from femae.inference.classification import Classifier, TrackedFrame, measured_names
from femae.inference.detection import DetectedFrame, detect_film, detect_live, detect_pictures, whole_pictures
from femae.inference.joining import joined
from femae.inference.parallel import prefetch
from femae.inference.tables import Predictions, prediction_schema, results_to_batch
from femae.inference.temporal import ExpressionStage, TemporalStage
from femae.labels import parse_class_set
from femae.types import Face, FaceCrop, Frame, FrameResult, SourceInfo
from femae.video.discover import InputItem, discover
from femae.video.film_parts import FilmPart, parts_of
from femae.video.pictures import ArraySource, Order, PictureSource
from femae.video.pyav import PyAVSource
from femae.video.source import FrameSource, Tally
from femae.video.storage import local_copy, supports_ranges

__all__ = ["Predictor", "local_item", "open_source", "predict", "shipped_model"]

_LARGE_PX: Final = 4_000_000  # pixels of a large frame

Input = str | Path | npt.NDArray[np.uint8] | Image.Image | Iterable[Any]  # a path, a picture in memory, or several


@contextmanager
def shipped_model(*, engine: EngineName | None = None) -> Iterator[Path]:
    """Path of the model inside the package: model.onnx, for torch model.safetensors. Raises ModelError if absent."""
    name = "model.safetensors" if engine == "torch" else "model.onnx"
    with resources.as_file(resources.files("femae") / "weights" / name) as path:
        if not path.is_file():
            raise ModelError(
                f"this installation of femae has no {name}, which the engine {engine or 'onnx'} needs: choose "
                f"another --engine, or give a model with --model"
            )
        yield path


def open_source(item: InputItem) -> FrameSource:
    """The frames of one input. Raises InputError when it cannot be read."""
    if item.kind == "error":
        raise InputError(item.error)
    return PyAVSource(item.paths[0]) if item.kind == "video" else PictureSource(item.paths, name=item.name)


@contextmanager
def local_item(item: InputItem) -> Iterator[InputItem]:
    """The item as it can be opened: a film in a store without range requests becomes a temporary local copy. Raises
    InputError."""
    if item.kind != "video" or not is_remote(item.paths[0]) or supports_ranges(item.paths[0]):
        yield item
        return
    with local_copy(item.paths[0]) as path:
        yield replace(item, paths=(path,), address=item.paths[0])


class Predictor:
    """Predicts films and pictures with one set of models and settings; may be used for many inputs.

    Arguments are the options of `femae predict` (see config.predict): model, engine, device, detector, faces,
    detect_every, part_minutes, min_face, max_faces, detection_threshold, rule, weights, classes, threshold,
    expression_window, smooth, fill_gaps, columns, threads.
    """

    def __init__(
        self,
        *,
        model: str | Path | None = None,
        engine: EngineName | None = None,
        device: DeviceName = "auto",
        threads: int | None = None,
        columns: str = "",
        **settings: Any,
    ) -> None:
        """Load the models. Raises ConfigError for a wrong setting, ModelError for a wrong file."""
        detect = {name: settings.pop(name) for name in list(settings) if name in DetectConfig.model_fields}
        rules = {name: settings.pop(name) for name in list(settings) if name in RuleConfig.model_fields}
        if settings:
            RuleConfig(**settings)  # raises ConfigError, naming the closest valid setting
        self.detect_config, self.rule_config = DetectConfig(**detect), RuleConfig(**rules)
        if threads is not None and threads < 1:
            raise ConfigError(f"threads cannot be {threads}: expected 1 or more")
        self.num_threads = threads or num_cores()
        self.columns = split_columns(columns)
        self.compounds = parse_class_set(self.rule_config.classes)
        self.weights = parse_weights(self.rule_config.weights) if self.rule_config.weights else None
        with shipped_model(engine=engine) if model is None else nullcontext(Path(model)) as path:
            self.engine = load_engine(path, engine=engine, device=device)
        self.detector = None
        if self.detect_config.faces == "detect":
            threshold = self.detect_config.detection_threshold
            self.detector = load_detector(
                self.detect_config.detector, num_threads=1, score_threshold=threshold, device=device
            )
        self.expression = ExpressionRule(self.compounds, params=self.engine.spec.expression)
        self.framing = Framing.from_json(self.engine.spec.framing) if self.engine.spec.framing else Framing()

    @classmethod
    def from_config(cls, config: PredictConfig) -> "Predictor":
        settings = config.detect.model_dump() | config.rules.model_dump()
        own = {name: getattr(config, name) for name in ("model", "engine", "device", "threads", "columns")}
        return cls(**own, **settings)

    @property
    def device(self) -> str:
        """What runs the networks: cpu, cuda ...; `A and B` if model and detector run on different devices."""
        devices = [self.engine.device, *([self.detector.device] if self.detector is not None else [])]
        return " and ".join(dict.fromkeys(devices))

    def schema(self) -> Any:
        """Arrow schema of this predictor's tables, with its settings as metadata."""
        raw = self.rule_config.smooth > 0 or self.rule_config.fill_gaps > 0
        metadata = {
            "model": f"{self.engine.spec.name} {self.engine.spec.version}".strip(),
            "device": self.device,
            "detection": self.detect_config.model_dump_json(),
            "rules": self.rule_config.model_dump_json(),
            "expression": self.expression.describe(),
        }
        return prediction_schema(
            self.compounds,
            au_names=self.engine.spec.au_names,
            raw=raw,
            measured=measured_names(self.columns),
            metadata=metadata,
        )

    def stream(
        self, source: Input, *, order: Order = "rgb", frame_rate: float | None = None
    ) -> Generator[FrameResult, None, None]:
        """Yields the results of one film, picture or folder of pictures, frame by frame, in constant memory.

        source: a path; or pictures in memory (video.pictures): an array u8[H, W, 3] with channels in `order`, or a
        list or generator of them: frames of a film with `frame_rate` frames a second, single pictures without.
        Raises InputError when the input cannot be read or when several inputs match.
        """
        with self._open(source, order=order, frame_rate=frame_rate) as (frames, film):
            yield from self.run(frames, film=film)

    def predict(self, source: Input, *, order: Order = "rgb", frame_rate: float | None = None) -> Predictions:
        """The whole table of one film, picture or folder of pictures, or of pictures in memory as in `stream`."""
        schema, batches, pending = self.schema(), [], []
        with self._open(source, order=order, frame_rate=frame_rate) as (frames, film):
            for result in self.run(frames, film=film, keep_images=False):
                pending.append(result)
                if len(pending) == 64:
                    batches.append(results_to_batch(pending, schema=schema))
                    pending = []
            problems = tuple(frames.problems)
        if pending or not batches:
            batches.append(results_to_batch(pending, schema=schema))
        return Predictions.from_batches(batches, schema=schema, problems=problems)

    @contextmanager
    def _open(self, source: Input, *, order: Order, frame_rate: float | None) -> Iterator[tuple[FrameSource, bool]]:
        """Opens an input; yields its frames, and whether it is a film. Raises InputError."""
        if not isinstance(source, str | Path):
            arrays = ArraySource(source, order=order, frame_rate=frame_rate)
            yield arrays, arrays.film
            return
        if frame_rate is not None:
            raise InputError("frame_rate is for pictures in memory: files have their own times")
        items = discover([str(source)])
        if len(items) != 1:
            raise InputError(f"{source} holds {len(items)} inputs; give one film, picture or folder of pictures")
        with local_item(items[0]) as item, open_source(item) as frames:
            yield frames, item.kind == "video"

    def predict_image(self, image: npt.NDArray[np.uint8]) -> FrameResult:
        """The faces of one picture u8[H, W, 3] RGB."""
        return next(self.stream(image))

    def run(
        self, frames: FrameSource | Sequence[Frame], *, film: bool, keep_images: bool = True
    ) -> Generator[FrameResult, None, None]:
        """Runs all stages over any frames: detect -> track -> crop and classify -> smooth -> label.

        With keep_images off, results come without their pictures (Frame.image None), which saves memory where
        smoothing holds frames back.
        """
        with closing(self.measure(frames, film=film, keep_images=keep_images)) as measured:
            yield from self.finish(measured, film=film)

    def measure(
        self, frames: FrameSource | Sequence[Frame], *, film: bool, keep_images: bool = True
    ) -> Generator[FrameResult, None, None]:
        """Runs the first stages: faces, ids and probabilities of each frame.

        A film longer than part_minutes is processed in parts (video.film_parts), one after the other.
        """
        parts = self.parts(frames) if film and isinstance(frames, PyAVSource) else ()
        if len(parts) < 2:
            yield from self._measure(frames, film=film, keep_images=keep_images)
            return
        assert isinstance(frames, PyAVSource)
        tallies: list[Tally] = []
        with closing(self._measure_parts(frames, parts, tallies, keep_images=keep_images)) as results:
            yield from joined(results)
        frames.problems[:] = Tally.joined(tallies).sentences()

    def parts(self, film: PyAVSource) -> tuple[FilmPart, ...]:
        """The parts in which a long film is processed; empty for a short film and for a part."""
        part_s, duration_s = 60 * self.detect_config.part_minutes, film.info.duration_s
        if film.is_part or duration_s is None or not 0 < part_s < duration_s:
            return ()
        return parts_of(film.path, part_s=part_s)

    def finish(self, measured: Iterator[FrameResult], *, film: bool) -> Iterator[FrameResult]:
        """Runs the last stages over all frames of an input, in order: smoothing, gap filling, the label for people."""
        results = self._smooth(measured) if film else measured
        return self._decide_expression(results, mode="film" if film else "single")

    def live(self, frames: Iterable[Frame]) -> Generator[FrameResult, None, None]:
        """Yields the result of each frame before it takes the next one, for cameras and live streams.

        Detection runs on every frame. No frame is held back, so there is no smoothing and no gap filling, and the
        expression is decided on the frames so far.
        """
        with ThreadPoolExecutor(self.num_threads, thread_name_prefix="femae") as pool:
            stream = iter(frames)
            if self.detector is None:
                detected = whole_pictures(stream)
            else:
                detected = detect_live(stream, detector=self.detector, config=self.detect_config, pool=pool)
            results = self._classifier().classify_live(self._track(detected, film=True))
            yield from self._decide_expression(results, mode="live")

    def _measure(
        self, frames: FrameSource | Sequence[Frame], *, film: bool, keep_images: bool
    ) -> Generator[FrameResult, None, None]:
        with (
            ThreadPoolExecutor(self.num_threads, thread_name_prefix="femae") as pool,
            # closing it ends the reading thread before the caller closes the source
            closing(prefetch(frames, size=_num_prefetched(frames))) as stream,
        ):
            try:
                detected = self._detect(stream, film=film, pool=pool)
                tracked = self._track(detected, film=film)
                results = self._classifier().stream(tracked, pool=pool, ahead=self.num_threads + 1)
                yield from results if keep_images else map(_without_image, results)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _measure_parts(
        self, film: PyAVSource, parts: Sequence[FilmPart], tallies: list[Tally], *, keep_images: bool
    ) -> Generator[Iterator[FrameResult], None, None]:
        """Yields the results of each part in turn, and appends its decoding problems to `tallies` after the last."""
        for part in parts:
            with (
                film.part(part) as frames,
                closing(self._measure(frames, film=True, keep_images=keep_images)) as results,
            ):
                yield results
                tallies.append(frames.tally)

    def _detect(self, frames: Iterator[Frame], *, film: bool, pool: ThreadPoolExecutor) -> Iterator[DetectedFrame]:
        if self.detector is None:
            return whole_pictures(frames)
        detect = detect_film if film else detect_pictures
        return detect(frames, detector=self.detector, config=self.detect_config, pool=pool)

    def _track(self, frames: Iterator[DetectedFrame], *, film: bool) -> Iterator[TrackedFrame]:
        """Adds ids: within a film an id stays with a person; in pictures ids count the faces of each picture."""
        tracker = Tracker()
        for frame, faces, redetect in frames:
            if film and self.detector is not None:
                yield TrackedFrame(frame, tracker.update(frame, faces, moved=redetect is not None), redetect)
            else:
                yield TrackedFrame(frame, list(enumerate(faces, start=1)))

    def _classifier(self) -> Classifier:
        size = self.engine.spec.image_size
        whole = self.detector is None
        return Classifier(
            engine=self.engine,
            cropper=partial(_whole_crop, size=size) if whole else partial(_crop, size=size, framing=self.framing),
            compounds=self.compounds,
            rule=self.rule_config.rule,
            weights=self.weights,
            threshold=self.rule_config.threshold,
            columns=self.columns,
        )

    def _smooth(self, results: Iterator[FrameResult]) -> Iterator[FrameResult]:
        config = self.rule_config
        if config.smooth == 0 and config.fill_gaps == 0:
            return results
        stage = TemporalStage(
            window_s=config.smooth,
            max_gap_s=config.fill_gaps,
            compounds=self.compounds,
            rule=config.rule,
            weights=self.weights,
            threshold=config.threshold,
        )
        return stage(results)

    def _decide_expression(
        self, results: Iterator[FrameResult], *, mode: Literal["single", "film", "live"]
    ) -> Iterator[FrameResult]:
        """Decides the label for people; results that are smoothed already are not smoothed again."""
        window_s = self.rule_config.expression_window
        smoothed = mode == "film" and self.rule_config.smooth > 0
        stage = ExpressionStage(
            self.expression, window_s=0 if smoothed else window_s, mode=mode if window_s > 0 else "single"
        )
        return stage(results)


def _crop(image: npt.NDArray[np.uint8], face: Face, *, size: int, framing: Framing) -> FaceCrop:
    return _brightened(crop_face(image, face=face, size=size, framing=framing))


def _brightened(crop: FaceCrop) -> FaceCrop:
    return replace(crop, image=brighten_crop(crop.image))


def _num_prefetched(frames: FrameSource | Sequence[Frame]) -> int:
    """Number of frames to decode in advance; fewer if they are large."""
    info = getattr(frames, "info", None)
    size = (info.width or 0) * (info.height or 0) if isinstance(info, SourceInfo) else 0
    return 4 if size <= _LARGE_PX else 1


def _without_image(result: FrameResult) -> FrameResult:
    return replace(result, frame=replace(result.frame, image=None))


def _whole_crop(image: npt.NDArray[np.uint8], _face: Face, *, size: int) -> FaceCrop:
    return _brightened(whole_crop(image, size=size))


def predict(source: Input, *, order: Order = "rgb", frame_rate: float | None = None, **settings: Any) -> Predictions:
    """The table of one film, picture or folder of pictures, or of arrays; `source`, order and frame_rate as in
    Predictor.stream, settings as for Predictor."""
    return Predictor(**settings).predict(source, order=order, frame_rate=frame_rate)
