"""The window of the operating system, through pygame-ce: shows pictures and returns pressed keys."""

import os
import sys
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from femae.errors import MissingDependencyError, OutputError

__all__ = ["Screen"]

_HEADLESS_DRIVERS: Final = ("dummy", "offscreen")  # that SDL falls back to without a display
_LINUX_DISPLAYS: Final = ("DISPLAY", "WAYLAND_DISPLAY")
_MIN_WIDTH: Final = 960  # of a new window's picture, pixels, if the display is large enough
_NO_DISPLAY: Final = (
    "there is no display to open a window on: run this on a desktop, or record without a window with "
    "`femae webcam --headless --record`"
)


class Screen:
    """A window of the operating system; use it from the main thread only."""

    def __init__(self, title: str) -> None:
        """Initialise the display. Raises MissingDependencyError without pygame-ce, OutputError without a display."""
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        try:
            import pygame
        except ImportError as error:
            raise MissingDependencyError("the live window needs pygame-ce: pip install 'femae[webcam]'") from error
        self._pygame: Any = pygame
        driver = os.environ.get("SDL_VIDEODRIVER", "")
        if sys.platform.startswith("linux") and not (driver or any(os.environ.get(name) for name in _LINUX_DISPLAYS)):
            raise OutputError(_NO_DISPLAY)  # SDL would print a message of its own before failing
        try:
            pygame.display.init()
            is_headless = pygame.display.get_driver() in _HEADLESS_DRIVERS
        except pygame.error as error:
            raise OutputError(_NO_DISPLAY) from error
        if is_headless and driver not in _HEADLESS_DRIVERS:
            pygame.display.quit()
            raise OutputError(_NO_DISPLAY)
        pygame.display.set_caption(title)
        self._keys = {
            pygame.K_q: "q",
            pygame.K_ESCAPE: "q",
            pygame.K_r: "r",
            pygame.K_s: "s",
            pygame.K_SPACE: "space",
            pygame.K_h: "h",
        }
        self._clock = pygame.time.Clock()

    def open(self, *, width: int, height: int, extra: int) -> None:
        """Open the window for pictures of this size, scaled to suit the desktop, plus `extra` pixels of height.

        Raises OutputError where no window can be opened.
        """
        desktop = min(self._pygame.display.get_desktop_sizes(), default=(1280, 800))
        largest = (max(320, int(desktop[0] * 0.9)), max(240, int(desktop[1] * 0.85) - extra))
        scale = min(max(1.0, _MIN_WIDTH / width), largest[0] / width, largest[1] / height)
        size = (round(width * scale), round(height * scale) + extra)
        try:
            self._pygame.display.set_mode(size, self._pygame.RESIZABLE)
        except self._pygame.error as error:
            raise OutputError(_NO_DISPLAY) from error

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the window, pixels."""
        width, height = self._pygame.display.get_surface().get_size()
        return max(1, width), max(1, height)

    def pressed_keys(self) -> list[str]:
        """Keys pressed since the last call: q, r, s, space or h; Escape and closing the window count as q."""
        pressed = []
        for event in self._pygame.event.get():
            if event.type == self._pygame.QUIT:
                pressed.append("q")
            elif event.type == self._pygame.KEYDOWN and event.key in self._keys:
                pressed.append(self._keys[event.key])
        return pressed

    def show(self, picture: npt.NDArray[np.uint8]) -> None:
        """Show u8[H, W, 3] RGB, aligned to the upper left corner of the window."""
        height, width = picture.shape[:2]
        surface = self._pygame.image.frombuffer(np.ascontiguousarray(picture).tobytes(), (width, height), "RGB")
        self._pygame.display.get_surface().blit(surface, (0, 0))
        self._pygame.display.flip()

    def wait(self) -> None:
        """Sleep until the next tick of a 60 Hz clock."""
        self._clock.tick(60)

    def close(self) -> None:
        self._pygame.display.quit()
