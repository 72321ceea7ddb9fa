"""Taxonomies as TOML data files; `synth.taxonomy` reads them."""
