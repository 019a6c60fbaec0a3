"""Altering a generation while it runs: what would the image be if a part of the model were different?"""
