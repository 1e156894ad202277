"""How a script begins, reports and ends."""
import argparse
import os
import signal
import sys
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
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:10]) == int(text)):
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 on")
    return int(text)


def run(main):
    """Call a script's `main` and end the process.

    The exit status is 0 when all went well, 2 when the user has to mend something (an InputError, a path, the disk),
    130 after Ctrl-C, SIGTERM or a closed terminal, and 1 for a fault of the program. Each ends with one sentence.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # services may start a program with closed streams
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show must not stop the script
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) == signal.SIG_DFL:
            signal.signal(getattr(signal, name), signal.default_int_handler)  # ends like Ctrl-C: nothing is lost
    try:
        main()
        sys.stdout.flush()
        status = 0
    except InputError as error:
        status = _print_error(*error.args)
    except BrokenPipeError:  # the reader of standard output, `head` for example, has seen enough
        status = 0
    except KeyboardInterrupt as error:
        reason = error.args[0] if error.args else "files that were finished are whole, the others as they were before"
        status = _print_error(f"interrupted: {reason}", status=130)
    except MemoryError:
        status = _print_error("the memory is full: close other programs, or give less at once")
    except OSError as error:
        reason = error.strerror or first_line(error)
        status = _print_error(f"{error.filename or 'standard output'}: {reason}: check the path and the disk")
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        status = _print_error(f"this is a fault of the program: {type(error).__name__}: {first_line(error)}; "
                              "run it with --debug to see where", status=1)
    _end(status)


def _print_error(*sentences, status=2):
    try:
        sys.stdout.flush()
        print(f"{Path(sys.argv[0]).name}: {printable(sentences[0])}", *map(printable, sentences[1:]), sep="\n",
              file=sys.stderr, flush=True)
    except OSError:
        pass  # nobody reads standard error
    return status


def _end(status):
    """End the process; what is left in the streams must not make Python complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if status == 130:
        os._exit(status)  # threads that Ctrl-C left at work could crash while Python ends
    sys.exit(status)


def print_status(sentence, quiet=False):
    """Print what a script does or did to standard error, so that standard output holds only results."""
    if not quiet:
        print(printable(sentence), file=sys.stderr)


def printable(text):
    r"""Return the text with characters that a terminal obeys instead of showing written as \x1b and the like."""
    return "".join(letter if letter.isprintable() or letter in "\u200c\u200d"  # the joiners of scripts and emoji
                   else letter.encode("unicode_escape", "surrogatepass").decode() for letter in text)


def first_line(error):
    """Return the message of an exception in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def pluralise(number, thing):
    """Return a number with its noun: "1 face", "2,000 faces"."""
    return f"{number:,} {thing}{'s' * (number != 1)}"
