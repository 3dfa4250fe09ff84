"""Exports that are timed for a moment."""

import pytest


@pytest.fixture(autouse=True)
def _short_timing(short_timing: None) -> None:
    """In all tests of this folder."""
