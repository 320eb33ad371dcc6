"""Log lines and the live line below them."""

import io

from polyglot_operator.local.screen import Screen


class Terminal(io.StringIO):
    """Text for a terminal."""

    def isatty(self) -> bool:
        return True


def test_without_a_terminal_every_line_is_plain() -> None:
    out = io.StringIO()
    screen = Screen(out)
    screen.show("a log line")
    screen.update("1 requests/s")
    screen.close()
    assert out.getvalue() == "a log line\n1 requests/s\n"


def test_at_a_terminal_the_live_line_stays_below_the_log() -> None:
    out = Terminal()
    screen = Screen(out)
    screen.update("1 requests/s")
    screen.show("a log line")
    screen.close()
    assert out.getvalue() == "\r\x1b[K1 requests/s\r\x1b[Ka log line\n1 requests/s\r\x1b[K"
