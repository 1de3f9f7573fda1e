"""The alias directory oracle: which FSP holds this party?"""

from oracle import compiled

compiled.install()
