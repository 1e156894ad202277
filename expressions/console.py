"""How a script begins, reports and ends."""
import argparse
import contextlib
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path


class InputError(Exception):
    """Something the user can mend. Each argument is a sentence: what, where, what to do."""


def script_parser(documentation):
    """Return an argument parser whose --help is the script's docstring."""
    parser = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an unexpected error")
    return parser


def positive_int(text):
    """Return an argument as a whole number from 1 on."""
    if not text.isdecimal() or not 0 < int(text) < 2 ** 31:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 on")
    return int(text)


def run(main):
    """Call a script's `main` and end the process.

    The exit status is 0 when all went well, 2 when the user has to mend something (an InputError, a path, the disk),
    130 after Ctrl-C, SIGTERM or a closed terminal, and 1 for a fault of the program. Each ends with one sentence.
    """
    sys.stdin = sys.stdin or open(os.devnull)  # services may start a program with closed streams
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show must not stop the script
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)  # ends like Ctrl-C: nothing is lost
    status, sentences = 2, ()
    try:
        main()
        sys.stdout.flush()
        return
    except InputError as error:
        sentences = error.args
    except BrokenPipeError:  # the reader of standard output, `head` for example, has seen enough
        status = 0
    except KeyboardInterrupt as error:
        reason = error.args[0] if error.args else "files that were finished are whole, the others as they were before"
        status, sentences = 130, [f"interrupted: {reason}"]
    except ImportError as error:
        sentences = [f"{first_line(error)}: pip install -r requirements.txt"]
    except MemoryError:
        sentences = ["the memory is full: close other programs, or give less at once"]
    except OSError as error:
        sentences = [f"{error.filename or 'standard output'}: {first_line(error)}: check the path and the disk"]
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        status, sentences = 1, [f"this is a fault of the program: {type(error).__name__}: {first_line(error)}; "
                                "run it with --debug to see where"]
    text = "\n".join(map(printable, sentences))
    for stream, last in ((sys.stdout, ""), (sys.stderr, text and f"{Path(sys.argv[0]).name}: {text}\n")):
        with contextlib.suppress(OSError, ValueError):  # nobody reads it, or the disk is full
            stream.write(last)
            stream.flush()
    os._exit(status)  # at once: Python would complain of such streams, and threads still at work could crash


_CATCHING = threading.RLock()


@contextlib.contextmanager
def catch_library_messages():
    """Yield a list, in the end the lines that libraries wrote past sys.stderr to the terminal in the block.

    For one thread at a time; others wait.
    """
    lines = []
    with _CATCHING:
        try:
            kept = os.dup(2)
        except OSError:  # a service may have closed it
            yield lines
            return
        with tempfile.TemporaryFile("w+", errors="replace") as file:
            os.dup2(file.fileno(), 2)
            try:
                yield lines
            finally:
                os.dup2(kept, 2)
                os.close(kept)
                file.seek(0)
                lines += file.read().splitlines()


def print_status(sentence, quiet=False):
    """Print what a script does or did to standard error, so that standard output holds only results."""
    if not quiet:
        with _CATCHING:  # or the sentence would be lost in what another thread catches
            print(printable(sentence), file=sys.stderr)


def printable(text):
    r"""Return the text with characters that a terminal obeys instead of showing written as \x1b and the like."""
    return "".join(letter if letter.isprintable() or letter in "\u200c\u200d"  # the joiners of scripts and emoji
                   else letter.encode("unicode_escape", "surrogatepass").decode() for letter in text)


def first_line(error):
    """Return the message of an exception in one line; an OSError's without its path."""
    message = getattr(error, "strerror", None) or str(error).strip()
    return (message.splitlines() or [type(error).__name__])[0][:200]


def pluralise(number, thing):
    """Return a number with its noun: "1 face", "2,000 faces"."""
    return f"{number:,} {thing}{'s' * (number != 1)}"
