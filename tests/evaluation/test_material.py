"""Which images count as trained on, and which as unseen."""

from __future__ import annotations

import pytest

from diffae.errors import DataError
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.material import given
from diffae.training.settings import TrainingConfig


def test_unseen_images_that_were_trained_on_are_refused(context: EvaluationContext) -> None:
    train, test = context.train.pack, context.test.pack
    with pytest.raises(DataError, match=r"48 of 48 unseen images are among the images of training"):
        given(test, test, None, TrainingConfig())
    seen, unseen = given(train, test, None, TrainingConfig())
    assert sorted(unseen.rows.tolist()) == list(range(48)) != unseen.rows.tolist()  # files are often sorted
    assert len(seen) == 120
