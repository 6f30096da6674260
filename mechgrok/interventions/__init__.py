"""Interventions: context managers and hook factories that act on hook names of any hooked model."""
