"""The words of FER2013: its seven expressions, its three splits, the size of its faces; and "unsure"."""
EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # labels 0 to 6
UNSURE = "unsure"  # what is said instead where none is probable enough
SPLITS = ("Training", "PublicTest", "PrivateTest")  # the Usage column, and fusage.npy as 0, 1, 2
TRAINING, PUBLIC_TEST, PRIVATE_TEST = range(3)  # PublicTest is for validation, PrivateTest for the final test
FACE_SIZE = 48  # pixels, both ways
