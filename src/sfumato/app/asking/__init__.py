"""What the tabs ask: forms and links, read and checked; what workers do for them; what is read out of the answers."""
