"""Published checkpoints (github.com/phizaz/diffae): read into our tensors and settings, and written for its forks.

names.py         what each tensor is called there and here
architecture.py  the networks' settings from names and shapes, and what those cannot tell
reading.py       files to settings and weights, refusing everything that is not exactly as expected
writing.py       settings and weights to files
"""
