"""Run directories and what is read from them; plain data."""
