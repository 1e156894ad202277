"""Break the product on purpose, a line at a time, and see that the tests of that room or script notice.

Each break replaces one piece of text in one file, runs a test file, and puts the file back. Prints a line for each;
ends with status 1 if a break was not noticed.

$ python tests/breaks.py          # all of them
$ python tests/breaks.py 3 17     # these
$ python tests/breaks.py 2/3      # every third one, from the second on
"""
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BREAKS = (  # file, text, what takes its place, test file
    ("expressions/detection.py", "EYES_APART, EYES_DOWN = 0.36, 0.38", "EYES_APART, EYES_DOWN = 0.36, 0.42", "detection"),
    ("expressions/detection.py", "if abs(tilt) >= LEVEL_FROM else 0", "if abs(tilt) >= 5 else 0", "detection"),
    ("expressions/detection.py", "if confidence >= MIN_CONFIDENCE and not", "if not", "detection"),
    ("expressions/detection.py", "better > score and", "better < score and", "detection"),
    ("expressions/yunet.py", "found[is_inside, 4:14].reshape(-1, 5, 2) / zoom", "found[is_inside, 4:14].reshape(-1, 5, 2)", "yunet"),
    ("expressions/yunet.py", 'raise ValueError("another file came, or a part of it")', "pass", "yunet"),
    ("expressions/recognition.py", "kept = scores >= self.min_score", "kept = scores >= 0", "recognition"),
    ("expressions/recognition.py", 'image.convert("RGB"))[..., ::-1]', 'image.convert("RGB"))', "recognition"),
    ("expressions/tracking.py", "SWITCH_MARGIN = 0.2", "SWITCH_MARGIN = 0", "tracking"),
    ("expressions/tracking.py", "HOLD_SECONDS = 0.25", "HOLD_SECONDS = 0.02", "tracking"),
    ("expressions/tracking.py", "JITTER_MOVE, JITTER_SIZE = 0.04, 0.08", "JITTER_MOVE, JITTER_SIZE = 0, 0", "tracking"),
    ("expressions/tracking.py", "and track not in matched.values()", "", "tracking"),
    ("expressions/tracking.py", "CUT_CORRELATION = 0.9, 0.5", "CUT_CORRELATION = -1, -1", "tracking"),
    ("expressions/tracking.py", "SAME_PERSON = 0.8", "SAME_PERSON = 0.1", "tracking"),
    ("expressions/tracking.py", "second + CLEARLY", "second", "tracking"),
    ("expressions/tracking.py", "SURE_MARGIN = 0.05", "SURE_MARGIN = 0", "tracking"),
    ("expressions/tracking.py", "track.last_classified == seconds else None", "True else None", "recognise_video"),
    ("expressions/recognition.py", "by_name[name] >= min_probability", "True", "recognition"),
    ("expressions/drawing.py", "image, face.box, LABEL_COLOURS[face.expression]", "image, face.box, (0, 0, 0)", "drawing"),
    ("expressions/network.py", "mirrored = ops.flip(values, axis=1)", "mirrored = ops.flip(values, axis=0)", "network"),
    ("expressions/network.py", "1 / 127.5, offset=-1", "1 / 255", "network"),
    ("expressions/sample.py", "{8: PUBLIC_TEST, 9: PRIVATE_TEST}", "{8: PRIVATE_TEST, 9: PUBLIC_TEST}", "sample"),
    ("confmatrix.py", "confusion_matrix(y_true, y_pred, labels", "confusion_matrix(y_pred, y_true, labels", "confmatrix"),
    ("preprocessing.py", "fer2013.fill_missing_splits(faces, labels, splits)", "splits", "preprocessing"),
    ("test_model.py", 'recall_score(y_true, y_pred, average="macro"', 'recall_score(y_true, y_pred, average="micro"', "test_model"),
    ("expressions/artifacts.py", "_sha256(stamp.parent / name) != digest]", "not digest]", "artifacts"),
    ("expressions/console.py", "status, sentences = 130, [", "status, sentences = 2, [", "console"),
    ("expressions/evaluation.py", "np.where(2 * votes.max", "np.where(3 * votes.max", "evaluation"),
    ("expressions/fer2013.py", "~np.isin(group, group[splits != TRAINING])", "True", "fer2013"),
    ("expressions/figures.py", 'normalize=normalise', 'normalize=None', "figures"),
    ("expressions/model_files.py", "name not in ALLOWED and", "not name and", "model_files"),
    ("expressions/model_files.py", "weights[0].transpose(3, 2, 0, 1)", "weights[0].transpose(3, 2, 1, 0)", "model_files"),
    ("expressions/training.py", "mirror = random.choice((-1, 1), count)", "mirror = random.choice((1, 1), count)", "training"),
    ("expressions/evaluation.py", "bias - power * np.log(shares)", "bias + power * np.log(shares)", "evaluation"),
    ("expressions/images.py", "PASSED_OVER = (\".\", \"output_\")", "PASSED_OVER = (\".\",)", "images"),
    ("expressions/tables.py", 'tuple("=+-@', 'tuple("+-@', "tables"),
    ("expressions/video.py", "self.last_time = max(round(seconds / TICK), self.last_time + 1)", "self.last_time += 4800", "video"),
    ("expressions/video.py", "with ctrl_c_waits():  #", "if True:  #", "video"),
    ("expressions/camera.py", "is_live and time.monotonic() - last_time > TIMEOUT", "False", "camera"),
    ("expressions/workers.py", "                del own.process", "                pass", "workers"),
    ("expressions/report.py", "html.escape(caption)", "caption", "report"),
    ("expressions/report.py", 'replace("<", r"\\u003c")', 'replace("<", "<")', "report"),
    ("expressions/report.py", "runs[-1][1:] == [self.start, face.expression]", "runs[-1][2] == face.expression", "report"),
    ("expressions/own_faces.py", "if after <= before:", "if False:", "own_faces"),
    ("expressions/explanation.py", "logarithms[0] - logarithms[1:]", "logarithms[1:] - logarithms[0]", "explanation"),
    ("train_model.py", "if was > now:", "if was < now:", "train_model"),
    ("recognise_video.py", "writer.write(frame, seconds - args.start)", "writer.write(frame, seconds)", "recognise_video"),
    ("expressions/video.py", "begin += round(first / packet.time_base)", "pass", "recognise_video"),
    ("recognise_video.py", " if not found.endswith(ENDING)]", "]", "recognise_video"),
    ("webcam_live.py", "cv2.flip(self.frame, 1) if is_mirrored else ", "", "webcam_live"),
)


def is_noticed(name, text, replacement, test):
    """Whether the tests fail with this break."""
    path = ROOT / name
    source = path.read_text("utf-8")
    assert source.count(text) == 1, f"{name} has {source.count(text)} times {text!r}"
    try:
        path.write_text(source.replace(text, replacement), "utf-8")
        done = subprocess.run([sys.executable, "-m", "pytest", "-x", "-q", f"tests/{test}_test.py"], cwd=ROOT,
                              capture_output=True)
        return done.returncode == 1
    finally:
        path.write_text(source, "utf-8")


def main():
    first, _, step = "".join(sys.argv[1:2]).partition("/")
    chosen = [int(number) for number in sys.argv[1:] if not step] or range(
        int(first or 1), len(BREAKS) + 1, int(step or 1))
    missed = 0
    for number in chosen:
        noticed = is_noticed(*BREAKS[number - 1])
        missed += not noticed
        print(f"{number:3} {'noticed' if noticed else 'MISSED '} {BREAKS[number - 1][0]}: {BREAKS[number - 1][2]}",
              flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} breaks were noticed")
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
