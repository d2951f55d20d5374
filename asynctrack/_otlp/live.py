"""Plugs traces that are sent live into a tracker: light, as that is made in a user's loop."""

from __future__ import annotations

from asynctrack._common.notices import Notices
from asynctrack._otlp.feed import Feed
from asynctrack._otlp.sender import sender_for
from asynctrack._otlp.target import Target
from asynctrack._reading.export.resource import resource_attributes


def live_traces(
    target: Target, *, writer_id: str, experiment: str, run: str, notices: Notices
) -> Feed:
    """Return what sends the traces of a tracker on.

    Args:
        target: Where to.
        writer_id: Whose events they are.
        experiment: The tracked experiment.
        run: The tracked Run.
        notices: Rate-limited warnings.
    """
    return Feed(
        writer_id=writer_id,
        resource={**resource_attributes(experiment, run), **target.resource},
        notices=notices,
        wake=sender_for(target).wake,
        where=target.shown,
        takes_feedback=target.rate is not None,
    )
