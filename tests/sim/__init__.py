"""Tests of the virtual microscope: physics, specimens, time and faults."""
