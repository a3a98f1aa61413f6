"""Corrections of batch effects: profiles in, profiles out, behind one fit/transform interface without labels."""
