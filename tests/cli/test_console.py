import io

import pytest

from rectest.cli.console import make_console, print_table, size_of


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 1024**2, "5.0 MiB"), (3 * 1024**4, "3072.0 GiB")],
)
def test_sizes(num_bytes, text):
    assert text == size_of(num_bytes)


def test_a_table_folds_instead_of_dropping_text():
    console = make_console()
    console.file = io.StringIO()
    console.width = 20
    print_table(console, ("name", "n"), [["a" * 30, "1"]], numbers=("n",))
    text = console.file.getvalue()

    assert text.count("a") == 30 + 1
    assert max(map(len, text.splitlines())) <= 20
