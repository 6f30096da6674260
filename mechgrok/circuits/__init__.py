"""Circuits: a model as a graph, what each of its edges does, and which of them are enough.

graph            nodes (component, position, frequency) and the edges between them
edge_effects     exact effects, their mirror, EAP and EAP-IG of every edge
shifted_operand  which rows to corrupt with where frequencies are taken apart
contrast         both runs recorded once, for many questions
"""

from mechgrok.circuits.contrast import Contrast, contrast, shifted_operand
from mechgrok.circuits.effects import EdgeEffects, edge_effects, effects_of, errors
from mechgrok.circuits.gradients import by_source, eap, eap_ig
from mechgrok.circuits.graph import Component, Edge, Graph, NotResidual, Place, graph

__all__ = [
    "Component",
    "Contrast",
    "Edge",
    "EdgeEffects",
    "Graph",
    "NotResidual",
    "Place",
    "by_source",
    "contrast",
    "eap",
    "eap_ig",
    "edge_effects",
    "effects_of",
    "errors",
    "graph",
    "shifted_operand",
]
