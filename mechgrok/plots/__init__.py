"""Figures: the file X.py draws figure X from saved results; `plot(run)` returns a plotly Figure.

A missing result is an error that names the command which makes it. A measure that does not apply
gives a figure that says why. Adding a figure is adding a file; files that start with _ help.
"""
