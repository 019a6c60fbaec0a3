"""The errors of Sfumato: every one says what was given, what is expected and what to do."""

from __future__ import annotations


class SfumatoError(Exception):
    """Base of every error that Sfumato raises on purpose; the command line prints it as one line."""


class RequestError(SfumatoError, ValueError):
    """A request cannot be generated: a field is out of range or unreadable."""


class Unreadable(SfumatoError, ValueError):
    """A file or a text that was given cannot be read.

    Attributes:
        reason: Why, without its name.
        missing: Whether there is no such file.
    """

    def __init__(self, what: str, reason: str, *, missing: bool = False) -> None:
        super().__init__(f"{what} cannot be read: {reason}")
        self.reason, self.missing = reason, missing


class UnknownWord(SfumatoError, KeyError):
    """A word was asked for that the prompt does not contain."""

    def __str__(self) -> str:
        """The message itself (KeyError would print its repr)."""
        return str(self.args[0]) if self.args else ""


class UnknownMethod(SfumatoError, LookupError):
    """No method of this name is registered."""


class UnknownTask(SfumatoError, LookupError):
    """No task of this name is registered."""


class UnknownMetric(SfumatoError, LookupError):
    """No metric of this name is registered."""


class RunError(SfumatoError):
    """A run cannot begin or go on: its folder holds something else, or a run of other settings, or is in use."""


class OptionError(SfumatoError, ValueError):
    """An option of a method or a task is unknown or has an unusable value."""


class ModelError(SfumatoError):
    """A model cannot be loaded, or cannot do what a method needs."""


class CannotWatch(SfumatoError, RuntimeError):
    """The model runs in a way that cannot be observed (compiled, or an attention backend that bypasses PyTorch)."""


class NonFinite(SfumatoError, ArithmeticError):
    """The generation produced NaN or infinite values."""


class BudgetExceeded(SfumatoError, MemoryError):
    """What was asked for does not fit the stated memory budget."""


class StoreError(SfumatoError, OSError):
    """A result cannot be written or read."""


class TrainingError(SfumatoError):
    """A training cannot start, resume or go on."""


class SfumatoWarning(UserWarning):
    """Something that the reader of a result should know, such as a word that the model did not see."""
