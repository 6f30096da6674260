"""The error of a setting that cannot be used."""


class ConfigError(ValueError):
    """A setting that cannot be used; the message says what was given and what was expected."""
