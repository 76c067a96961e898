"""Exports: domains for other tools, one file per kind of tool."""
