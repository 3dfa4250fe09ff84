"""What the stages learn: `pretrain`, `au`, `emotion`, and their parts: augmentation, mixup, losses, teachers, views.

Of the other subpackages of training, imports loop and loader.
"""
