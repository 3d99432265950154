"""Networks from elsewhere: weights of PyTorch's files to start from, and nnU-Net's trained models as runs.

Called when training is set up, and as commands.
"""
