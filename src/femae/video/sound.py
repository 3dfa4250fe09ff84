"""The sound of a film, copied into the annotated one along with the pictures, a little at a time."""

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

_COPIED: Final = {
    "aac",
    "ac3",
    "alac",
    "eac3",
    "flac",
    "mp3",
    "mp3float",
    "opus",
}  # MP4 holds them and players know them
_AAC_RATES: Final = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000}
_MIN_MP3_RATE: Final = 16000  # samples/s; MP4 has no slower MP3
_LAYOUTS: Final = {1: "mono", 2: "stereo", 6: "5.1"}  # by number of channels; others are mixed down to stereo
_BITS_PER_CHANNEL: Final = 80_000
_MAX_ERRORS: Final = 100


class Sound:
    """Every sound track of `source_path`, into `output` (an open container, nothing written to it yet).

    Tracks of a kind that MP4 holds are copied packet by packet, others are re-encoded as AAC. Times are kept, moved by
    `offset_s` as the pictures are. Meanwhile the end of the film's last picture is looked for.
    """

    def __init__(self, source_path: Path, output: Any, *, offset_s: Fraction = Fraction(0)) -> None:
        """Raises InputError where the film cannot be opened."""
        self._source, self._pictures = open_film(source_path)
        self._tracks: dict[int, _CopiedTrack | _EncodedTrack] = {}
        for stream in self._source.streams:
            if stream.type == "audio" and stream.codec_context is not None:
                self._tracks[stream.index] = _track(stream, output, offset_s)
            elif stream is not self._pictures:
                stream.discard = Discard.all
        self._packets = self._read()
        self._next: Any | None = None  # a packet read and not written yet
        self.pictures_end_s = _stated_end_s(self._source, self._pictures)  # where not stated, complete after `finish`
        self._must_measure_end = self.pictures_end_s is None

    def write_until(self, time_s: float) -> None:
        """Write the sound of the source up to this time. Raises FFmpegError where the output cannot be written."""
        while True:
            self._next = self._next or next(self._packets, None)
            if self._next is None or _start_s(self._next) > time_s:
                return
            self._tracks[self._next.stream.index].write(self._next)
            self._next = None

    def finish(self) -> None:
        """Write what is left and flush the encoders. Raises FFmpegError where the output cannot be written."""
        self.write_until(float("inf"))
        for track in self._tracks.values():
            track.finish()

    def close(self) -> None:
        self._source.close()

    def _read(self) -> Iterator[Any]:
        """Packets of sound, in the order of the file; a damaged place is passed over."""
        wanted = [self._pictures, *(self._source.streams[index] for index in self._tracks)]
        errors = 0
        while errors < _MAX_ERRORS:
            try:
                for packet in self._source.demux(wanted):
                    if not packet.size:
                        continue
                    errors = 0
                    if packet.stream is self._pictures:
                        self._note_end(packet)
                    elif packet.pts is not None and not packet.is_corrupt:
                        yield packet
                return
            except FFmpegError:
                errors += 1

    def _note_end(self, packet: Any) -> None:
        if self._must_measure_end and packet.pts is not None and packet.duration:
            end_s = (packet.pts + packet.duration) * (as_fraction(packet.time_base) or Fraction(0))
            self.pictures_end_s = end_s if self.pictures_end_s is None else max(self.pictures_end_s, end_s)


def _stated_end_s(container: Any, pictures: Any) -> Fraction | None:
    """MP4 and MOV state where the pictures end, edit list included; their packets tell only decoding steps."""
    if "mov" not in container.format.name or pictures.duration is None:
        return None
    end: int = (pictures.start_time or 0) + pictures.duration
    return end * (as_fraction(pictures.time_base) or Fraction(0))


def _start_s(packet: Any) -> float:
    return float(packet.pts * packet.time_base)


def _track(stream: Any, output: Any, offset_s: Fraction) -> "_CopiedTrack | _EncodedTrack":
    name, rate = stream.codec_context.name, stream.codec_context.sample_rate
    if name in _COPIED and not (name.startswith("mp3") and rate < _MIN_MP3_RATE):
        return _CopiedTrack(stream, output, offset_s)
    return _EncodedTrack(stream, output, offset_s)


class _CopiedTrack:
    """Sound packets as they are."""

    def __init__(self, stream: Any, output: Any, offset_s: Fraction) -> None:
        self._output = output
        self._stream = output.add_stream_from_template(stream)
        self._offset = round(offset_s / (as_fraction(stream.time_base) or Fraction(1)))
        self._last_dts: int | None = None

    def write(self, packet: Any) -> None:
        dts = packet.pts if packet.dts is None else packet.dts
        if self._last_dts is not None and dts <= self._last_dts:
            return  # of a damaged file: MP4 has no place for it
        self._last_dts = dts
        packet.dts, packet.pts = dts + self._offset, packet.pts + self._offset
        packet.stream = self._stream
        self._output.mux(packet)

    def finish(self) -> None:
        """Nothing is held back."""


class _EncodedTrack:
    """Sound that MP4 cannot hold, as AAC; gaps in its times become silence, so that it stays in step."""

    def __init__(self, stream: Any, output: Any, offset_s: Fraction) -> None:
        context = stream.codec_context
        self._output = output
        self._offset_s = offset_s
        self._decoder = context
        rate = context.sample_rate if context.sample_rate in _AAC_RATES else 48000
        self._stream = output.add_stream("aac", rate=rate)
        self._stream.layout = _LAYOUTS.get(context.layout.nb_channels, "stereo")
        self._stream.bit_rate = _BITS_PER_CHANNEL * self._stream.layout.nb_channels
        self._filler: AudioResampler | None = None
        self._kind: tuple[Any, ...] = ()

    def write(self, packet: Any) -> None:
        try:
            frames = self._decoder.decode(packet)
        except FFmpegError:  # a damaged packet: the filler puts silence in its place
            return
        self._encode(frames)

    def finish(self) -> None:
        try:
            frames = self._decoder.decode(None)
        except FFmpegError:
            frames = []
        self._encode(frames)
        self._encode_filled(None)
        self._output.mux(self._stream.encode(None))

    def _encode(self, frames: list[Any]) -> None:
        for frame in frames:
            if frame.pts is not None:
                frame.pts += round(self._offset_s / (as_fraction(frame.time_base) or Fraction(1)))
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            if kind != self._kind:  # the first frame, or sound that changes its kind half-way
                self._encode_filled(None)
                self._kind = kind
                self._filler = AudioResampler(
                    format=self._stream.format.name,
                    layout=self._stream.layout.name,
                    rate=self._stream.rate,
                    options={"async": "1"},
                )
            self._encode_filled(frame)

    def _encode_filled(self, frame: Any | None) -> None:
        if self._filler is not None:
            for filled in self._filler.resample(frame):
                self._output.mux(self._stream.encode(filled))
