"""The errors a user can cause. Each message says what was wrong, what was expected and what to do."""

__all__ = [
    "ConfigError",
    "DataError",
    "FemaeError",
    "InputError",
    "LabelError",
    "MissingDependencyError",
    "ModelError",
    "OutputError",
    "TrainingError",
]


class FemaeError(Exception):
    """Root of every error that is the user's to mend. Anything else is a fault of femae itself."""


class ConfigError(FemaeError):
    """An option or a recipe is wrong: unknown key, value out of range, two options that exclude each other."""


class DataError(FemaeError):
    """A data set, manifest or shard is not in the form its reader expects."""


class InputError(FemaeError):
    """An input of `predict` cannot be read: missing, empty, not a video, no picture in a folder."""


class LabelError(FemaeError):
    """An emotion, compound class or action unit that does not exist."""


class MissingDependencyError(FemaeError):
    """A package of an extra is needed and not installed."""


class ModelError(FemaeError):
    """A file of weights is missing, damaged or of another kind than the one asked for."""


class OutputError(FemaeError):
    """An output cannot be written: no permission, full disk, a folder in the way."""


class TrainingError(FemaeError):
    """A run cannot go on: the loss is not finite or explodes, a process was lost, a state is damaged."""
