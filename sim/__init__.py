"""The virtual microscope: specimens, image formation, dose, drift and faults."""
