"""Three LangChain scenarios and what they need: an embedded AWS, a model server, measurements.

In: the scenarios to run, a session, a model server.
Out: tracked Runs, what each scenario answered, and what tracking cost.
``asynctrack demo`` calls it; it uses asynctrack as a user does.
"""
