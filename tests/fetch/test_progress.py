import io

from morphobench.fetch.progress import Progress, readable


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_line_now_and_then_in_a_log():
    stream, now = io.StringIO(), [0.0]
    with Progress("HUVEC-01", 4_000_000, stream=stream, clock=lambda: now[0]) as progress:
        for _ in range(4):
            now[0] += 20
            progress.add(1_000_000)
    assert stream.getvalue().splitlines() == [
        "HUVEC-01: 2.0 MB of 4.0 MB (50%), 50.0 kB/s",
        "HUVEC-01: 4.0 MB of 4.0 MB (100%), 50.0 kB/s",
    ]


def test_unknown_total_and_what_is_thrown_away():
    stream, now = io.StringIO(), [0.0]
    progress = Progress("f", stream=stream, clock=lambda: now[0])
    progress.add(500)
    progress.add(-200)
    now[0] = 30
    progress.add(0)
    assert stream.getvalue() == "f: 300 bytes, 10 bytes/s\n"
    progress.expect(600)
    now[0] = 60
    progress.add(0)
    assert stream.getvalue().splitlines()[-1] == "f: 300 bytes of 600 bytes (50%), 5 bytes/s"


def test_a_bar_on_a_terminal():
    stream = Terminal()
    with Progress("HUVEC-01", stream=stream) as progress:
        progress.expect(2048)
        progress.add(2048)
    assert "HUVEC-01" in stream.getvalue()


def test_readable():
    assert [readable(n) for n in (0, 999, 1000, 49_039_640_485, 13e12)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "49.0 GB",
        "13.0 TB",
    ]
