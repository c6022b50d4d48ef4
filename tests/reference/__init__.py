"""The reference pages that are made from the code: `python -m tests.reference` writes them anew."""
