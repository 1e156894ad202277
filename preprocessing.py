"""Turn FER2013 into arrays, and show what is in it.

Reads data/fer2013.csv, or the file or folder given: fer2013.csv, icml_face_data.csv or
train.csv, plain or in .gz, .xz, .zip or .tar.gz, or a folder train|validation|test/<expression>/.
Writes fdataX.npy  uint8 (N, 48, 48, 1) grey faces
       flabels.npy uint8 (N, 7) one-hot expressions
       fusage.npy  uint8 (N,) 0 Training, 1 PublicTest (validation), 2 PrivateTest (test)
       fvotes.npy  uint8 (N, 10), with --ferplus: ten people's votes for the seven expressions, contempt,
                   unknown, and not a face
       fdataX.sha256, which tells that these belong together,
       dataset_distribution.png and samples.png, all into data/.

$ python preprocessing.py                 # data/fer2013.csv
$ python preprocessing.py archive.zip     # or wherever it is
$ python preprocessing.py --ferplus fer2013new.csv
$ python preprocessing.py --sample        # drawn faces into data/sample/, no download needed
"""
from pathlib import Path

from expressions import fer2013, sample
from expressions.artifacts import DATA, replace_when_whole
from expressions.console import InputError, print_status, run, script_parser
from expressions.labels import EXPRESSIONS, PRIVATE_TEST, PUBLIC_TEST, SPLITS


def parse(argv):
    parser = script_parser(__doc__)
    parser.add_argument("source", nargs="?", type=Path, help="file or folder (default: data/fer2013.csv)")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="where to write (default: data/)")
    parser.add_argument("--ferplus", type=Path, metavar="FILE", help="fer2013new.csv, the votes of FER+ on these faces")
    parser.add_argument("--sample", action="store_true", help="draw a small set of schematic faces and use it")
    args = parser.parse_args(argv)
    if args.sample and (args.source or args.ferplus):
        raise InputError("--sample draws its own faces: leave out the path and --ferplus, or leave out --sample")
    args.data = args.data or (DATA / "sample" if args.sample else DATA)
    args.source = args.source or (args.data / "sample.csv" if args.sample else DATA / "fer2013.csv")
    return args


def main(argv=None):
    args = parse(argv)
    if args.sample:
        sample.write_sample(args.source)
    if not args.source.exists():
        raise InputError(f"{args.source} is not there: the README says where to get it; give its path, or try --sample")
    print_status(f"reading {args.source}")
    faces, labels, splits = (fer2013.read_folder if args.source.is_dir() else fer2013.read_csv)(args.source)
    votes = fer2013.read_ferplus(args.ferplus, splits) if args.ferplus else None
    print("this is the original FER2013" if fer2013.is_original_fer2013(faces, labels, splits) else
          "this is not the original FER2013: faces, labels or splits differ")
    for split in {PUBLIC_TEST, PRIVATE_TEST}.difference([] if splits is None else splits):
        print(f"the source has no {SPLITS[split]} split: a stratified tenth of the faces is drawn for it")
    splits = fer2013.fill_missing_splits(faces, labels, splits)

    from expressions import figures
    table = fer2013.class_counts(labels, splits)
    names = fer2013.save_dataset(args.data, faces, labels, splits, votes)
    with replace_when_whole(args.data / "dataset_distribution.png", args.data / "samples.png") as (bars, sheet):
        figures.plot_distribution(table).savefig(bars, dpi=120)
        figures.plot_samples(faces, labels).savefig(sheet, dpi=100)
    print(table.to_string())
    print(*fer2013.duplicate_report(faces, splits), sep="\n")
    if votes is not None:
        agree = (votes[:, :len(EXPRESSIONS)].argmax(axis=1) == labels).mean()
        print(f"FER+: on {agree:.0%} of the faces most votes go to the label of FER2013")
    print(f"wrote {', '.join(names)} ({len(faces):,} faces), dataset_distribution.png and samples.png to {args.data}")
    if args.sample:
        print(f"next: python train_model.py --data {args.data}")


if __name__ == "__main__":
    run(main)
