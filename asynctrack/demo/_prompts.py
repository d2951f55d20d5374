"""The prompts of the three scenarios, the same in both styles."""

from __future__ import annotations

TOPIC = "fish"
JOKE = "Tell me a joke about {topic}."

TITLE = "Documentary about good log files"
PLAYWRIGHT = (
    "You are a playwright. Write a short synopsis of a play.\n"
    'The title of the play is "{title}".\n'
    "Synopsis:"
)
CRITIC = (
    "You are a theatre critic. Write a short review of the play with this synopsis.\n\n"
    "{synopsis}\n\n"
    "Review:"
)

AGENT = "Use the tools: look up what you do not know, and never work out numbers in your head."
QUESTION = (
    "Who is the oldest person alive? And what is their current age raised to the power of 1.51?"
)
