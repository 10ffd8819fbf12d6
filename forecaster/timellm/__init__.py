"""Time-LLM: series reprogrammed into a frozen language model, its ablations without one, and paths.

Read top to bottom: patching → prompt → reprogramming → backbone → model → bootstrap → pipeline.
Needs transformers (the extra `candlecast[timellm]`) only where a language model is used.
"""

from market.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
