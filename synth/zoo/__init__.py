"""A small world with known truth: four checkpoints that are trained on this machine.

lexicon, world    the words, the questions and their true answers
draw, corpus      random questions; what each model is taught
general           prompts beside all axes, which no merge should answer otherwise
tokenizer, train, strength    the tokenizer, one model's training, how strong a source is
build, children, worker       the zoo on disk, and the processes that train it
"""

from synth.zoo.build import Zoo, build_zoo
from synth.zoo.draw import probes
from synth.zoo.worker import ZooSpec
from synth.zoo.world import World

__all__ = ["World", "Zoo", "ZooSpec", "build_zoo", "probes"]
