"""Train the network on the arrays of preprocessing.py.

Reads fdataX.npy, flabels.npy and fusage.npy from data/, and fvotes.npy for --labels both or ferplus.
Trains on Training, validates on PublicTest after each epoch, and never looks at PrivateTest.
Writes models/model.json and models/model.weights.h5, the same for OpenCV as models/model.onnx,
models/history.csv and models/training_curves.png, with models/model.sha256, which tells that these belong
together; into data/ modXtest.npy and modytest.npy, the test faces. The model before is kept in models/before_<date>/,
and where it is better on PublicTest it stays, and the new one goes to models/new_<date>/.

$ python train_model.py
$ python train_model.py --quick       # faster, and about two points less accurate
$ python train_model.py --resume      # go on after an interruption
$ python train_model.py --after data/first data/second   # fine-tune the second model, taught by both
$ python train_model.py --data mine --last-layer         # adapt the shipped model to faces of your own, in seconds
$ KERAS_BACKEND=torch python train_model.py
"""
import datetime
import shutil
import tempfile
from pathlib import Path

from expressions import fer2013, model_files, training
from expressions.artifacts import DATA, MODELS, models_folder, read_stamp
from expressions.console import InputError, pluralise, positive_int, run, script_parser
from expressions.evaluation import adjust_prior, calibrate, predict
from expressions.labels import PUBLIC_TEST, TRAINING
from expressions.own_faces import read_labelled_faces, refit_last_layer
from expressions.recognition import Recogniser


def parse(argv):
    parser = script_parser(__doc__)
    parser.add_argument("--data", type=Path, metavar="FOLDER", default=DATA, help="what preprocessing.py wrote")
    parser.add_argument("--models", type=Path, metavar="FOLDER",
                        help="where to write (default: models/, or FOLDER/models with --data FOLDER)")
    parser.add_argument("--labels", choices=training.LABELS, default=training.LABELS[0],
                        help="targets: FER2013's labels (default), these blended with FER+'s votes, or the votes alone")
    parser.add_argument("--after", type=Path, nargs="+", metavar="FOLDER", default=(),
                        help="fine-tune the last of these models, with all of them as teachers")
    parser.add_argument("--last-layer", action="store_true",
                        help="only refit the last layer, of the last model after --after or of the shipped one, to the "
                             "images in --data: folders named angry to neutral with ten images or more each")
    parser.add_argument("--quick", action="store_true",
                        help="fewer filters, smaller faces at first, a higher learning rate: faster, less accurate")
    parser.add_argument("--epochs", type=positive_int, metavar="N",
                        help=f"times through the faces (default: {training.FULL.epochs}, with --quick "
                             f"{training.QUICK.epochs}, with --after {training.FINE_TUNING_EPOCHS})")
    parser.add_argument("--batch-size", type=positive_int, default=training.BATCH_SIZE, metavar="N",
                        help="faces a step (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on from the last whole epoch, with its settings")
    args = parser.parse_args(argv)
    if not 0 <= args.seed < 2 ** 32:
        parser.error("--seed must be 0 to 4294967295")
    args.models = args.models or models_folder(args.data)
    config = training.QUICK if args.quick else training.FULL
    args.epochs = args.epochs or (training.FINE_TUNING_EPOCHS if args.after else config.epochs)
    return args


def begin(args, checkpoint):
    """Return settings, history and variables to train on from, with --resume the checkpoint's. Raises InputError."""
    data = read_stamp(args.data / "fdataX.sha256")
    if not args.resume:
        return {"epochs": args.epochs, "quick": args.quick, "batch_size": args.batch_size, "seed": args.seed,
                "labels": args.labels, "after": [str(folder.absolute()) for folder in args.after], "data": data}, [], ()
    settings, history, variables = training.read_checkpoint(checkpoint)
    if settings["data"] != data:
        raise InputError(f"{checkpoint} was made from other faces than those in {args.data}: leave out --resume")
    return settings, history, variables


def prepare(args, settings):
    """Return the training faces with their targets, and the validation faces with their labels. Raises InputError."""
    faces, labels, splits, votes = fer2013.load_dataset(args.data)
    if settings["labels"] != "fer2013" and votes is None:
        raise InputError(f"{args.data} holds no votes of FER+: run preprocessing.py with --ferplus fer2013new.csv")
    rows, validation = fer2013.training_mask(faces, splits), splits == PUBLIC_TEST
    targets, known = training.soft_targets(settings["labels"], labels, votes, rows)
    rows &= known
    if settings["labels"] == "ferplus":
        labels = targets.argmax(axis=1)
        validation &= known & (targets.max(axis=1) > 0.5)
    print(f"training on {rows.sum():,} of {(splits == TRAINING).sum():,} Training faces (without uniform ones, copies "
          f"of other splits' faces and those without an expression); validating on {validation.sum():,}")
    return (faces[rows], targets[rows]), (faces[validation], labels[validation])


def adapt(args):
    """Refit the last layer of a model to images of the user's own, and write the model. Raises InputError."""
    model = model_files.load_model(args.after[-1] if args.after else MODELS)
    faces, labels, n_left_out = read_labelled_faces(args.data, Recogniser().detector)
    before, after = refit_last_layer(model, faces, labels)
    folder = make_room(args.models)
    model_files.save_model(model, folder)
    print(f"{pluralise(len(faces), 'face')} ({n_left_out:,} images show none): accuracy {before:.1%} before, "
          f"{after:.1%} after, each measured on faces that were not learned from (cross-validation)")
    print(f"wrote the model to {folder}; to use it: python recognise_image.py --models {folder}")


def make_room(folder, model=None, faces=None, labels=None):
    """Return where a new model goes: `folder`, of which before_<date> is a copy, or new_<date> in it if it is worse."""
    names = [name for name in [*read_stamp(folder / model_files.STAMP), model_files.STAMP] if (folder / name).exists()]
    if not names:
        return folder
    date = f"{datetime.datetime.now():%Y%m%d_%H%M%S}"
    if model:
        try:
            before = model_files.load_model(folder)
            was, now = ((predict(one, faces).argmax(axis=1) == labels).mean() for one in (before, model))
        except InputError:  # it is damaged, or was made by another version: that must not lose hours of training
            was = now = 0
        if was > now:
            print(f"the model in {folder} stays, as it is right on {was:.2%} of the validation faces; the new one, "
                  f"on {now:.2%}, goes beside it")
            return folder / f"new_{date}"
    kept = folder / f"before_{date}"
    kept.mkdir()
    for name in names:
        shutil.copy2(folder / name, kept)
    print(f"kept the model before in {kept}")
    return folder


def continue_history(models, history):
    """Return a table of the epochs of all trainings; `models` is the folder of the fine-tuned model, or None."""
    import pandas as pd

    table = pd.DataFrame(history).assign(training=1)
    try:
        before = pd.read_csv(Path(models) / "history.csv")
        before = before.assign(training=before.get("training", 1))
        table.epoch, table.training = table.epoch + before.epoch.max(), table.training + before.training.max()
        return pd.concat([before, table], ignore_index=True)
    except (OSError, ValueError, AttributeError, TypeError):  # none, or damaged, which must not lose hours of training
        return table


def train(args):
    """Train a model as the arguments say, and write it."""
    checkpoint = args.models / "checkpoint.npz"
    settings, history, variables = begin(args, checkpoint)
    (faces, targets), validation = prepare(args, settings)
    shares = targets.mean(axis=0)
    args.models.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=args.models).close()  # whether it can be written to, before hours of training
    model_files.import_keras()
    teachers = [model_files.load_model(Path(folder)) for folder in settings["after"]]
    fer2013.export_test_split(args.data)
    try:
        if teachers:
            targets = training.distillation_targets(targets, faces, teachers)
            variables = variables or teachers[-1].get_weights()
        model = training.train((faces, targets), validation, settings, checkpoint, history, variables)
    except KeyboardInterrupt:
        if not history:
            raise
        raise KeyboardInterrupt(f"{len(history)} of {pluralise(settings['epochs'], 'epoch')} are kept, and the model "
                                "is as it was; give the same command with --resume to go on") from None
    power = adjust_prior(model, *validation, shares)
    temperature = calibrate(model, *validation)
    print(f"adjusted to rare expressions (power {power:.2f}) and calibrated (temperature {temperature:.2f}) on the "
          "validation faces")

    from expressions import figures
    table = continue_history(settings["after"][-1] if teachers else None, history)
    folder = make_room(args.models, model, *validation)
    model_files.save_model(model, folder, {
        "history.csv": lambda path: table.to_csv(path, index=False, float_format="%.5f"),
        "training_curves.png": lambda path: figures.plot_curves(table).savefig(path, dpi=100)})
    checkpoint.unlink(missing_ok=True)
    print(f"wrote {', '.join(read_stamp(folder / model_files.STAMP))} and {model_files.STAMP} to {folder}: "
          f"accuracy {history[-1]['val_accuracy']:.2%} on the {len(validation[0]):,} validation faces")
    print(f"wrote the test faces, modXtest.npy and modytest.npy, to {args.data}")


def main(argv=None):
    args = parse(argv)
    (adapt if args.last_layer else train)(args)


if __name__ == "__main__":
    run(main)
