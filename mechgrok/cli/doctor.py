"""`mechgrok doctor`."""

import sys


def command() -> None:
    """Versions, threads, device, and whether pictures can be made."""
    import torch

    from mechgrok.figures import browser
    from mechgrok.training.provenance import machine, versions

    for name, found in versions().items():
        print(f"{name:<18} {found}")
    print(f"{'python':<18} {sys.version.split()[0]}")
    print(f"{'machine':<18} {machine()}")
    print(f"{'threads':<18} {torch.get_num_threads()}")
    print(f"{'device':<18} {'cuda (untested)' if torch.cuda.is_available() else 'cpu'}")
    print(f"{'browser':<18} {browser() or 'none: figures are html only'}")
