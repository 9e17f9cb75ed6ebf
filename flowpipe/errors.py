"""What flowpipe raises on purpose; anything else that escapes is a defect."""


class FlowpipeError(Exception):
    """Base of every error that a user can cause and can mend.

    The message names the file or the parameter, its value, and what would be right.
    """


class ParameterError(FlowpipeError, ValueError):
    """A parameter has a value outside its range, or two parameters contradict each other."""


class BackendUnavailableError(FlowpipeError):
    """A solver was asked for that this machine cannot run; the message says how to get it."""


class FormatError(FlowpipeError):
    """A file does not hold what its name or its place says it holds."""
