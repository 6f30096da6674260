"""Hooked models; only this folder imports transformer_lens. The file name is the model's name."""
