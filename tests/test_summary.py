"""What a job that failed says of why."""

from __future__ import annotations

import pytest

from vidembed.pipeline.summary import cause

ADVICE = "UDF failed to process a data block.\nTo change retry attempts, configure `ray.data`."
TRACEBACK = "Traceback (most recent call last):\n  File 'own.py', line 7, in encode_video\n"


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("ValueError: shapes differ\n", "ValueError: shapes differ"),
        ("torch.cuda.OutOfMemoryError: 2 GiB\n", "torch.cuda.OutOfMemoryError: 2 GiB"),
        ("vidembed.errors.RunError: run: taken over\n", "run: taken over"),
    ],
)
def test_the_error_of_a_stage_is_said_and_not_ray_s_advice(raised, said):
    text = f"{TRACEBACK}{raised}\nray.exceptions.UserCodeException: {ADVICE}"
    error = RuntimeError(text)
    error.__cause__ = RuntimeError(ADVICE)
    assert cause(error) == said


def test_an_error_of_ray_itself_is_said_as_it_is():
    assert cause(RuntimeError("first\nthe node is gone")) == "the node is gone"
