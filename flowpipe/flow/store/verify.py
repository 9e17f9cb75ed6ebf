"""Whether stored flow is whole, and its video still the one that it was made from."""

from __future__ import annotations

from pathlib import Path

from flowpipe.artifacts import discard, fingerprint, sha256
from flowpipe.errors import FlowpipeError, FormatError
from flowpipe.flow.store.layouts import layout
from flowpipe.flow.store.meta import summed
from flowpipe.flow.store.reader import FlowReader, StoredClip


def verify(clip: StoredClip, *, sources: bool = True) -> str | None:
    """Read a clip through and compare it with what its ``meta.json`` says.

    Every byte is read: the check sums of zip and HDF5, and the one in ``meta.json`` for other
    layouts. Each coded member is decoded and its size compared.

    Parameters
    ----------
    clip
        The clip as it lies.
    sources
        Also compare the video, by its SHA-256, with the one that the flow came from. A video
        that is not there (any more) is no fault of the flow.

    Returns
    -------
    str or None
        What is wrong, None where nothing is.
    """
    try:
        with FlowReader(clip) as reader:
            if not reader.meta.source:
                raise FormatError("it has no meta.json of flowpipe's, so nothing to compare with")
            _check_members(reader)
            if sources:
                _check_source(reader, clip.root)
    except FlowpipeError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error}"
    return None


def remove(clip: StoredClip) -> None:
    """Take a clip away, its mark first, so that the next run makes it anew."""
    if clip.layout in ("npy", "tsfusion"):
        clip.mark.unlink(missing_ok=True)
    if clip.layout in ("zip", "h5", "npy"):
        discard(clip.path)
    else:
        for _, folder in layout(clip.layout or "frames").folders(clip.root, clip.name):
            discard(folder)


def _check_members(reader: FlowReader) -> None:
    meta, kind = reader.meta, reader.layout
    expected = (meta.height, meta.width)
    if meta.n_flows < 1:
        raise FormatError("it says that it holds no flow")
    if meta.n_flows != meta.n_frames - abs(meta.step):
        raise FormatError(
            f"{meta.n_frames} frames with step {meta.step} make "
            f"{meta.n_frames - abs(meta.step)} flow fields; it says {meta.n_flows}"
        )
    checksum = 0
    for index in range(len(reader)):
        flow = reader.flow(index)
        _compare_size(flow.shape[1:], expected, f"flow field {index}")
        if kind.coding == "float":
            checksum = summed(checksum, str(index), flow.astype(meta.dtype or "f4").tobytes())
        else:
            for name in kind.flow_members(index):
                checksum = summed(checksum, name, reader.read(name))
    for index in range(meta.n_images):
        _compare_size(reader.image(index).shape[:2], expected, f"frame {index}")
        checksum = summed(checksum, kind.image_member(index), reader.image_jpeg(index))
    if meta.crc32 is not None and checksum != meta.crc32:
        raise FormatError("its check sum is not the one that was written")


def _compare_size(size: tuple[int, ...], expected: tuple[int, int], what: str) -> None:
    if tuple(size) != expected:
        raise FormatError(
            f"{what} is {size[1]}x{size[0]}; meta.json says {expected[1]}x{expected[0]}"
        )


def _check_source(reader: FlowReader, root: Path) -> None:
    source = reader.meta.source
    path = root / str(source.get("path"))
    if not path.is_file():
        return
    if fingerprint(path)["bytes"] != source.get("bytes") or sha256(path) != source.get("sha256"):
        raise FormatError(f"its video {str(path)!r} is not the one that the flow was made from")
