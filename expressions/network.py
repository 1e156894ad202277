"""The network, layer by layer, and the tying of its mirrored filters."""
from expressions.labels import EXPRESSIONS, FACE_SIZE


def build_model(filters=(32, 64, 128, 256), pooling="GlobalMaxPooling2D", size=FACE_SIZE):
    """Return the untrained network: grey faces (n, size, size, 1) with values 0 to 255 → probabilities (n, 7).

    It has LeNet's plan: convolutions, pooling, a dense layer. The weights are the same for any `size`, None is for all.
    """
    import keras
    from keras import layers

    def convolutions(count):
        return [layer for _ in range(2) for layer in (
            layers.Conv2D(count, 3, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),  # follows a few steps' small sets, too
            layers.ReLU())]

    return keras.Sequential([
        keras.Input((size, size, 1)),
        layers.Rescaling(1 / 127.5, offset=-1),  # inside the network, so training and recognition cannot differ
        *convolutions(filters[0]), layers.MaxPooling2D(),
        *convolutions(filters[1]), layers.MaxPooling2D(),
        *convolutions(filters[2]), layers.MaxPooling2D(),
        *convolutions(filters[3]), getattr(layers, pooling)(),
        layers.Dropout(0.3),
        layers.Dense(len(EXPRESSIONS), activation="softmax", dtype="float32"),
    ], name="expressions")


def symmetrise(values):
    """Project a layer's values onto the mirror-symmetric ones: average them with their mirrored partners.

    The partner of a channel is the one half of all channels further; in kernels (height, width, channels in, channels
    out) left and right change places, too. The face itself is one channel, and the expressions have no partners.
    """
    from keras import ops

    mirrored = ops.flip(values, axis=1) if len(values.shape) == 4 else values
    for axis in (2, 3) if len(values.shape) == 4 else (0,):
        mirrored = ops.roll(mirrored, values.shape[axis] // 2, axis=axis)
    return (values + mirrored) / 2


def tie_mirrored_filters(model):
    """Give a face and its mirror image the same probabilities, now and after each training step.

    Half of the filters are the mirror images of the other half (group-equivariant convolutions, Cohen and Welling
    2016). Inference costs the same; training has half as many free values.
    """
    from keras.constraints import Constraint

    class MirrorSymmetric(Constraint):
        def __call__(self, values):
            return symmetrise(values)

    for values in model.weights:
        if values.name != "bias":
            values.assign(symmetrise(values))
            values.constraint = MirrorSymmetric()
