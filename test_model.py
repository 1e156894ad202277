"""Measure the model on the test faces, which training never used.

Reads models/model.json and models/model.weights.h5, and from data/ modXtest.npy and modytest.npy, and
modvtest.npy where there is one.
Writes truey.npy int (n,), predy.npy int (n,) and predp.npy float32 (n, 7) into data/, the true
expressions, the most probable ones, and the probabilities of all seven, and truey.sha256,
which tells that they belong together; reliability.png, whether confidence matches accuracy, and
mistakes.png, the surest mistakes and the least sure hits of each expression.

$ python test_model.py
$ python test_model.py --data data/sample
"""
from pathlib import Path

from expressions import evaluation, fer2013
from expressions.artifacts import DATA, models_folder, replace_when_whole, save_arrays
from expressions.console import print_status, run, script_parser
from expressions.labels import EXPRESSIONS
from expressions.model_files import load_model


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("--data", type=Path, metavar="FOLDER", default=DATA, help="what train_model.py wrote")
    parser.add_argument("--models", type=Path, metavar="FOLDER",
                        help="where the model is (default: models/, or FOLDER/models with --data FOLDER)")
    args = parser.parse_args(argv)
    models = args.models or models_folder(args.data)

    faces, y_true, votes = fer2013.load_test_split(args.data)
    print_status(f"testing {models} on {len(faces):,} faces")
    y_prob = evaluation.predict(load_model(models), faces)
    y_pred = y_prob.argmax(axis=1)
    save_arrays(args.data, {"truey.npy": y_true, "predy.npy": y_pred, "predp.npy": y_prob},
                inputs=["modXtest.npy", "modytest.npy"])

    from expressions import figures
    table = evaluation.calibration_table(y_true, y_prob)
    with replace_when_whole(args.data / "reliability.png", args.data / "mistakes.png") as (reliability, mistakes):
        figures.plot_reliability(table).savefig(reliability, dpi=100)
        figures.plot_mistakes(faces, y_true, y_prob).savefig(mistakes, dpi=100)
    report(faces, y_true, y_prob, table)
    if votes is not None:
        majority = evaluation.majority_vote(votes)
        counted = (majority >= 0) & (majority <= len(EXPRESSIONS))  # contempt, too, though the network cannot say it
        print(f"accuracy {(y_pred == majority)[counted].mean():.2%} on the {counted.sum():,} faces with a majority of "
              "FER+'s votes for one of eight expressions, counted against that majority")
    print(f"wrote truey.npy, predy.npy and predp.npy ({len(faces):,} faces), reliability.png and mistakes.png to "
          f"{args.data}")


def report(faces, y_true, y_prob, table):
    """Print how good probabilities float (n, 7) are; `table` is their evaluation.calibration_table."""
    from sklearn.metrics import classification_report, f1_score, recall_score, top_k_accuracy_score

    y_pred = y_prob.argmax(axis=1)
    if uniform := fer2013.is_uniform(faces).sum():
        print(f"{uniform:,} test faces are one flat colour; their predictions are meaningless")
    labels = range(len(EXPRESSIONS))
    print(classification_report(y_true, y_pred, labels=labels, target_names=EXPRESSIONS, digits=4, zero_division=0))
    accuracy = (y_true == y_pred).mean()
    recall = recall_score(y_true, y_pred, average="macro", zero_division=0)
    print(f"top-1 accuracy {accuracy:.2%} ± {evaluation.margin(accuracy, len(y_true)):.1%} (95 % interval)")
    print(f"top-2 accuracy {top_k_accuracy_score(y_true, y_prob, k=2, labels=labels):.2%}")
    print(f"mean recall of the expressions {recall:.2%}")
    print(f"macro F1 {f1_score(y_true, y_pred, labels=labels, average='macro', zero_division=0):.4f}")
    print(f"expected calibration error {evaluation.expected_calibration_error(table):.4f} ({evaluation.BINS} bins)")


if __name__ == "__main__":
    run(main)
