"""How far a model's loading is, as its `load` tells it: for the log, a metric and those who ask why it is not ready."""

import logging
import time
from collections.abc import Callable
from typing import Final

from prometheus_client import Gauge

_LOG_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)


class LoadProgress:
    """The function `progress` of one loading; called on the loader's thread.

    Parameters
    ----------
    name
        The model's name.
    share
        Told the share that is done.
    tell
        Told the text for those who ask.
    clock
        Monotonic seconds.
    """

    def __init__(
        self, name: str, share: Gauge, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._share = share
        self._tell = tell
        self._clock = clock
        self._logged: tuple[str, float] | None = None

    def __call__(self, fraction: float, text: str = "") -> None:
        """Tell that this share of the work, 0 to 1, is done, and what comes now.

        Raises
        ------
        ValueError
            The share is none.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"progress({fraction!r}): the share that is done is a number from 0 to 1")
        self._share.set(fraction)
        self._tell(f"{fraction:.0%}: {text}" if text else f"{fraction:.0%}")
        now = self._clock()
        # A new text at once; of many steps under one text, one line a second.
        if self._logged is None or self._logged[0] != text or now - self._logged[1] >= _LOG_SECONDS:
            self._logged = text, now
            _log.info("Loading model", extra={"model": self._name, "done": round(float(fraction), 3), "step": text})
