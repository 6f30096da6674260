"""What a person sees while training: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType

from tqdm import tqdm

LINE_EVERY = 15.0
"""Seconds between plain lines when there is no terminal."""


class Display:
    """Progress of one run; a context manager."""

    def __init__(self, max_steps: int, enabled: bool, start: int = 0) -> None:
        """Show nothing when not enabled."""
        self._enabled = enabled
        self._terminal = enabled and sys.stderr.isatty()
        self._total, self._at = max_steps, start
        self._began = self._last_line = time.monotonic()
        self._bar: tqdm | None = None

    @property
    def seconds(self) -> float:
        """Since this process began, to the millisecond."""
        return round(time.monotonic() - self._began, 3)

    def __enter__(self) -> "Display":
        self._began = time.monotonic()
        if self._terminal:
            self._bar = tqdm(total=self._total, initial=self._at, unit="step", smoothing=0.1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self) -> None:
        """One more step."""
        self._at += 1
        if self._bar is not None:
            self._bar.update()

    def show(self, metrics: Mapping[str, float]) -> None:
        """The last evaluation."""
        text = {
            "loss": f"{metrics['train_loss']:.2e}/{metrics['test_loss']:.2e}",
            "acc": f"{metrics['train_acc']:.3f}/{metrics['test_acc']:.3f}",
        }
        if self._bar is not None:
            self._bar.set_postfix(text)
        elif self._enabled and time.monotonic() - self._last_line >= LINE_EVERY:
            self._last_line = time.monotonic()
            print(
                f"step {metrics['step']:>6} of {self._total}  "
                f"train/test loss {text['loss']}  accuracy {text['acc']}",
                flush=True,
            )
