"""Tensors in, tensors out; knows no model and no file."""
