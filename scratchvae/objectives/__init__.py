"""Objectives put terms together; they own sign and reduction."""
