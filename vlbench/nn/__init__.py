"""Bricks that methods are built of; knows torch only."""
