"""Homecare visits, pure: what care providers say of a visit, how what they say is joined, what came of the visit."""
