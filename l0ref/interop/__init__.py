"""Interfaces to other libraries. Each module names the extra it needs and imports its library on first use."""
