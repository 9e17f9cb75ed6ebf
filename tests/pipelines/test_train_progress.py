from __future__ import annotations

import logging

from flowpipe.pipelines.training_progress import TrainingProgress
from flowpipe.training.log import Epoch, Step


def test_progress_has_the_rate_and_the_time_left(caplog):
    """Two epochs of three steps of 8 clips, 15 s each."""
    now = [0.0]
    progress = TrainingProgress("split1", clock=lambda: now[0])
    with caplog.at_level(logging.INFO, logger="flowpipe"):
        for epoch in range(2):
            for step in range(3):
                now[0] += 15
                progress.advance(Step(epoch, step + 1, 3, 2, 8))
            progress.finish_epoch(Epoch(epoch + 1, 0.1, 0.5, 0.75, 45, 24), 2)
    assert [record.getMessage() for record in caplog.records] == [
        "split1: epoch 1/2, step 2/3, 0.5 clips/s, 0:01:00 left",
        "split1: epoch 2/2, step 1/3, 0.5 clips/s, 0:00:30 left",
        "split1: epoch 2/2, loss 0.500, accuracy 75.0 %, 0.5 clips/s, 0:00:00 left",
    ]
