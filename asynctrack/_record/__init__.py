"""What the Run and the manifest get.

In: receipts of delivered artifacts, and what the callbacks noticed (parameters, model
configurations, metrics). Out: ``UpdateTrialComponent`` and ``BatchPutMetrics`` requests, which
carry only changes and stay below AWS's limits, and the writer's manifest in the store.
The engine calls ``Recorder.write`` every few seconds, at each flush, and when a tracker closes.
"""
