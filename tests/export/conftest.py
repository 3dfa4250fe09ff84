"""Shortens the timing of exports in tests."""

import pytest


@pytest.fixture(autouse=True)
def _short_timing(short_timing: None) -> None:
    """Applies to all tests of this folder."""
