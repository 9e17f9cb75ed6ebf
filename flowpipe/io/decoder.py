"""Decode one video stream, and keep account of what in it is damaged.

FFmpeg's decoders carry on after damage: they conceal blocks that do not decode, pass over packets,
and predict from frames that are missing. Flow of such frames is invented, so they are counted:
frames marked as corrupt, packets that do not decode, and frames that never come out. A gap in the
times of a video of constant rate is reported, but is no damage: encoders leave out frames that
repeat the one before.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from flowpipe.runner.json_files import Json

# Their packets are shown, each as one frame; others also have packets that are not.
_ONE_FRAME_PER_PACKET = {"av1", "h264", "hevc"}
_FEWEST_INTERVALS = 10
_MOST_GAPS = 0.1
_ROUNDING = 0.05
_SQUARE = 0.02


@dataclass(slots=True)
class DecodingReport:
    """What is to be known of a video beside its frames.

    Attributes
    ----------
    corrupt_frames
        Frames that the decoder concealed errors in.
    failed_packets
        Packets that do not decode.
    lost_frames
        Frames whose packets are there, but which were not decoded.
    missing_frames
        Frames that are missing from an otherwise constant rate, or from the numbers of images.
    damaged_from
        Time in seconds of the first damage, None if there is none or it is unknown.
    sample_aspect_ratio
        Width of a pixel divided by its height. Frames are not stretched by it.
    notes
        What else the user should know.
    """

    corrupt_frames: int = 0
    failed_packets: int = 0
    lost_frames: int = 0
    missing_frames: int = 0
    damaged_from: float | None = None
    sample_aspect_ratio: Fraction = Fraction(1)
    notes: list[str] = field(default_factory=list)

    @property
    def damage(self) -> str | None:
        """The damage in one phrase, None if there is none."""
        counts = [
            (self.corrupt_frames, "corrupt frame"),
            (self.failed_packets, "packet that cannot be decoded"),
            (self.lost_frames, "lost frame"),
        ]
        found = [f"{n} {_plural(what, n)}" for n, what in counts if n]
        if not found:
            return None
        at = "" if self.damaged_from is None else f", the first at {self.damaged_from:.2f} s"
        return f"damaged: {', '.join(found)}{at}"

    def messages(self) -> list[str]:
        """Return what the user should know, one short phrase each."""
        messages = list(self.notes)
        if self.damage:
            messages.insert(0, self.damage)
        if n := self.missing_frames:
            messages.append(f"{n} {_plural('frame', n)} missing between its first and last")
        ratio = self.sample_aspect_ratio
        if abs(ratio - 1) > _SQUARE:
            messages.append(
                f"its pixels are not square ({ratio.numerator}:{ratio.denominator}), "
                "and frames are not stretched"
            )
        return messages

    def record(self) -> Json:
        """Return what is recorded of the clip; nothing for a sound video with square pixels."""
        counts = ("corrupt_frames", "failed_packets", "lost_frames", "missing_frames")
        record: Json = {name: getattr(self, name) for name in counts if getattr(self, name)}
        ratio = self.sample_aspect_ratio
        if ratio != 1:
            record["sample_aspect_ratio"] = f"{ratio.numerator}:{ratio.denominator}"
        if messages := self.messages():
            record["notes"] = list(messages)
        return record


class Decoder:
    """Iterate over the decoded frames of a stream in presentation order.

    Attributes
    ----------
    packets
        Packets with data so far.
    cut
        Reading stopped with an error before the end.
    """

    def __init__(
        self, container: InputContainer, stream: VideoStream, report: DecodingReport
    ) -> None:
        self._container = container
        self._stream = stream
        self._report = report
        # AVI has no presentation times: those of its packets are in the order of decoding.
        self._sort_times = container.format.name == "avi"
        self._keyframe_seen = False
        self._cut_in_two = False
        self._waiting: list[int] = []
        self._shown: list[int] = []
        self.packets = 0
        self.cut = False

    def __iter__(self) -> Iterator[tuple[VideoFrame, float | None]]:
        """Yield each frame and its presentation time in seconds."""
        demuxer = self._container.demux(self._stream)
        while True:
            try:
                packet = next(demuxer)
            except StopIteration:
                return
            except av.error.FFmpegError:
                # The decoder still holds the frames that were waiting for later ones.
                self.cut = True
                with suppress(av.error.FFmpegError):
                    for picture in self._stream.codec_context.decode(None):
                        yield picture, self._time(picture)
                return
            yield from self._decode(packet)

    def _decode(self, packet: Packet[VideoStream]) -> Iterator[tuple[VideoFrame, float | None]]:
        report = self._report
        if packet.size:
            self.packets += 1
            self._keyframe_seen |= packet.is_keyframe
            # A packet that is cut in two where the file ends is a matter of truncation.
            self._cut_in_two |= packet.is_corrupt and self._container.format.name != "mpegts"
            if packet.pts is not None and not packet.is_discard:
                heapq.heappush(self._waiting, packet.pts)
        try:
            pictures = packet.decode()
        except av.error.FFmpegError:
            # Before the first keyframe nothing can be decoded: a clip may be cut anywhere.
            if packet.size and self._keyframe_seen and not self._cut_in_two:
                report.failed_packets += 1
                self._note_time(packet.pts)
            return
        for picture in pictures:
            if picture.is_corrupt and self._keyframe_seen and not self._cut_in_two:
                report.corrupt_frames += 1
                self._note_time(picture.pts)
            yield picture, self._time(picture)

    def _time(self, picture: VideoFrame) -> float | None:
        pts = picture.pts
        if self._sort_times and self._waiting:
            pts = heapq.heappop(self._waiting)
        if pts is None or self._stream.time_base is None:
            return picture.time
        self._shown.append(pts)
        return float(pts * self._stream.time_base)

    def _note_time(self, pts: int | None) -> None:
        base = self._stream.time_base
        if self._report.damaged_from is None and pts is not None and base is not None:
            self._report.damaged_from = float(pts * base)

    def count_gaps(self) -> None:
        """Add to the report the frames that are lost or missing between those decoded so far."""
        shown = np.unique(np.array(self._shown, np.int64))
        if len(shown) <= _FEWEST_INTERVALS:
            return
        intervals = np.diff(shown)
        usual = float(np.median(intervals))
        gaps = np.flatnonzero(intervals > 1.5 * usual)
        if self._stream.codec.name in _ONE_FRAME_PER_PACKET and not self._sort_times:
            waiting = np.setdiff1d(np.array(self._waiting, np.int64), shown)
            lost = waiting[np.isin(np.searchsorted(shown, waiting) - 1, gaps)]
            lost = lost[lost < shown[-1]]
            self._report.lost_frames = len(lost)
            if len(lost):
                self._note_time(int(lost.min()))
        times = intervals / usual
        constant = np.all(np.abs(intervals - np.round(times) * usual) <= 1 + _ROUNDING * usual)
        if (
            self._container.format.name != "gif"
            and constant
            and len(gaps) <= _MOST_GAPS * len(intervals)
        ):
            missing = int(np.round(times[gaps]).sum()) - len(gaps)
            self._report.missing_frames = max(0, missing - self._report.lost_frames)


def _plural(text: str, count: int) -> str:
    if count == 1:
        return text
    noun, _, rest = text.partition(" that ")
    return f"{noun}s that {rest}" if rest else f"{noun}s"
