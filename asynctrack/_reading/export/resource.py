"""What OpenTelemetry is told of a Run as a whole. Imports nothing: a tracker asks for it."""

from __future__ import annotations


def resource_attributes(experiment: str, run: str) -> dict[str, str]:
    """Return what all spans of a Run say of where they come from.

    Args:
        experiment: The experiment's name; it is the service's name.
        run: The Run's name.
    """
    return {
        "service.name": experiment,
        "service.instance.id": run,
        "asynctrack.experiment": experiment,
        "asynctrack.run": run,
        "openinference.project.name": experiment,  # where Phoenix puts it
    }
