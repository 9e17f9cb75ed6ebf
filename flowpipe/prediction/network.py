"""A trained network as a classifier of new videos."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from flowpipe.datasets.base import Clip
from flowpipe.errors import FormatError
from flowpipe.flow.extract import FlowStage
from flowpipe.flow.store import QUALITY, codecs
from flowpipe.io.source import VideoSource, source_status
from flowpipe.models.clip_input import BOTH
from flowpipe.models.stream import StreamNetwork
from flowpipe.models.weights import load_model
from flowpipe.prediction.base import Classifier
from flowpipe.prediction.flow import RecordedFlow
from flowpipe.prediction.record import RECORD, Record, read_record
from flowpipe.runner import atomic, json_files
from flowpipe.runner.json_files import Json
from flowpipe.runner.pool import Advance, Done, Work
from flowpipe.training.data.clip_index import UnusableClipsError
from flowpipe.training.data.datasets import SnippetsInTurn, test_view_clips, testing_transform
from flowpipe.training.distributed import pick_device
from flowpipe.training.evaluate import RawClips, score_clips
from flowpipe.training.precision import trained_with
from flowpipe.training.testing import Testing, TestViews

_SOURCE = "source.json"


@dataclass(frozen=True, eq=False)
class NetworkClassifier(Classifier):
    """A network, and the record of the flow or the frames that it was trained on.

    Attributes
    ----------
    path, classes, record
        As for :class:`~flowpipe.prediction.Classifier`.
    network
        Trained.
    flow
        Record of the flow; that of warped flow holds the flow's.
    present
        (P,) classes with training clips.
    device
        Where the network computes.
    about
        What is stored with the network.
    """

    path: Path
    classes: tuple[str, ...]
    network: StreamNetwork
    flow: Json
    present: NDArray[np.int64]
    record: Record
    device: str
    about: Json = field(default_factory=dict)
    is_network: ClassVar[bool] = True
    has_device: ClassVar[bool] = True

    @property
    def trained(self) -> NDArray[np.bool_]:
        """(classes,) classes with training clips."""
        return np.isin(np.arange(len(self.classes)), self.present)

    @classmethod
    def load(
        cls, path: Path, testing: Testing | None = None, device: str = "auto"
    ) -> NetworkClassifier:
        """Read a network of ``train``.

        Raises
        ------
        FormatError
            The file is damaged, or the network was not trained on flow or frames that flowpipe
            extracted, so that those of a new video cannot be made.
        """
        network, about = load_model(path)
        record = read_record(path.parent)
        if record.task > len(network.classes):
            raise FormatError(
                f"{str(path.parent / RECORD)!r} has task {record.task}; the network was trained on "
                f"{len(network.classes)}"
            )
        task = record.task - 1
        try:
            classes = tuple(str(each) for each in about["classes"][task])
            flow = about["stream"]["sets"][task]["flow"]
            present = np.array(about["trained_classes"][task], np.int64)
        except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
            raise FormatError(
                f"{str(path)!r} does not say what it was trained on: {error!r}"
            ) from None
        if len(classes) != network.classes[task]:
            raise FormatError(
                f"{str(path)!r} has {network.classes[task]} scores and {len(classes)} classes"
            )
        if (
            present.ndim != 1
            or not present.size
            or not 0 <= present.min() <= present.max() < len(classes)
        ):
            raise FormatError(
                f"{str(path)!r} was trained on the classes {present.tolist()}; they must be "
                f"some of 0 to {len(classes) - 1}"
            )
        if not isinstance(flow, dict):
            raise FormatError(
                f"{str(path)!r} was trained on flow or frames that have no record by flowpipe, so "
                "that those of a new video cannot be made in the same way"
            )
        if testing is not None:
            record = replace(record, testing=testing)
        found = cls(path, classes, network, flow, present, record, device, about)
        found.extraction(path.parent)  # the record is complete
        return found

    def description(self) -> Json:
        """Return the record of what is extracted."""
        if self.network.clip.has_flow:
            return self.recorded_flow.description()
        stage = self.stage()
        quality = stage.quality if stage.frames else None
        size = list(stage.size) if isinstance(stage.size, tuple) else stage.size
        return {
            "stage": "frames",
            "size": size,
            "quality": quality,
            "max_frames": stage.max_frames,
            "keep_truncated": stage.keep_truncated,
            "keep_damaged": stage.keep_damaged,
        }

    def extraction(self, out: Path) -> Work[Clip]:
        """Return the work that extracts flow, warped flow, or frames alone, into a folder."""
        if not self.network.clip.has_flow:
            return ExtractFrames(self.stage(), out)
        return self.recorded_flow.work(out)

    def folders(self, out: Path) -> list[Path]:
        """Return the folders in which the extraction has temporary files."""
        return self.recorded_flow.folders(out) if self.network.clip.has_flow else [out]

    def outputs(self, clip: Clip, out: Path) -> list[Path]:
        """Return the flow or the frames of a clip."""
        if not self.network.clip.has_flow:
            return [out / clip.name]
        return self.recorded_flow.outputs(clip, out)

    def scores(self, clip: Clip, extracted: Path) -> NDArray[np.float32]:
        """Return the scores of a clip before the softmax.

        Raises
        ------
        FormatError
            The clip is shorter than a snippet, or what was extracted is damaged.
        """
        views = self.record.testing.of(self.network)
        try:
            clips = test_view_clips(extracted, [(clip.name, 0)], self.network, views)
        except UnusableClipsError as error:  # its advice is for lists of clips
            (reason,) = error.reasons.values()
            raise FormatError(f"{str(clip.path)!r}: {reason}") from None
        # A long video has more frames than fit into memory.
        return self.scores_of(SnippetsInTurn(clips, self.network), views)

    def scores_of(self, clips: RawClips, views: TestViews) -> NDArray[np.float32]:
        """Return the scores before the softmax of the snippets of one clip."""
        device = pick_device(self.device)
        table = score_clips(
            self.network,
            clips,
            testing_transform(self.network.clip, self.network.network, views),
            average=views.average,
            device=device,
            amp=views.amp or trained_with(self.about, device),
        )
        first = sum(self.network.classes[: self.record.task - 1])
        own: NDArray[np.float32] = table[0, first : first + len(self.classes)]
        return own

    @property
    def recorded_flow(self) -> RecordedFlow:
        """The flow that it was trained on, or with which the frames were extracted."""
        return RecordedFlow(self.flow, str(self.path), self.network.clip.modality == BOTH)

    def stage(self) -> FlowStage:
        """Return the extraction of the flow; of frames, too, where the network sees frames."""
        flow = self.recorded_flow
        return flow.needed() if self.network.clip.has_flow else flow.stage()


@dataclass(frozen=True)
class ExtractFrames:
    """Decode the frames of a video into a folder of images, as ``extract-flow --frames`` would.

    Attributes
    ----------
    stage
        Size of the frames, and their quality if they are stored with the flow. Otherwise they are
        stored without loss, as networks then read them from the videos themselves.
    out
        The output folder.
    """

    stage: FlowStage
    out: Path

    def __call__(self, clip: Clip, advance: Advance) -> Done:
        """Write the frames, unless they are there.

        Raises
        ------
        VideoError, OSError
            The video cannot be used.
        """
        folder, stage = self.out / clip.name, self.stage
        record = folder / _SOURCE
        if record.is_file():
            known = json_files.read_json(record)
            if source_status(known, clip.path, self.out, clip.name) != "changed":
                return Done(skipped=True)
        source = VideoSource(
            clip.path,
            stage.size,
            max_frames=stage.max_frames,
            keep_truncated=stage.keep_truncated,
            keep_damaged=stage.keep_damaged,
        )
        temporary = atomic.temporary_folder(self.out)
        try:
            for number, image in enumerate(source, 1):
                if stage.frames:
                    name, data = "jpg", codecs.encode_jpeg(image, stage.quality or QUALITY)
                else:
                    name, data = "png", codecs.encode_png(image)
                (temporary / f"img_{number:05d}.{name}").write_bytes(data)
                advance(1)
            described = json_files.to_json(source.source(self.out))
            (temporary / _SOURCE).write_bytes(described)
            atomic.place(temporary, folder)
        finally:
            atomic.discard(temporary)
        return Done(warning=source.warning())
