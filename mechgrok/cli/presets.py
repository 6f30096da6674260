"""`mechgrok presets`."""


def command() -> None:
    """List the presets and what each is."""
    from mechgrok.presets import ABOUT, NAMES

    width = max(map(len, NAMES))
    for name in NAMES:
        print(f"{name:{width}}  {ABOUT[name]}")
