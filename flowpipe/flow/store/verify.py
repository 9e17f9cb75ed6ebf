"""Verify that stored flow is complete, and its video the one that it was made from."""

from __future__ import annotations

from flowpipe.errors import FlowpipeError, FormatError
from flowpipe.flow.store.find import StoredClip
from flowpipe.flow.store.layouts import Layout, layout
from flowpipe.flow.store.meta import add_crc
from flowpipe.flow.store.ownership import third_party_path
from flowpipe.flow.store.reader import FlowReader
from flowpipe.runner.atomic import remove_atomically
from flowpipe.runner.provenance import fingerprint, sha256, stage_path


def verify(clip: StoredClip, *, sources: bool = True) -> str | None:
    """Read a clip through and compare it with what its ``meta.json`` says.

    Every byte is read: the check sums of zip and HDF5, and the one in ``meta.json`` for other
    layouts. Each coded member is decoded and its size compared.

    Parameters
    ----------
    clip
        The clip.
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
            if not reader.described:
                raise FormatError("it has no meta.json of flowpipe's, so nothing to compare with")
            _check_members(reader)
            if sources:
                _check_source(reader)
    except FlowpipeError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error}"
    return None


def remove(clip: StoredClip) -> bool:
    """Remove a clip, so that the next run computes it again.

    Returns
    -------
    bool
        False, and nothing is removed, where nothing says that flowpipe wrote it.
    """
    kind = layout(clip.layout or "frames")
    if not _is_ours(clip, kind):
        return False
    if kind.parts:
        marker = kind.in_progress_marker(clip.root, clip.name)
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        clip.done_marker.unlink(missing_ok=True)
        for _, folder in kind.folders(clip.root, clip.name):
            remove_atomically(folder, clip.root)
        marker.unlink()
        return True
    remove_atomically(clip.path, clip.root)
    if kind.meta_suffix:
        clip.done_marker.unlink(missing_ok=True)
    return True


def _is_ours(clip: StoredClip, kind: Layout) -> bool:
    if third_party_path(clip.root, clip.name, kind) is not None:
        return False
    try:
        with FlowReader(clip) as reader:
            return reader.described
    except FormatError:
        return stage_path(clip.root).exists()


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
    too_many = {*(kind.flow_members(meta.n_flows) or (str(meta.n_flows),))}
    if kind.image:
        too_many.add(kind.image_member(meta.n_images))
    if surplus := sorted(too_many & reader.names()):
        raise FormatError(f"it holds more than its meta.json says: {surplus[0]!r}")
    checksum = 0
    for index in range(len(reader)):
        flow = reader.flow(index)
        _compare_size(flow.shape[1:], expected, f"flow field {index}")
        if kind.coding == "float":
            checksum = add_crc(checksum, str(index), flow.astype(meta.dtype or "f4").tobytes())
        else:
            for name in kind.flow_members(index):
                checksum = add_crc(checksum, name, reader.read(name))
    for index in range(meta.n_images):
        _compare_size(reader.image(index).shape[:2], expected, f"frame {index}")
        checksum = add_crc(checksum, kind.image_member(index), reader.image_jpeg(index))
    if not kind.own_checksums and meta != meta.with_checksum(checksum):
        raise FormatError("its check sum is not the one that was written")


def _compare_size(size: tuple[int, ...], expected: tuple[int, int], what: str) -> None:
    if tuple(size) != expected:
        raise FormatError(
            f"{what} is {size[1]}x{size[0]}; meta.json says {expected[1]}x{expected[0]}"
        )


def _check_source(reader: FlowReader) -> None:
    source, path = reader.meta.source, reader.video
    if path is None or not path.exists():
        return
    if fingerprint(path)["bytes"] != source.get("bytes") or sha256(path) != source.get("sha256"):
        raise FormatError(f"its video {str(path)!r} is not the one that the flow was made from")
