"""Describers: from the frames of a sub-scan to vectors."""
