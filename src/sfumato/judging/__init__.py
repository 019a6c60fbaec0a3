"""Judging explanations: does the image change as the map says when places are taken away or given back?"""
