"""A support bot to ask questions about: real chains and graphs, tracked as users track theirs, and
the truth about them, which the bot counts itself while it plays.

``play(folder)`` writes an experiment of two Runs, a version of the bot's prompt each, and returns
the ``Truth``. Nothing of the truth is read from what asynctrack has stored.
"""

from tests.support.bot.plan import PHRASE, VERSIONS
from tests.support.bot.play import EXPERIMENT, SEED, play
from tests.support.bot.truth import PRICES, Calls, Conversation, RunTruth, Truth, Turn, Usage

__all__ = [
    "EXPERIMENT", "PHRASE", "PRICES", "SEED", "VERSIONS", "Calls", "Conversation", "RunTruth",
    "Truth", "Turn", "Usage", "play",
]  # fmt: skip
