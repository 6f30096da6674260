"""`mechgrok presets`."""


def command() -> None:
    """List the presets."""
    from mechgrok.presets import NAMES

    print("\n".join(NAMES))
