"""Faces through the frames of a video: who is who, where each face is, and a label that does not flicker.

A detector is slow, so the Haar cascades search a whole frame only at the end of each segment of half a second. Between
two searches each face is located near its last place, a few times a second; the frames between are filled in. A
detector of your own searches every frame, and its boxes are matched to the tracks by their overlap.

    frame     0  1  2  3  4  5  6  7 ... 14 | 15 ...
              t  .  .  .  t  .  .  .      d |         d: whole frame searched, t: located near its last place,
              <------- one segment -------->|         .: filled in between
"""
import bisect
import itertools
from dataclasses import dataclass, field

import cv2
import numpy as np

from expressions.artifacts import MODELS
from expressions.detection import box_iou, crop_faces, detect_faces, verify_face
from expressions.labels import EXPRESSIONS
from expressions.model_files import load_classifier
from expressions.recognition import make_face

DETECT_INTERVAL = 0.5  # seconds between two searches of a whole frame, which cost fifty times as much as a located face
LIVE_DETECT_INTERVAL = 0.3  # sooner in a live view, where a new face cannot be tracked back to where it came from
MAX_SIDE, SCALE_FACTOR, MIN_NEIGHBOURS = 640, 1.2, 2  # of that search: detect_faces made faster
TRACK_INTERVAL = 1 / 8  # seconds between two frames in which faces are located and classified
TRACK_FACE_SIZE = 32  # pixels of the face when it is located
SAME_FACE_IOU = 0.4  # of two boxes in the same frame, or of a box with the place where its face just was
LOST_FACE_IOU = 0.2  # of a detected box with the last place of a track that was not found in this frame
JITTER_MOVE, JITTER_SIZE = 0.04, 0.08  # of the width: what a detector's boxes of a still face differ by
EMA_TIME_CONSTANT = 0.2  # seconds of the moving average of a face's probabilities
SWITCH_MARGIN = 0.2  # by which another expression must lead before the label changes
HOLD_SECONDS = 0.25  # for which a face that is not found is shown where it was last found
LOST_TRACK_SECONDS = 1  # after which a track that was not found ends; the face gets a new number when it comes back
SCENE_CUT_THRESHOLD = 40  # grey levels of mean difference between two frames
MAX_SEGMENT_BYTES = 1 << 26  # of frames that wait for the end of their segment


@dataclass
class Track:
    """A face that is followed through a video. Boxes are float (4,): x, y, width, height in pixels."""
    track_id: int  # from 1
    box: np.ndarray  # where it was last found
    last_seen: float  # seconds, when that was
    probabilities: np.ndarray | None = None  # float32 (7,), smoothed
    expression: int = 0  # index of the label that is shown
    last_classified: float = -np.inf  # seconds
    boxes: dict = field(default_factory=dict)  # {frame of the present segment: box}


class Tracker:
    """Follows and classifies the faces of one video or camera, a segment of frames at a time.

    `classify` is a function: faces uint8 (n, 48, 48, 1) → probabilities float32 (n, 7). `detector` is a function: grey
    image uint8 (h, w) → boxes int (n, 4), or None for the Haar cascades.
    """

    def __init__(self, classify, detector=None):
        self.classify, self.detector = classify, detector
        self.tracks, self.next_id = [], itertools.count(1)

    def recognise_segment(self, greys, times, detect_at=(-1,)):
        """Follow and classify the faces in successive grey frames uint8 (h, w) at these times in seconds.

        The cascades search the frames with the indices `detect_at`. Returns for each frame track ids int (n,), boxes
        int (n, 4), smoothed probabilities float32 (n, 7) and the expressions to show int (n,).
        """
        for track in self.tracks:  # frame -1 is the last one of the segment before
            track.boxes = {-1: track.box} if times[0] - track.last_seen < HOLD_SECONDS else {}
        frames = frames_to_track(times)
        if self.detector is None:
            update_tracks(self, greys, times, frames, {index % len(greys) for index in detect_at})
            for track in self.tracks:
                fill_between_looks(track, greys, frames)
            frames = range(len(greys))
        else:
            match_detections(self, greys, times)
        classified = classify_tracks(self, greys, frames)
        for track in self.tracks:
            interpolate_gaps(track.boxes)
            hold_lost_track(track, times)
        results = [show_frame(self.tracks, index, time, classified) for index, time in enumerate(times)]
        self.tracks = [track for track in self.tracks if times[-1] - track.last_seen < LOST_TRACK_SECONDS]
        return results

    def is_taken(self, box, index):
        """Whether the box is that of a face which a track already has in this frame."""
        return any(box_iou(box, track.boxes[index]) > SAME_FACE_IOU for track in self.tracks if index in track.boxes)

    def add_box(self, track, box, index, time):
        """Add a box found in a frame to a track, or to a new one where `track` is None. Returns the track."""
        if track is None:
            track = Track(next(self.next_id), box, time)
            self.tracks.append(track)
        track.boxes[index] = track.box = box
        track.last_seen = time
        return track


# ---- the passes over a segment -----------------------------------------------------------------

def frames_to_track(times):
    """Return the indices of the first frame, the last one, and those TRACK_INTERVAL apart between them."""
    frames = [0]
    for index in range(1, len(times)):
        if times[index] - times[frames[-1]] > TRACK_INTERVAL - 1e-3 or index == len(times) - 1:
            frames.append(index)
    return frames


def update_tracks(tracker, greys, times, frames, detect_at):
    """Locate the known faces in the frames with these indices, and search those of `detect_at` whole for others.

    A face that is new there is followed back through the frames before.
    """
    for position, index in enumerate(frames):
        for track in tracker.tracks:
            box = locate_face(greys[index], track.box)
            if box is not None and not tracker.is_taken(box, index):
                tracker.add_box(track, box, index, times[index])
        if index not in detect_at:
            continue
        for box in detect_faces(greys[index], MAX_SIDE, SCALE_FACTOR, MIN_NEIGHBOURS).astype(float):
            if tracker.is_taken(box, index):
                continue
            lost = [track for track in tracker.tracks
                    if index not in track.boxes and box_iou(track.box, box) > LOST_FACE_IOU]
            track = max(lost, key=lambda track: box_iou(track.box, box), default=None)
            track = tracker.add_box(track, box, index, times[index])
            follow(track, greys, frames[position::-1], tracker.is_taken)


def follow(track, greys, frames, is_taken=lambda box, index: False):
    """Locate a track's face from the first of these frames on, in which it is known, as far as it is found."""
    box = track.boxes[frames[0]]
    for index in frames[1:]:
        box = None if index in track.boxes else locate_face(greys[index], box)
        if box is None or is_taken(box, index):
            break
        track.boxes[index] = box


def match_detections(tracker, greys, times):
    """Search every frame whole, and give each detected box to the track that it overlaps most, or to a new one."""
    for index, (grey, time) in enumerate(zip(greys, times)):
        boxes = np.reshape(tracker.detector(grey), (-1, 4)).astype(float)
        pairs = [(box_iou(track.box, box), number, track) for track in tracker.tracks
                 for number, box in enumerate(boxes)]
        unmatched = set(range(len(boxes)))
        for iou, number, track in sorted(pairs, key=lambda pair: -pair[0]):
            if iou > LOST_FACE_IOU and number in unmatched and index not in track.boxes:
                unmatched.remove(number)
                tracker.add_box(track, steady_box(track.box, boxes[number], grey.shape), index, time)
        for number in sorted(unmatched):
            tracker.add_box(None, boxes[number], index, time)


def fill_between_looks(track, greys, frames):
    """Where a track comes or goes between two frames in which it was looked for, locate it in the frames between."""
    for before, after in itertools.pairwise(frames):
        if before in track.boxes and after not in track.boxes:
            follow(track, greys, range(before, after))
        elif after in track.boxes and before not in track.boxes:
            follow(track, greys, range(after, before, -1))


def classify_tracks(tracker, greys, frames):
    """Return {(frame, track id): probabilities} of the faces in these frames, and of each track's first face."""
    keys, crops = [], []
    for index, grey in enumerate(greys):
        for track in tracker.tracks:
            is_first = track.probabilities is None and index == min(track.boxes, default=None)
            if index in track.boxes and (index in frames or is_first):
                keys.append((index, track.track_id))
                crops.append(crop_faces(grey, [track.boxes[index]]))
    return dict(zip(keys, tracker.classify(np.concatenate(crops)))) if crops else {}


def interpolate_gaps(boxes):
    """Give a face that is missing between two frames of {frame: box} the boxes on the way from the one to the other."""
    for before, after in itertools.pairwise(sorted(boxes)):
        for index in range(before + 1, after):
            share = (index - before) / (after - before)
            boxes[index] = (1 - share) * boxes[before] + share * boxes[after]


def hold_lost_track(track, times):
    """Keep a face that was found shortly before the segment's end where it was, until the next segment tells more."""
    if times[-1] - track.last_seen < HOLD_SECONDS:
        for index in range(bisect.bisect(times, track.last_seen), len(times)):
            track.boxes.setdefault(index, track.box)


def show_frame(tracks, index, time, classified):
    """Smooth the probabilities of the faces in a frame. Returns what recognise_segment does for it."""
    present = [track for track in tracks if index in track.boxes]
    for track in present:
        if (index, track.track_id) in classified:
            smooth_probabilities(track, classified[index, track.track_id], time)
    return (np.array([track.track_id for track in present], int),
            np.array([np.round(track.boxes[index]) for track in present], int).reshape(-1, 4),
            np.array([track.probabilities for track in present], np.float32).reshape(-1, len(EXPRESSIONS)),
            np.array([track.expression for track in present], int))


# ---- one face ----------------------------------------------------------------------------------

def locate_face(grey, box):
    """Return the box float (4,) of the face that was last found in `box`, or None."""
    found, confidence = verify_face(grey, box, TRACK_FACE_SIZE, 1.1, 0.4)
    if confidence < 0 or box_iou(box, found) < SAME_FACE_IOU:
        return None
    return steady_box(box, found, grey.shape)


def steady_box(box, found, shape):
    """Return a track's next box float (4,): the found one, but still where it differs by no more than jitter.

    `shape` is the image's (h, w), to which the box is clipped.
    """
    move, grow = (found[:2] + found[2:] / 2) - (box[:2] + box[2:] / 2), found[2:] - box[2:]
    move = move * np.clip(6 * (np.abs(move).max() / box[2] - JITTER_MOVE), 0, 1)
    grow = grow * np.clip(6 * (np.abs(grow).max() / box[2] - JITTER_SIZE), 0, 1)
    start, end = box[:2] + move - grow / 2, box[:2] + box[2:] + move + grow / 2
    start, end = np.clip([start, end], 0, shape[::-1])
    return np.concatenate([start, end - start])


def smooth_probabilities(track, probabilities, time):
    """Move a track's moving average towards new probabilities float32 (7,), and choose its label."""
    if track.probabilities is None:
        track.probabilities, track.expression = probabilities, choose_label(probabilities)
    else:
        share = 1 - np.exp((track.last_classified - time) / EMA_TIME_CONSTANT)
        track.probabilities = track.probabilities + np.float32(share) * (probabilities - track.probabilities)
        track.expression = choose_label(track.probabilities, track.expression)
    track.last_classified = time


def choose_label(probabilities, shown=None):
    """Return the most probable expression, or the one shown before if the lead is less than SWITCH_MARGIN."""
    best = int(probabilities.argmax())
    return best if shown is None or probabilities[best] > probabilities[shown] + SWITCH_MARGIN else shown


# ---- videos and live sources -------------------------------------------------------------------

def split_into_segments(frames):
    """Gather (seconds, frame) into lists of (seconds, frame, grey) that end at a scene cut or when a search is due.

    Yields whether the list begins a new scene, and the list.
    """
    segment, before, is_new_scene, n_bytes = [], None, True, 0
    for seconds, frame in frames:
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        thumbnail = cv2.resize(grey, (32, 18), interpolation=cv2.INTER_AREA).astype(np.int16)
        is_cut = before is not None and np.abs(thumbnail - before).mean() > SCENE_CUT_THRESHOLD
        before = thumbnail
        is_due = segment and seconds // DETECT_INTERVAL > segment[0][0] // DETECT_INTERVAL
        if segment and (is_cut or is_due or n_bytes > MAX_SEGMENT_BYTES):
            yield is_new_scene, segment
            segment, is_new_scene, n_bytes = [], is_cut, 0
        segment.append((seconds, frame, grey))
        n_bytes += frame.nbytes
    if segment:
        yield is_new_scene, segment


def recognise_frames(frames, classify, detector=None):
    """Recognise the faces in an iterable of (seconds, frame uint8 BGR (h, w, 3)); the arguments are as in Tracker.

    Yields (seconds, frame, (track ids, boxes, probabilities, expressions)), the arrays as in recognise_segment.
    """
    tracker = Tracker(classify, detector)
    for is_new_scene, segment in split_into_segments(frames):
        if is_new_scene:
            tracker.tracks.clear()
        times, images, greys = zip(*segment)
        results = tracker.recognise_segment(greys, [float(time) for time in times], (0, -1) if is_new_scene else (-1,))
        yield from zip(times, images, results)


def live_tracker(classify, detector=None):
    """Return a function (seconds, frame uint8 BGR (h, w, 3)) → arrays as in recognise_segment, for a live source."""
    tracker, last_search = Tracker(classify, detector), -np.inf

    def process(seconds, frame):
        nonlocal last_search
        is_due = seconds - last_search >= LIVE_DETECT_INTERVAL
        last_search = seconds if is_due else last_search
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        return tracker.recognise_segment([grey], [seconds], (0,) if is_due else ())[0]

    return process


def recognise_video(path, models=MODELS, detector=None):
    """Yield (seconds, list of Face) for each frame of a video file or address. Raises InputError.

    A face keeps its `track_id` while it is followed; its expression and probabilities are smoothed over time.
    """
    from expressions.video import open_video, read_video

    with open_video(path) as video:
        frames = read_video(video, video.streams.video[0])
        for seconds, _, result in recognise_frames(frames, load_classifier(models), detector):
            yield float(seconds), [make_face(box, probabilities, expression, int(track_id))
                                   for track_id, box, probabilities, expression in zip(*result)]
