"""The network is a plain stack, and a face and its mirror image are one to it."""
import keras
import numpy as np
import pytest

from expressions.evaluation import predict
from expressions.network import build_model, symmetrise, tie_mirrored_filters
from expressions.training import resize


@pytest.fixture(scope="module")
def random_model():
    """A small network with random weights of every kind."""
    model = build_model((4, 4, 6, 8), size=None)
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.5, 1.5, weight.shape) if variable.name in ("gamma", "moving_variance")
                       else weight + random.normal(0, 0.1, weight.shape)
                       for weight, variable in zip(model.get_weights(), model.weights)])
    return model


@pytest.mark.parametrize("pooling", ["GlobalMaxPooling2D", "GlobalAveragePooling2D"])
def test_the_network_is_a_plain_stack_that_scales_its_own_pixels(pooling):
    model = build_model(pooling=pooling)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.filters for layer in convolutions] == [32, 32, 64, 64, 128, 128, 256, 256]
    assert [type(layer).__name__ for layer in model.layers[-3:]] == [pooling, "Dropout", "Dense"]
    assert model.count_params() == 1_176_359
    scaled = model.layers[0](np.array([[[[0]], [[127.5]], [[255]]]], np.float32))
    np.testing.assert_allclose(np.ravel(scaled), [-1, 0, 1], atol=1e-6)


def test_the_same_weights_serve_faces_of_any_size(small_set, random_model):
    fixed = build_model((4, 4, 6, 8))
    fixed.set_weights(random_model.get_weights())
    probabilities = predict(random_model, small_set[0][:5])
    np.testing.assert_allclose(predict(fixed, small_set[0][:5]), probabilities, atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert predict(random_model, resize(small_set[0][:5], 32)).shape == (5, 7)


def test_tied_filters_give_a_face_and_its_mirror_image_the_same_probabilities(small_set, random_model):
    model = keras.models.clone_model(random_model)
    model.set_weights(random_model.get_weights())
    faces = small_set[0][:8]
    before = predict(model, faces)
    assert np.abs(before - predict(model, faces[:, :, ::-1])).max() > 1e-3
    tie_mirrored_filters(model)
    np.testing.assert_allclose(predict(model, faces), predict(model, faces[:, :, ::-1]), atol=1e-6)
    kernel = np.array(model.layers[1].kernel)  # (3, 3, 1, 4): the second half of the filters mirrors the first
    np.testing.assert_allclose(kernel[..., 2:], kernel[:, ::-1, :, :2])
    for values in model.weights:
        if values.name != "bias":
            np.testing.assert_allclose(symmetrise(values), values, atol=1e-6)  # a second time changes nothing
