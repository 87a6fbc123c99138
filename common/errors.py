"""What a person is told when something they gave us cannot be used."""


class OstrakonError(Exception):
    """One clear sentence for the user: what was expected, what came, what to do.

    Command lines print the message alone, without a traceback, and exit with status 2.
    """
