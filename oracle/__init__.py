"""The alias directory oracle: which FSP holds this party?"""
