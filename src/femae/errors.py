"""Exceptions for errors that a user can cause. Each message says what was wrong, what was expected and what to do."""

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
    """Base class of all errors that the user can fix. Any other exception is a bug in femae."""


class ConfigError(FemaeError):
    """An option or a recipe is wrong: unknown key, value out of range, two options that exclude each other."""


class DataError(FemaeError):
    """A data set, manifest or shard does not have the expected format."""


class InputError(FemaeError):
    """An input of `predict` cannot be read: missing, empty, not a video, no picture in a folder."""


class LabelError(FemaeError):
    """An emotion, compound class or action unit that does not exist."""


class MissingDependencyError(FemaeError):
    """A required package, usually of an extra, is not installed."""


class ModelError(FemaeError):
    """A model file is missing, damaged or of the wrong kind."""


class OutputError(FemaeError):
    """An output cannot be written: no permission, full disk, a folder of that name."""


class TrainingError(FemaeError):
    """A training run cannot continue: the loss is not finite or explodes, a process died, a checkpoint is damaged."""
