"""Faces through the frames of a video or camera: who is who, where each face is, and a label that does not flicker.

A fast detector searches at least every second frame. The Haar cascades are slow: they search twice a second, and in
between each face is looked for near its last place. Boxes are matched to the tracks by their overlap.
"""
import itertools
from dataclasses import dataclass, field

import cv2
import numpy as np

from expressions.artifacts import MODELS
from expressions.detection import box_iou, crop_faces, detect_faces, run_detector, verify_face
from expressions.recognition import Recogniser, make_face
from expressions.yunet import YuNet

DETECT_INTERVAL = 0.05  # seconds between two searches by a fast detector: of 25 frames a second every second one
YUNET_SIDE = 320  # pixels of the frame it searches: a face is at least 1/30 of it
HAAR_INTERVAL = 0.5  # seconds between two searches by the cascades, which take fifty times as long
HAAR_SETTINGS = {"max_side": 640, "scale_factor": 1.2, "min_neighbours": 2}  # of that search
TRACK_INTERVAL = 1 / 8  # seconds between two looks for a face near its last place, and two classifications of a face
TRACK_FACE_SIZE = 32  # pixels of the face in such a look
MIN_IOU = 0.2  # of a detected box with the last box of a track, from which on they are of one face
JITTER_MOVE, JITTER_SIZE = 0.04, 0.08  # of the width: what a detector's boxes of a still face differ by
EMA_TIME_CONSTANT = 0.2  # seconds of the moving average of a face's probabilities
SWITCH_MARGIN = 0.2  # by which another expression must lead before the label changes
SURE_MARGIN = 0.05  # by which a probability must pass the least one before a sure label becomes unsure, or the reverse
MAX_EXTRAPOLATION = 0.1  # seconds for which a face that is not found is thought to move on
HOLD_SECONDS = 0.25  # for which a face that is not found is shown where it was
LOST_TRACK_SECONDS = 1  # after which a track ends
SAME_PERSON = 0.8  # similarity to a face that is gone, from which on a new face is the same: see appearance
CLEARLY = 0.03  # by which it must be more similar to that face than to another
OTHER_LOOK, MAX_LOOKS = 0.9, 20  # similarity below which a face has another look, and how many of them are remembered
MAX_GONE = 50  # faces that are remembered
CUT_DIFFERENCE = 5  # grey levels of mean difference from the frame before, from which on there may be a cut
CUT_CORRELATION = 0.9, 0.5  # with the frame before, below which it is one; from 0.4 seconds on the second figure


@dataclass(eq=False)  # two tracks are never the same
class Track:
    """A face that is followed through a video."""
    box: np.ndarray  # float (4,): x, y, width, height in pixels, where it was last found
    velocity: np.ndarray | float = 0  # float (4,): change of the box in a second
    track_id: int = 0  # from 1; 0 until it is classified
    score: float = 0  # of the detector, when it last found the face
    eyes: np.ndarray | None = None  # float (2, 2), where they are in the box, as fractions of its size
    last_seen: float = -np.inf  # seconds
    looks: list = field(default_factory=list)  # of appearance, those that differ, the last one at the end
    probabilities: np.ndarray | int = 0  # float32 (7,), smoothed
    expression: int | None = None  # index of the label that is shown
    is_sure: bool = False  # whether it is probable enough to be shown
    raw: np.ndarray | None = None  # float32 (7,), of the last classification
    last_classified: float = -np.inf  # seconds

    def box_at(self, seconds):
        """Return where the face is likely to be at this time, float (4,): it goes on moving for a moment."""
        return self.box + self.velocity * min(seconds - self.last_seen, MAX_EXTRAPOLATION)

    def move_to(self, found, seconds, shape):
        """Take the box in which the face was found in a frame of shape (h, w, ...), as far as it is no jitter."""
        box = self.box_at(seconds)
        move, grow = (found[:2] + found[2:] / 2) - (box[:2] + box[2:] / 2), found[2:] - box[2:]
        move = move * np.clip(6 * (np.abs(move).max() / box[2] - JITTER_MOVE), 0, 1)
        grow = grow * np.clip(6 * (np.abs(grow).max() / box[2] - JITTER_SIZE), 0, 1)
        start, end = box[:2] + move - grow / 2, box[:2] + box[2:] + move + grow / 2
        start, end = np.clip([start, end], 0, shape[1::-1])
        box = np.concatenate([start, end - start])
        self.velocity = (box - self.box) / (seconds - self.last_seen)
        self.box, self.last_seen = box, seconds

    def smooth(self, probabilities, seconds, least=0):
        """Move the moving average towards new probabilities float32 (7,); another label needs a clear lead.

        `least` is the probability from which on a label is sure.
        """
        share = np.float32(1 - np.exp((self.last_classified - seconds) / EMA_TIME_CONSTANT))  # 1 the first time
        self.probabilities = self.probabilities + share * (probabilities - self.probabilities)
        best = int(self.probabilities.argmax())
        is_first = self.expression is None
        if is_first or self.probabilities[best] > self.probabilities[self.expression] + SWITCH_MARGIN:
            self.expression = best
        lead = self.probabilities[self.expression] - least
        self.is_sure = lead >= 0 if is_first or abs(lead) > SURE_MARGIN else self.is_sure
        self.last_classified, self.raw = seconds, probabilities


class Tracker:
    """Follows and classifies the faces of one video or live source, frame by frame, with a recognition.Recogniser.

    `interval` is how many seconds are between two frames, if it is more than usual.
    """

    def __init__(self, recogniser, interval=0):
        self.lost_after = max(LOST_TRACK_SECONDS, 2 * interval)  # seconds
        self.recogniser, self.is_haar = recogniser, recogniser.detector is detect_faces
        self.settings = (HAAR_SETTINGS if self.is_haar else
                         {"max_side": YUNET_SIDE} if isinstance(recogniser.detector, YuNet) else {})
        self.tracks, self.next_id = [], itertools.count(1)
        self.gone = {}  # the looks of faces that are not followed any more, by track id, the last one at the end
        self.last_search = self.last_look = -np.inf  # seconds
        self.last_frame = -np.inf, None  # seconds and thumbnail

    def process(self, seconds, frame):
        """Take the next frame uint8 BGR (h, w, 3) at this time, and return the Faces in it, with their track ids."""
        if seconds < self.last_search:  # the times of joined recordings begin anew
            self.end_tracks(self.tracks)
            self.last_search = -np.inf
        is_cut = self.is_cut(seconds, frame)
        is_due = is_cut or seconds - self.last_search >= (HAAR_INTERVAL if self.is_haar else DETECT_INTERVAL) - 1e-3
        if self.is_haar and not is_cut and (is_due or seconds - self.last_look >= TRACK_INTERVAL - 1e-3):
            self.last_look = seconds
            self.look_near_last_places(seconds, cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY))
        if is_due:
            self.last_search = seconds
            self.search(seconds, frame, is_cut)
        lost_after = 0 if is_cut else self.lost_after
        self.end_tracks([track for track in self.tracks if seconds - track.last_seen > lost_after])
        due = [track for track in self.tracks if track.last_seen == seconds
               and (is_cut or seconds - track.last_classified >= TRACK_INTERVAL - 1e-3)]
        if due:
            self.classify(seconds, frame, due, is_cut)
        return [make_face(np.round(track.box_at(seconds)), track.probabilities, track.score,
                          0 if track.is_sure else np.inf, track.expression, track_id=track.track_id,
                          is_found=track.last_seen == seconds,
                          raw=tuple(map(float, track.raw)) if track.last_classified == seconds else None)
                for track in self.tracks if seconds - track.last_seen < HOLD_SECONDS]

    def classify(self, seconds, frame, tracks, is_cut):
        """Classify the faces of these tracks, and say who is new; after a cut another may be where somebody was."""
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)  # a millisecond, for which most frames need not wait
        faces = crop_faces(grey, [track.box[:2] + track.eyes * track.box[2:] for track in tracks])
        looks = [appearance(frame, track.box, face) for track, face in zip(tracks, faces)]
        others = [track for track, look in zip(tracks, looks)
                  if is_cut and track.looks and similarity(look, track.looks) < SAME_PERSON]
        self.end_tracks(others)
        for track, look, probabilities in zip(tracks, looks, self.recogniser.classify(faces)):
            if track in others:
                track = Track(track.box, score=track.score, eyes=track.eyes, last_seen=seconds)
                self.tracks.append(track)
            if not track.looks:
                track.track_id, track.looks = self.who_is(look)
            if similarity(look, track.looks) < OTHER_LOOK:
                track.looks = [*track.looks, look][-MAX_LOOKS:]
            track.smooth(probabilities, seconds, self.recogniser.min_probability)

    def is_cut(self, seconds, frame):
        """Whether another scene begins with this frame: much is otherwise, and not only brighter or darker."""
        (last, before), pixels = self.last_frame, cv2.cvtColor(frame[::8, ::8], cv2.COLOR_BGR2GRAY)
        thumbnail = cv2.resize(pixels, (32, 18), interpolation=cv2.INTER_AREA)
        self.last_frame = seconds, thumbnail
        if before is None or cv2.absdiff(thumbnail, before).mean() < CUT_DIFFERENCE:
            return False
        new, old = (values - values.mean() for values in (thumbnail, before))
        correlation = np.vdot(new, old) / max(np.linalg.norm(new) * np.linalg.norm(old), 1e-6)  # 0 if one is flat
        return correlation < max(CUT_CORRELATION[0] - (seconds - last), CUT_CORRELATION[1])

    def end_tracks(self, tracks):
        """Stop following these tracks, and remember what they look like."""
        self.tracks = [track for track in self.tracks if track not in tracks]
        self.gone |= {track.track_id: track.looks for track in tracks}
        self.gone = dict(list(self.gone.items())[-MAX_GONE:])

    def who_is(self, look):
        """Return the number and the looks of the face that is gone and clearly looks like this, or a new number."""
        ranked = sorted(((similarity(look, looks), number) for number, looks in self.gone.items()), reverse=True)
        (best, number), (second, _) = (ranked + [(0, 0)] * 2)[:2]
        if best < max(SAME_PERSON, second + CLEARLY):
            return next(self.next_id), []
        return number, self.gone.pop(number)

    def look_near_last_places(self, seconds, grey):
        """Look for each known face near its last place with a cascade, which takes little time."""
        for track in self.tracks:
            expected = track.box_at(seconds)
            found, confidence = verify_face(grey, expected, TRACK_FACE_SIZE, 1.1, 0.4)
            others = [other.box for other in self.tracks if other is not track and other.last_seen == seconds]
            if confidence >= 0 and box_iou(expected, found) > 2 * MIN_IOU and not any(
                    box_iou(found, box) > 2 * MIN_IOU for box in others):
                track.move_to(found, seconds, grey.shape)

    def search(self, seconds, frame, is_cut):
        """Search the whole frame; give each detected box to the track that it overlaps most, or to a new one."""
        found = run_detector(self.recogniser.detector, frame, **self.settings)
        boxes, scores, eyes = (values[found[1] >= self.recogniser.min_score] for values in found)
        pairs = sorted(((box_iou(track.box_at(seconds), box), number, track) for track in self.tracks
                        for number, box in enumerate(boxes)), key=lambda pair: pair[:2], reverse=True)
        matched = {}  # number of a detection: its track
        for iou, number, track in pairs:
            if iou > MIN_IOU and number not in matched and track not in matched.values():
                matched[number] = track
                if is_cut:
                    track.box, track.velocity = boxes[number].astype(float), 0
                elif track.last_seen < seconds:
                    track.move_to(boxes[number], seconds, frame.shape)
        for number, box in enumerate(boxes.astype(float)):
            if number not in matched:
                matched[number] = Track(box)
                self.tracks.append(matched[number])
            track = matched[number]
            track.score, track.last_seen = scores[number], seconds
            track.eyes = (eyes[number] - box[:2]) / box[2:]


def appearance(frame, box, face):
    """Return what a head in a frame looks like, with hair, collar and ground; `face` is its crop, uint8 (48, 48, 1).

    Float32 (n,); the product of two is the mean of the Bhattacharyya coefficient of their colours, the correlation of
    their thumbnails and that of their faces: benchmarks/identity.py.
    """
    x, y, width, height = box
    step = max(1, int(max(width, height) / 26))  # enough pixels for the thumbnail
    side = max(1, round(2 * max(width, height) / step))
    part = cv2.getRectSubPix(frame[::step, ::step], (side, side), ((x + width / 2) / step, (y + height / 2) / step))
    thumbnail = cv2.resize(part, (16, 16), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(thumbnail, cv2.COLOR_BGR2LAB)
    colours = np.sqrt(cv2.calcHist([lab], [0, 1, 2], None, [6, 8, 8], [0, 256, 96, 160, 96, 160]).ravel())
    parts = [colours, thumbnail.ravel() - thumbnail.mean(), face.ravel() - face.mean()]
    return np.float32(np.concatenate([part / max(np.linalg.norm(part), 1e-6) for part in parts]) / np.sqrt(3))


def similarity(look, looks):
    """Return the product of an appearance with the most similar one of several, 0 without any."""
    return max((float(look @ other) for other in looks), default=0)


def recognise_frames(frames, recogniser, interval=0):
    """Yield (seconds, frame, list of Face with track ids) for each (seconds, frame uint8 BGR (h, w, 3)) of `frames`.

    `interval` is that of Tracker.
    """
    tracker = Tracker(recogniser, interval)
    for seconds, frame in frames:
        yield seconds, frame, tracker.process(float(seconds), frame)


def recognise_video(path, models=MODELS, detector=None):
    """Yield (seconds, list of Face) for each frame of a video file or address. Raises InputError.

    A face keeps its `track_id` while it is followed; its expression and probabilities are smoothed over time.
    """
    from expressions.video import open_video, read_video

    with open_video(path) as video:
        for seconds, _, faces in recognise_frames(read_video(video), Recogniser(models, detector)):
            yield seconds, faces
