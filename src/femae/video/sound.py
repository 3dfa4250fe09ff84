"""Copies the sound of a film into the annotated one, interleaved with the video."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from av.audio.resampler import AudioResampler
from av.error import FFmpegError
from av.stream import Discard

from femae.video.container import open_film
from femae.video.rgb import as_fraction

__all__ = ["Sound"]

# Codecs that MP4 supports and players can play.
_COPIED: Final = {"aac", "ac3", "alac", "eac3", "flac", "mp3", "mp3float", "opus"}
_AAC_RATES: Final = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000}
_MIN_MP3_RATE: Final = 16000  # samples/s; the lowest of MP3 in MP4
_LAYOUTS: Final = {1: "mono", 2: "stereo", 6: "5.1"}  # by number of channels; others are mixed down to stereo
_BIT_RATE: Final = 80_000  # bits/s of each channel
_MAX_ERRORS: Final = 100  # consecutive reading errors, after which the rest of the file is given up


class Sound:
    """Copies all sound tracks of `source_path` to `output`, an open container without any packets yet.

    Tracks with a codec that MP4 supports are copied packet by packet, others are re-encoded as AAC. Times are shifted
    by `offset_s`, like those of the video. Meanwhile, the end of the source's last frame is determined.
    """

    def __init__(self, source_path: Path, output: Any, *, offset_s: Fraction = Fraction(0)) -> None:
        """Open the source and add its tracks to `output`. Raises InputError where the film cannot be opened."""
        self._source, self._video = open_film(source_path)
        self._tracks: dict[int, _CopiedTrack | _EncodedTrack] = {}
        for stream in self._source.streams:
            if stream.type == "audio" and stream.codec_context is not None:
                self._tracks[stream.index] = _track(stream, output, offset_s)
            elif stream is not self._video:
                stream.discard = Discard.all
        self._packets = self._read()
        self._next: Any | None = None  # a packet that was read and not written yet
        self.video_end_s = _stated_end_s(self._source, self._video)  # if not stated, known after `finish`
        self._must_measure_end = self.video_end_s is None

    def write_until(self, time_s: float) -> None:
        """Write packets that start up to this time of the source. Raises FFmpegError if the output is not writable."""
        while True:
            self._next = self._next or next(self._packets, None)
            if self._next is None or _start_s(self._next) > time_s:
                return
            self._tracks[self._next.stream.index].write(self._next)
            self._next = None

    def finish(self) -> None:
        """Write the remaining packets and flush the encoders. Raises FFmpegError if the output cannot be written."""
        self.write_until(float("inf"))
        for track in self._tracks.values():
            track.finish()

    def close(self) -> None:
        self._source.close()

    def _read(self) -> Iterator[Any]:
        """Yield the packets of sound in file order, without damaged ones."""
        streams = [self._video, *(self._source.streams[index] for index in self._tracks)]
        errors = 0
        while errors < _MAX_ERRORS:
            try:
                for packet in self._source.demux(streams):
                    if not packet.size:
                        continue
                    errors = 0
                    if packet.stream is self._video:
                        self._update_end(packet)
                    elif packet.pts is not None and not packet.is_corrupt:
                        yield packet
                return
            except FFmpegError:
                errors += 1

    def _update_end(self, packet: Any) -> None:
        if self._must_measure_end and packet.pts is not None and packet.duration:
            end_s = (packet.pts + packet.duration) * (as_fraction(packet.time_base) or Fraction(0))
            self.video_end_s = end_s if self.video_end_s is None else max(self.video_end_s, end_s)


def _stated_end_s(container: Any, video: Any) -> Fraction | None:
    """End of the video as MP4 and MOV state it, edit list included; their packets have only decoding durations."""
    if "mov" not in container.format.name or video.duration is None:
        return None
    end: int = (video.start_time or 0) + video.duration
    return end * (as_fraction(video.time_base) or Fraction(0))


def _start_s(packet: Any) -> float:
    return float(packet.pts * packet.time_base)


def _track(stream: Any, output: Any, offset_s: Fraction) -> "_CopiedTrack | _EncodedTrack":
    name, rate = stream.codec_context.name, stream.codec_context.sample_rate
    if name in _COPIED and not (name.startswith("mp3") and rate < _MIN_MP3_RATE):
        return _CopiedTrack(stream, output, offset_s)
    return _EncodedTrack(stream, output, offset_s)


class _CopiedTrack:
    """A track whose packets are copied."""

    def __init__(self, stream: Any, output: Any, offset_s: Fraction) -> None:
        self._output = output
        self._stream = output.add_stream_from_template(stream)
        self._offset = round(offset_s / (as_fraction(stream.time_base) or Fraction(1)))
        self._last_dts: int | None = None

    def write(self, packet: Any) -> None:
        dts = packet.pts if packet.dts is None else packet.dts
        if self._last_dts is not None and dts <= self._last_dts:
            return  # from a damaged file: MP4 requires increasing decoding times
        self._last_dts = dts
        packet.dts, packet.pts = dts + self._offset, packet.pts + self._offset
        packet.stream = self._stream
        self._output.mux(packet)

    def finish(self) -> None:
        """There is nothing to flush."""


class _EncodedTrack:
    """A track that is re-encoded as AAC; gaps in its timestamps are filled with silence, to keep it in sync."""

    def __init__(self, stream: Any, output: Any, offset_s: Fraction) -> None:
        context = stream.codec_context
        self._output = output
        self._offset_s = offset_s
        self._decoder = context
        rate = context.sample_rate if context.sample_rate in _AAC_RATES else 48000
        self._stream = output.add_stream("aac", rate=rate)
        self._stream.layout = _LAYOUTS.get(context.layout.nb_channels, "stereo")
        self._stream.bit_rate = _BIT_RATE * self._stream.layout.nb_channels
        self._resampler: AudioResampler | None = None
        self._format: tuple[Any, ...] = ()  # sample format, layout and rate of the resampler's input

    def write(self, packet: Any) -> None:
        try:
            frames = self._decoder.decode(packet)
        except FFmpegError:  # a damaged packet: the resampler replaces it by silence
            return
        self._encode(frames)

    def finish(self) -> None:
        try:
            frames = self._decoder.decode(None)
        except FFmpegError:
            frames = []
        self._encode(frames)
        self._resample(None)
        self._output.mux(self._stream.encode(None))

    def _encode(self, frames: list[Any]) -> None:
        for frame in frames:
            if frame.pts is not None:
                frame.pts += round(self._offset_s / (as_fraction(frame.time_base) or Fraction(1)))
            audio_format = (frame.format.name, frame.layout.name, frame.sample_rate)
            if audio_format != self._format:  # the first frame, or the format changes within the film
                self._resample(None)
                self._format = audio_format
                self._resampler = AudioResampler(
                    format=self._stream.format.name,
                    layout=self._stream.layout.name,
                    rate=self._stream.rate,
                    options={"async": "1"},
                )
            self._resample(frame)

    def _resample(self, frame: Any | None) -> None:
        """Resample a frame with gaps filled, and encode the result; None flushes the resampler."""
        if self._resampler is not None:
            for resampled in self._resampler.resample(frame):
                self._output.mux(self._stream.encode(resampled))
