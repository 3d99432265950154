"""Every configuration of a plan trained on every fold, compared, and the best of them chosen and used.

Called where config.plan.configurations names several; each run is an ordinary one, in `<configuration>/fold<k>`.
"""
