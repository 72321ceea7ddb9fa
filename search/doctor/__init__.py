"""What a search will take, and whether all that it needs is there: `safemerge doctor`.

work          how often a search does what, counted
rates         how long each of it takes here, measured for some seconds
times         both together, by stage
memory        peak memory, by term: the one formula
sizes         what the formula is over, read from headers
machine       what this machine has
checks        models, tokenizers, templates, judges, probes
estimate      times, memory and disk of a config; the first lines of a search
diagnosis     everything, for a table
"""
