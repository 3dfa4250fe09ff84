"""What the stages learn: `pretrain`, `au`, `emotion`, and their parts: augmentation, mixup, losses, teachers, views.

Imports training.loop and training.loader of the other rooms.
"""
