"""Specimens with known truth: one module for each kind, built with ASE."""

from sim.specimen.batio3 import batio3
from sim.specimen.geometry import with_margin
from sim.specimen.graphene import graphene
from sim.specimen.specimen import Specimen, TruthField
from sim.specimen.ws2_wse2 import ws2_wse2

__all__ = ["Specimen", "TruthField", "batio3", "graphene", "with_margin", "ws2_wse2"]
