"""How good probabilities are on held-out faces, what adjusts them to those, and FER+'s way of counting."""
import numpy as np

BINS = 15  # of the calibration error
ACCURACY_LOSS = 0.001  # of the held-out faces, that a higher mean recall may cost


def predict(model, faces):
    """Return the probabilities float32 (n, 7) of faces uint8 (n, h, w, 1), computed by Keras."""
    return model.predict(faces.astype(np.float32), batch_size=256, verbose=0)


def calibration_table(y_true, y_prob, bins=BINS):
    """Return a pandas table of how often the most probable expression is the true one.

    A row for each of `bins` equal ranges of its probability: `faces` in it, their mean `probability` and the `accuracy`
    among them, nan where there are none. y_true is int (n,), y_prob float (n, 7).
    """
    import pandas as pd

    confidence, right = y_prob.max(axis=1).astype(float), y_prob.argmax(axis=1) == y_true
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    groups = pd.DataFrame({"probability": confidence, "accuracy": right}).groupby(bin_of)
    return groups.mean().assign(faces=groups.size()).reindex(range(bins)).fillna({"faces": 0})


def expected_calibration_error(table):
    """Return the expected calibration error (Guo et al. 2017, equation 3) of a calibration table: 0 is best."""
    return np.average((table.accuracy - table.probability).abs().fillna(0), weights=table.faces)


def fit_temperature(probabilities, labels):
    """Return the softmax temperature with the smallest cross-entropy (Guo et al. 2017) on held-out faces.

    probabilities float (n, 7), labels int (n,). Dividing the logits by it makes confidence match accuracy.
    """
    logits = np.log(np.maximum(probabilities, 1e-30))

    def cross_entropy(temperature):
        scaled = logits / temperature
        return np.mean(np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(labels)), labels])

    return min(np.geomspace(0.1, 10, 1001), key=cross_entropy)


def adjust_prior(model, faces, labels, shares):
    """Divide the probabilities by shares ** power, through the last layer's bias; return the power.

    `shares` float (7,) are those of the expressions in the training targets: a network that learned from few faces of
    an expression seldom predicts it (logit adjustment, Menon et al. 2021). The power, 0 to 1, is the one with the
    highest mean recall on held-out faces uint8 (n, 48, 48, 1), labels int (n,), that costs at most ACCURACY_LOSS.
    """
    probabilities, shares = predict(model, faces), np.maximum(shares, 1e-3)

    def measure(power):
        right = (probabilities / shares ** power).argmax(axis=1) == labels
        return np.mean([right[labels == label].mean() for label in np.unique(labels)]), right.mean()

    lowest = measure(0)[1] - ACCURACY_LOSS
    power = max((power for power in np.arange(21) / 20 if measure(power)[1] >= lowest),
                key=lambda power: (measure(power)[0], -power))
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel, bias - power * np.log(shares)])
    return float(power)


def calibrate(model, faces, labels):
    """Divide the last layer by the temperature that fits faces uint8 (n, 48, 48, 1), labels int (n,); return it."""
    temperature = fit_temperature(predict(model, faces), labels)
    last = model.layers[-1]
    last.set_weights([values / temperature for values in last.get_weights()])
    return temperature


def majority_vote(votes):
    """Return what most people see in a face, int (n,) from 0 to 9, or -1 where there is no majority.

    As Barsoum et al. 2016 and their code count: single votes are left out, and of the others one expression must have
    more than half. votes are uint8 (n, 10), as fer2013.read_ferplus returns them.
    """
    votes = np.where(votes > 1, votes, 0)
    return np.where(2 * votes.max(axis=1) > votes.sum(axis=1), votes.argmax(axis=1), -1)


def margin(share, count):
    """Return half the width of the 95 % interval of a share of `count` faces (normal approximation)."""
    return 1.96 * np.sqrt(share * (1 - share) / count)
