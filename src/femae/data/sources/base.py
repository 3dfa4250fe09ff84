"""What all readers of data sets share: read item by item, keep a sample or say by cause why not, never stop midway."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Final, Generic, TypeVar

from femae.data.samples import RawSample, Reading
from femae.data.targets import EmotionLabel, label_targets, unknown_targets
from femae.errors import ConfigError, DataError

__all__ = ["LeftOut", "Source", "check_every", "numbered_label", "require"]

Item = TypeVar("Item")
_NO_LABEL: Final = "no known label"


class LeftOut(Exception):  # noqa: N818 - not a fault: an item that a reader counts and passes over
    """Raised while a sample is made: the item is left out, and this is the cause in words."""


class Source(ABC, Generic[Item]):
    """A reader: `_items` goes through the raw data set, `_sample` makes a sample of an item or raises LeftOut."""

    def __init__(self, *, name: str, keep_unlabelled: bool) -> None:
        self.reading = Reading(source=name)
        self._keep_unlabelled = keep_unlabelled

    def __iter__(self) -> Iterator[RawSample]:
        """One sample after the other; `reading` starts anew and is complete at the end."""
        self.reading.clear()
        for example, item in self._items():
            try:
                sample = self._sample(item)
                if not (self._keep_unlabelled or sample.mask.any() or sample.action_units):
                    raise LeftOut(f"{_NO_LABEL} ({sample.class_name})" if sample.class_name else _NO_LABEL)
            except LeftOut as problem:
                self._leave_out(str(problem), example)
                continue
            yield self.reading.keep(sample)

    def _leave_out(self, cause: str, example: str, *, count: int = 1) -> None:
        self.reading.leave_out(cause, example=example.encode("utf-8", "backslashreplace").decode(), count=count)

    @abstractmethod
    def _items(self) -> Iterator[tuple[str, Item]]:
        """What to call an item in the account, and the item."""

    @abstractmethod
    def _sample(self, item: Item) -> RawSample:
        """Raises LeftOut."""


def numbered_label(text: str, order: Mapping[int, str]) -> EmotionLabel:
    """A number of a data set's own order -> targets. -1 is unknown everywhere. Raises LeftOut."""
    try:
        number = int(text)
    except ValueError:
        raise LeftOut("label is not a number") from None
    if number == -1:
        return unknown_targets("unknown")
    if number not in order:
        raise LeftOut("label is a number that the data set does not define")
    return label_targets(order[number])


def require(found: object, *, what: str, looked_for: list[str], hint: str = "") -> None:
    """Raise DataError when a part of the layout is not there."""
    if not found:
        raise DataError(f"{what}: looked for {', '.join(looked_for)}; {hint or 'give the folder that holds them'}")


def check_every(every: int) -> int:
    """Raises ConfigError when frames cannot be taken at this step."""
    if every < 1:
        raise ConfigError(f"every {every}: expected 1 (all frames) or more")
    return every
