"""The decision engine: from outcomes to the next sub-scan."""
