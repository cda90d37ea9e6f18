"""The one exception that means: the user can mend this."""


class UserError(ValueError):
    """A mistake in what was asked for: its message names what was given, what is allowed and what to do.

    Scripts print the message alone; any other exception is a defect of ours and keeps its traceback.
    """
