"""Genealogies: the real draws that points descend from, without or with a model."""
