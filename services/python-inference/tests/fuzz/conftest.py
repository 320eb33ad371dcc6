"""Runs every suite for a moment, and with `--hypothesis-profile=fuzz` (`make fuzz`) for FUZZ_SECONDS."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator

import hypothesis
import pytest

PROFILE = "fuzz"

# `make fuzz` repeats a suite until its time is over: hypothesis bounds examples, not time.
hypothesis.settings.register_profile(PROFILE, hypothesis.settings.get_profile("untimed"), max_examples=500)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Call a suite once, or again and again until its time is over."""
    once = pyfuncitem.obj
    fuzzing = pyfuncitem.config.getoption("--hypothesis-profile") == PROFILE
    seconds = float(os.environ.get("FUZZ_SECONDS", "60")) if fuzzing else 0.0
    pyfuncitem.obj = repeated(once, seconds)
    try:
        return (yield)
    finally:
        pyfuncitem.obj = once


def repeated(once: Callable[..., None], seconds: float) -> Callable[..., None]:
    def call(**arguments: object) -> None:
        end = time.monotonic() + seconds
        once(**arguments)
        while time.monotonic() < end:
            once(**arguments)

    return call
