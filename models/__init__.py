"""Everything that learns: descriptors and the decision engine."""
