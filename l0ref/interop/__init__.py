"""Doors to other libraries; each needs the extra its module names, and nothing is imported before it is asked for."""
