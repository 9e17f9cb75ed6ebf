"""Flow and frames that went through memory alone are those that went through the disk."""

from __future__ import annotations

import numpy as np
import pytest

from flowpipe.flow.store import LAYOUTS, FlowReader, FlowWriter, StoredClip, layout
from flowpipe.flow.store.as_stored import AsStored, image_as_stored
from tests.helpers import media
from tests.helpers.clips import smooth_flow

CASES = [
    *((name, {}) for name in LAYOUTS),
    ("zip", {"quality": 60}),
    ("npy", {"dtype": "float16"}),
]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_flow_is_as_it_is_read(tmp_path, name, options):
    fields = smooth_flow(2)
    kind = layout(name)
    with FlowWriter(tmp_path, "a", kind, **options) as writer:
        for field in fields:
            writer.add_flow(field)
        writer.commit(width=fields.shape[3], height=fields.shape[2], n_frames=3)
    stored = AsStored(name, 20.0, **options)
    with FlowReader(StoredClip(tmp_path, "a", name)) as reader:
        for index, field in enumerate(fields):
            np.testing.assert_array_equal(stored.levels(field), reader.levels(index))
            np.testing.assert_array_equal(stored.flow(field), reader.flow(index, zero=127.5))


def test_a_frame_is_as_it_is_read(tmp_path):
    image = media.coloured(media.texture(32, 48))
    with FlowWriter(tmp_path, "a", layout("zip"), quality=80) as writer:
        writer.add_flow(smooth_flow(1, (48, 32))[0])
        writer.add_image(image)
        writer.commit(width=48, height=32, n_frames=2)
    with FlowReader(StoredClip(tmp_path, "a", "zip")) as reader:
        np.testing.assert_array_equal(image_as_stored(image, 80), reader.image(0))
