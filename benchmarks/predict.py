"""Speed and memory of `femae predict`: end to end, each stage alone, their limit, and a plain loop.

    python benchmarks/predict.py --data FOLDER_WITH_videos [--minutes 10] [--out benchmarks/results/predict.md]

The limit is the speed of perfectly overlapping stages: cores / (sum of one-thread seconds per frame). The plain loop
decodes, detects and classifies one frame at a time, like other tools, with the same networks and two threads inside
each network. Same labels: of all faces of detection on every frame, the share with the same `expression` in the default
mode; of those that show something (the six add up to at least half), the share with the same `compound`.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from femae import Predictor, __version__
from femae.engine.onnx import OnnxEngine
from femae.faces.crop import crop_face
from femae.faces.load import load_detector
from femae.inference.predictor import shipped_model
from femae.types import Frame
from femae.video.pyav import PyAVSource

CLIPS = ("man_smile.mp4", "woman_phone_profile.mp4", "talking_face_franck.mp4", "hard/four_faces.mp4")


@dataclass
class Times:
    """One-thread seconds per frame of each stage, and frames per second of whole runs."""

    decode_s: float
    detect_s: float
    classify_s: float
    every_fps: float
    default_fps: float
    loop_fps: float
    expression: float  # shares of faces whose label is that of detection on every frame
    compound: float
    num_frames: int

    def limit(self, detect_share: float) -> float:
        cores = os.cpu_count() or 1
        return cores / (self.decode_s + self.detect_s * detect_share + self.classify_s)


Labels = dict[tuple[int, int], tuple[str, str]]  # frame and face -> expression, and compound where something shows


def labels_of(predictor: Predictor, path: Path) -> tuple[Labels, float]:
    """All labels of a film, and frames per second."""
    started, num_frames, labels = time.perf_counter(), 0, Labels()
    for result in predictor.stream(path):
        num_frames += 1
        for face in result.faces:
            labels[result.frame.index, face.face_id] = (face.expression, "" if face.weak else face.compound)
    return labels, num_frames / (time.perf_counter() - started)


def agreement(every: Labels, default: Labels) -> tuple[float, float]:
    """Share of faces with the same expression, and of faces that show something with the same compound."""
    missing = ("?", "?")
    same = [default.get(key, missing)[0] == expression for key, (expression, _) in every.items()]
    clear = [default.get(key, missing)[1] == compound for key, (_, compound) in every.items() if compound]
    return float(np.mean(same)), float(np.mean(clear)) if clear else float("nan")


def read(path: Path, limit: int) -> list[Frame]:
    with PyAVSource(path, num_threads=1) as source:
        return [frame for frame, _ in zip(source, range(limit), strict=False)]


def stage_times(predictor: Predictor, path: Path) -> tuple[float, float, float, int]:
    """(seconds per frame of decoding, detection, cropping with classification on one thread each, number of frames)."""
    started = time.perf_counter()
    with PyAVSource(path, num_threads=1) as source:
        count = sum(1 for _ in source)
    decode = (time.perf_counter() - started) / count
    frames = read(path, 120)
    with ThreadPoolExecutor(1) as pool:
        from femae.inference.detection import detect_film

        config = predictor.detect_config.model_copy(update={"detect_every": 1})
        assert predictor.detector is not None
        started = time.perf_counter()
        found = list(detect_film(iter(frames), detector=predictor.detector, config=config, pool=pool))
        detect = (time.perf_counter() - started) / len(frames)
    size = predictor.engine.spec.image_size
    started = time.perf_counter()
    for first in range(0, len(found), 8):
        crops = [
            crop_face(frame.image, face=face, size=size, framing=predictor.framing).image
            for frame, faces, _ in found[first : first + 8]
            for face in faces
            if frame.image is not None
        ]
        if crops:
            predictor.engine.run(np.stack(crops))
    return decode, detect, (time.perf_counter() - started) / len(frames), count


def plain_loop(path: Path) -> float:
    """Frames per second of decode -> detect -> classify, one frame at a time, with two threads inside the networks."""
    detector = load_detector(None, num_threads=2, score_threshold=None)
    with shipped_model() as model:
        engine = OnnxEngine(model, num_threads=2)
    size = engine.spec.image_size
    started, count = time.perf_counter(), 0
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            image = frame.to_ndarray(format="rgb24")
            for face in detector.detect(image[None], long_side=max(image.shape[:2]))[0]:
                engine.run(crop_face(image, face=face, size=size).image[None])
            count += 1
    return count / (time.perf_counter() - started)


def measure(path: Path, repeats: int) -> Times:
    every, default = Predictor(detect_every=1), Predictor()
    for predictor in (every, default):
        labels_of(predictor, path)  # warm up
    decode, detect, classify, count = stage_times(every, path)
    every_runs = [labels_of(every, path) for _ in range(repeats)]
    default_runs = [labels_of(default, path) for _ in range(repeats)]
    expression, compound = agreement(every_runs[0][0], default_runs[0][0])
    return Times(
        decode_s=decode,
        detect_s=detect,
        classify_s=classify,
        every_fps=statistics.median(fps for _, fps in every_runs),
        default_fps=statistics.median(fps for _, fps in default_runs),
        loop_fps=statistics.median(plain_loop(path) for _ in range(repeats)),
        expression=expression,
        compound=compound,
        num_frames=count,
    )


def long_film(source: Path, target: Path, seconds: float, *, width: int = 0) -> None:
    """Write a film of the given length that repeats a clip forwards and backwards, enlarged to `width` unless 0."""
    frames = [frame.image for frame in read(source, 10_000) if frame.image is not None]
    if width:
        height = width * frames[0].shape[0] // frames[0].shape[1]
        frames = [np.asarray(Image.fromarray(frame).resize((width, height))) for frame in frames[:40]]

    def pictures() -> Iterator[np.ndarray]:
        while True:
            yield from frames
            yield from frames[::-1]

    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30), options={"preset": "veryfast"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture, _ in zip(pictures(), range(round(seconds * 30)), strict=False):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def peak_memory(path: Path, out: Path) -> tuple[float, float]:
    """Peak resident MB and seconds of `femae predict` in a separate process (Linux).

    VmHWM is that of the process alone; ru_maxrss would be at least that of its parent.
    """
    code = (
        "import sys; from femae.cli import main;"
        f"s = main(['predict', {str(path)!r}, '--out', {str(out)!r}, '--quiet']);"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'));"
        "print(int(peak.split()[1]) / 1024); sys.exit(s)"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1]), time.perf_counter() - started


def help_seconds() -> float:
    command = [str(Path(sys.executable).parent / "femae"), "--help"]
    runs = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        runs.append(time.perf_counter() - started)
    return statistics.median(runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds videos/")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    command = f"python benchmarks/predict.py --minutes {arguments.minutes:g} --repeats {arguments.repeats}"
    lines = [
        "# Speed of `femae predict`",
        "",
        f"`{command}`, {date.today()}, femae {__version__}, Python {platform.python_version()}, {os.cpu_count()} "
        "cores. Frames per second, medians; stages on one thread; in brackets the share of the limit.",
        "",
        "| clip | frames | decode | detect | classify | limit, every frame | detection on every frame | limit, default "
        "| default | plain loop | same expression | same compound |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in CLIPS:
        t = measure(arguments.data / "videos" / name, arguments.repeats)
        every, default = t.limit(1.0), t.limit(0.25)
        lines.append(
            f"| {name} | {t.num_frames} | {1 / t.decode_s:.0f} | {1 / t.detect_s:.0f} | {1 / t.classify_s:.0f} "
            f"| {every:.0f} | {t.every_fps:.0f} ({t.every_fps / every:.2f}) | {default:.0f} | {t.default_fps:.0f} "
            f"({t.default_fps / default:.2f}) | {t.loop_fps:.0f} | {t.expression:.1%} | "
            + ("nothing shows |" if np.isnan(t.compound) else f"{t.compound:.1%} |")
        )
        print(lines[-1], flush=True)
    with tempfile.TemporaryDirectory() as folder:
        short, long = Path(folder) / "short.mp4", Path(folder) / "long.mp4"
        long_film(arguments.data / "videos" / CLIPS[0], short, 20)
        long_film(arguments.data / "videos" / CLIPS[0], long, 60 * arguments.minutes)
        short_mb, short_s = peak_memory(short, Path(folder) / "out")
        long_mb, long_s = peak_memory(long, Path(folder) / "out")
        sizes = []
        for width in (1920, 3840):
            large = Path(folder) / f"{width}.mp4"
            long_film(arguments.data / "videos" / CLIPS[0], large, 10, width=width)
            mb, seconds = peak_memory(large, Path(folder) / "out")
            sizes.append(f"{width} pixels wide: {300 / seconds:.0f} frames/s with start-up, {mb:.0f} MB")
    frames = round(1800 * arguments.minutes)
    lines += [
        "",
        f"A film of {arguments.minutes:g} minutes (640x360, 30 frames/s): {long_s:.0f} s with start-up, "
        f"{frames / long_s:.0f} frames/s; peak memory {long_mb:.0f} MB, against {short_mb:.0f} MB and {short_s:.1f} s "
        f"for 20 seconds: {long_mb / short_mb:.3f} times. `femae --help`: {help_seconds():.2f} s.",
        "",
        f"The same, enlarged, for ten seconds: {'; '.join(sizes)}.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
