"""Measurements behind the tables in docs/; never imported by the package."""
