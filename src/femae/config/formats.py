"""Options that take several formats, separated by commas: `--format csv,parquet`."""

import difflib
from collections.abc import Sequence

__all__ = ["check_formats", "split_formats"]


def check_formats(value: str, *, known: Sequence[str], kind: str) -> str:
    """The value itself where it names known formats. Raises ValueError; kind: what they are, with its article."""
    wrong = [part for part in value.split(",") if part.strip().lower() not in known]
    if wrong:
        near = difflib.get_close_matches(wrong[0].strip().lower(), known, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise ValueError(f"'{wrong[0]}' is not {kind}; {hint}expected one or more of {', '.join(known)}")
    return value


def split_formats(value: str) -> tuple[str, ...]:
    """The formats in their order, each once."""
    return tuple(dict.fromkeys(part.strip().lower() for part in value.split(",") if part.strip()))
