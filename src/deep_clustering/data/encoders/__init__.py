"""Texts to dense rows: by a sentence encoder of somebody else, or by latent semantic analysis, which needs nothing.

Each kind is imported when it is asked for: none of their packages is needed by anything else.
"""
