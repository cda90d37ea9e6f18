"""Invalid user input; scripts print it without a traceback."""


class UserError(ValueError):
    """Invalid user input: the message names what was given, what is allowed and what to do.

    Scripts print only the message; any other exception is a bug and keeps its traceback.
    """
