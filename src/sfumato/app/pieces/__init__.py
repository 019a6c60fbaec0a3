"""What tabs are made of: components of our own, each a script in ``static`` and the value that Python gives it."""
