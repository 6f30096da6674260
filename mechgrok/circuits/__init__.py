"""Circuits: a model as a graph, what each of its edges does, and which of them are enough.

graph            nodes (component, position, frequency) and the edges between them
edge_effects     exact effects, their mirror, EAP and EAP-IG of every edge
shifted_operand  which rows to corrupt with where frequencies are taken apart
contrast         both runs recorded once, for many questions
align            a map between two models that share no basis, judged on rows it has not seen
"""

from mechgrok.circuits.alignment import Alignment, Unit, align, best_unit, unit_rows
from mechgrok.circuits.contrast import Contrast, contrast, shifted_operand
from mechgrok.circuits.effects import EdgeEffects, edge_effects, effects_of, errors
from mechgrok.circuits.gradients import by_source, eap, eap_ig
from mechgrok.circuits.graph import Component, Edge, Graph, NotResidual, Place, graph
from mechgrok.circuits.overlap import (
    Directions,
    Overlap,
    direction_overlap,
    edge_overlap,
    frequency_overlap,
)
from mechgrok.circuits.search import (
    Judged,
    SameRuns,
    by_threshold,
    faithfulness,
    greedy,
    judge,
    random_circuit,
    strongest,
)

__all__ = [
    "Alignment",
    "Component",
    "Contrast",
    "Directions",
    "Edge",
    "EdgeEffects",
    "Graph",
    "Judged",
    "NotResidual",
    "Overlap",
    "Place",
    "SameRuns",
    "Unit",
    "align",
    "best_unit",
    "by_source",
    "by_threshold",
    "contrast",
    "direction_overlap",
    "eap",
    "eap_ig",
    "edge_effects",
    "edge_overlap",
    "effects_of",
    "errors",
    "faithfulness",
    "frequency_overlap",
    "graph",
    "greedy",
    "judge",
    "random_circuit",
    "shifted_operand",
    "strongest",
    "unit_rows",
]
