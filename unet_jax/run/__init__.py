"""What a run leaves behind: its folder, config, checkpoints, manifest, and what resuming needs.

Called by all that trains, scores or uses a run; knows neither networks nor scores.
"""
