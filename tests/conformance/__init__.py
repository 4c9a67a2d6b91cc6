"""What every driver must pass."""
