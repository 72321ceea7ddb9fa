"""Taxonomies as TOML data files; `synth.writing.taxonomy` reads them."""
