"""Data sets, one a room: fetched, verified by their hash, built."""
